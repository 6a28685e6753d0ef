//! The sockets that a host name means: one for each address, IPv4 and IPv6 apart, so that a port that is taken on one of the
//! two is an error and not a half that never answers. The page's server has the same rules in a file of the same name.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::future::select_all;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tracing::{info, warn};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often another free port is tried, when the first one is free for one address only.
const FREE_PORTS: usize = 16;

/// Sockets of all addresses of a host, on the same port.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Opens the port on all addresses that `host` means; port 0 is any free one. A family of addresses that this machine does
    /// not have is left out as long as another one is there.
    pub async fn bind(host: &str, port: u16) -> Result<Self> {
        let addresses = addresses(host, port).await?;
        let mut tries = if port == 0 { FREE_PORTS } else { 1 };
        let sockets = loop {
            tries -= 1;
            match open(&addresses) {
                Err((_, error)) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
                Err((address, error)) => return Err(refusal(address, error)),
                Ok(sockets) => break sockets,
            }
        };
        if sockets.len() < addresses.len() {
            info!("this machine has no IPv6: listening on IPv4 alone");
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
                    // Tokens are small and should leave at once.
                    stream.set_nodelay(true).ok();
                    return stream;
                }
                Err(error) => {
                    // Out of file descriptors, or the client is gone already: neither lasts.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// The addresses that a name means, none twice, IPv4 first.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let ips = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => vec![Ipv4Addr::UNSPECIFIED.into(), ip.into()],
        Ok(ip) => vec![ip],
        // Whatever the hosts file says of it: some clients ask at one of the two, some at the other.
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Err(_) => {
            let found = lookup_host((host, port)).await;
            let found = found.map_err(|error| anyhow!("cannot listen on {host}: {error}"))?;
            let mut ips: Vec<_> = found.map(|address| address.ip()).collect();
            ips.sort();
            ips.dedup();
            ips
        }
    };
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
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
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn refusal(address: SocketAddr, error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "cannot listen on {address}: the port is in use there. Ollama uses the same one by default: stop it, or choose another \
             port with --port"
        ),
        _ => anyhow!(error).context(format!("cannot listen on {address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(host: &str, expected: &[&str]) {
        let listener = Listener::bind(host, 0).await.unwrap();
        let addresses = listener.addresses().unwrap();
        let port = addresses[0].port();
        let expected: Vec<SocketAddr> =
            expected.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect();
        assert_eq!(addresses, expected, "{host}");
        for mut address in addresses {
            if address.ip().is_unspecified() {
                address.set_ip(if address.is_ipv4() {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                });
            }
            let (client, _) = tokio::join!(TcpStream::connect(address), listener.accept());
            client.unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_means_each_of_its_addresses() {
        check("localhost", &["127.0.0.1", "::1"]).await;
        check("::", &["0.0.0.0", "::"]).await;
        check("0.0.0.0", &["0.0.0.0"]).await;
        check("::1", &["::1"]).await;
    }

    #[tokio::test]
    async fn a_port_that_is_taken_on_one_family_is_an_error_that_names_it() {
        for taken in ["127.0.0.1", "::1"] {
            let other = Listener::bind(taken, 0).await.unwrap();
            let address = other.addresses().unwrap()[0];
            let error = Listener::bind("localhost", address.port()).await.unwrap_err().to_string();
            assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_address_of_this_machine_is_an_error_that_names_it() {
        for host in ["192.0.2.1", "2001:db8::1", "no-such-host.invalid"] {
            let error = Listener::bind(host, 0).await.unwrap_err();
            assert!(format!("{error:#}").contains(host), "{error:#}");
        }
    }
}
