//! `healthcheck`: asks the server on the configured port whether it is ready. For containers,
//! whose images have no curl.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bitnet_engine::config::Config;

const TIME: Duration = Duration::from_secs(3);

/// Success if the server is ready; otherwise says why not.
pub(crate) fn run(config: &Config) -> Result<ExitCode> {
    let status = ask(config).with_context(|| format!("no answer from {}:{}", config.host, config.port))?;
    println!("{status}");
    Ok(if status.contains(" 200 ") { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first line of the answer, from the first of the configured addresses that answers.
fn ask(config: &Config) -> Result<String> {
    let mut problem = anyhow!("no address");
    for address in (config.host.as_str(), config.port).to_socket_addrs()? {
        match ask_at(reachable(address)) {
            Ok(line) => return Ok(line),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn ask_at(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// "Any address" is good for listening only; IPv4 is always among them.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}
