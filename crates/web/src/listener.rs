//! The sockets that an address means: for `[::]` one for all IPv4 addresses and one for all IPv6 addresses, so that a port that is
//! taken on one of the two is an error and not a half that never answers.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::select_all;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often another free port is tried, when the first one is free for IPv4 only.
const FREE_PORTS: usize = 16;
/// What Linux says when it was built or started without IPv6.
const NO_SUCH_FAMILY: i32 = 97;

/// Open ports.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Opens the port; an error says what to do about it. Port 0 is any free one, and where there is no IPv6 `[::]` is IPv4 alone.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let mut tries = if address.port() == 0 { FREE_PORTS } else { 1 };
        loop {
            tries -= 1;
            match open(address) {
                Err((_, error)) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
                Err((address, error)) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot listen on {address} (another address: --listen IP:PORT, or PORT in the environment)"
                        )
                    });
                }
                Ok(sockets) => return Ok(Self { sockets }),
            }
        }
    }

    /// Where it listens; the same port everywhere.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(TcpListener::local_addr).collect()
    }

    /// The next connection.
    pub async fn accept(&self) -> TcpStream {
        loop {
            let accepts = self.sockets.iter().map(|socket| Box::pin(socket.accept()));
            match select_all(accepts).await.0 {
                Ok((stream, _)) => {
                    // Small events must leave at once. Failing to say so costs latency only.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => {
                    // Out of file descriptors, usually; some will be free again in a moment.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A socket for each family, or the address that cannot be had.
fn open(address: SocketAddr) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let listen_on = |address| listen(address).map_err(|error| (address, error));
    if address.is_ipv4() || !address.ip().is_unspecified() {
        return Ok(vec![listen_on(address)?]);
    }
    let old = listen_on(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))?;
    let port = old.local_addr().map_err(|error| (address, error))?.port();
    match listen_on(SocketAddr::new(address.ip(), port)) {
        Ok(new) => Ok(vec![old, new]),
        Err((_, error)) if error.raw_os_error() == Some(NO_SUCH_FAMILY) => {
            tracing::info!("this machine has no IPv6: listening on IPv4 alone");
            Ok(vec![old])
        }
        Err(failure) => Err(failure),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A port of a server that has just ended is free, as far as this one is concerned.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = Listener::bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.addresses().unwrap()[0].port();
        for ip in ["127.0.0.1", "::1"] {
            let client = TcpStream::connect((ip, port));
            let (client, _) = tokio::join!(client, listener.accept());
            client.unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_on_one_family_is_an_error_that_names_it() {
        for taken in ["0.0.0.0:0", "[::1]:0"] {
            let other = Listener::bind(taken.parse().unwrap()).unwrap();
            let port = other.addresses().unwrap()[0].port();
            let error = Listener::bind(SocketAddr::new("::".parse().unwrap(), port)).unwrap_err();
            let wildcard = if taken.starts_with('[') { "[::]" } else { "0.0.0.0" };
            let error = format!("{error:#}");
            assert!(error.contains(&format!("{wildcard}:{port}")) && error.contains("in use"), "{error}");
        }
    }
}
