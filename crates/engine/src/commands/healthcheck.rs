//! `healthcheck`: asks the server on the configured port whether it is ready, or whether it lives. For containers,
//! whose images have no curl.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bitnet_engine::config::Config;

use super::output::Output;

/// For all of it, however slowly names are resolved and bytes arrive.
const TIME: Duration = Duration::from_secs(3);
/// So that a second address has its turn.
const TIME_TO_CONNECT: Duration = Duration::from_secs(1);

/// Success if the server is ready, or with `live` if it would not help to start it again; otherwise says why not.
pub(crate) fn run(config: &Config, live: bool) -> Result<ExitCode> {
    let path = if live { "/livez" } else { "/readyz" };
    let (host, port) = (config.host.clone(), config.port);
    let (sender, answer) = mpsc::channel();
    // Ends with the process, if not before.
    thread::spawn(move || sender.send(ask(&host, port, path)));
    let answer = answer.recv_timeout(TIME);
    let answer = answer.unwrap_or_else(|_| Err(anyhow!("nothing whole within {} s", TIME.as_secs())));
    let line = answer.with_context(|| format!("no answer from {}:{}", config.host, config.port))?;
    writeln!(Output::new(), "{}", line.escape_debug())?;
    Ok(if is_good(&line) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first line of the answer, from the first of the configured addresses that answers.
fn ask(host: &str, port: u16, path: &str) -> Result<String> {
    let mut problem = anyhow!("no address");
    for address in (host, port).to_socket_addrs()? {
        match ask_at(reachable(address), path) {
            Ok(line) => return Ok(line),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn ask_at(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_TO_CONNECT)?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut line = String::new();
    BufReader::new(stream.take(4096)).read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "it ends in the middle of a line");
    Ok(line.trim_end().to_owned())
}

/// Whether this is the first line of a good answer.
fn is_good(line: &str) -> bool {
    let mut words = line.split(' ');
    matches!(words.next(), Some("HTTP/1.0" | "HTTP/1.1")) && words.next() == Some("200")
}

/// "Any address" is good for listening only; IPv4 is always among them.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}
