//! One socket for each address, IPv4 and IPv6 apart, so that a port that is taken on one of the two is an error and not a half that
//! never answers. The engine has the same rules in a file of the same name.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
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

/// Sockets of both families, on the same port.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Opens the port on all of `addresses`; an error says what to do about it. Port 0 is any free one. IPv6 is left out where this
    /// machine does not have it, as long as another address is there.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self> {
        let any = addresses.iter().all(|address| address.port() == 0);
        let mut tries = if any { FREE_PORTS } else { 1 };
        let sockets = loop {
            tries -= 1;
            match open(addresses) {
                Err((_, error)) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
                Err((address, error)) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot listen on {address} (another address: --listen IP:PORT, or PORT in the environment)"
                        )
                    });
                }
                Ok(sockets) => break sockets,
            }
        };
        if sockets.len() < addresses.len() {
            tracing::info!("this machine has no IPv6: listening on IPv4 alone");
        }
        Ok(Self { sockets })
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

/// A socket for each address, or the address that cannot be had.
fn open(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut sockets: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for &(mut address) in addresses {
        if address.port() == 0
            && let Some(first) = sockets.first()
        {
            address.set_port(first.local_addr().map_err(|error| (address, error))?.port());
        }
        match listen(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if address.is_ipv6() && is_missing(&error) => missing = Some((address, error)),
            Err(error) => return Err((address, error)),
        }
    }
    match missing {
        Some(failure) if sockets.is_empty() => Err(failure),
        _ => Ok(sockets),
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

/// Whether the kernel has no addresses of this family.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(port: u16) -> [SocketAddr; 2] {
        ["0.0.0.0", "::"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = Listener::bind(&all(0)).unwrap();
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
            let other = Listener::bind(&[taken.parse().unwrap()]).unwrap();
            let port = other.addresses().unwrap()[0].port();
            let error = Listener::bind(&all(port)).unwrap_err();
            let wildcard = if taken.starts_with('[') { "[::]" } else { "0.0.0.0" };
            let error = format!("{error:#}");
            assert!(error.contains(&format!("{wildcard}:{port}")) && error.contains("in use"), "{error}");
        }
    }
}
