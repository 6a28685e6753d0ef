//! Bytes on a connection, for what no HTTP client would do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longer than the engine's own patience with anybody.
const PATIENCE: Duration = Duration::from_secs(150);

/// A connection that takes little ahead of what is read from it.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(4 << 10)?;
    socket.connect(address).await.context("no connection")
}

/// A request with this body.
pub(super) fn post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The status of the answer to `bytes`; none when the server closes without one.
pub(super) async fn status(address: SocketAddr, bytes: &[u8]) -> Result<Option<u16>> {
    let mut connection = connect(address).await?;
    let (mut reader, mut writer) = connection.split();
    let mut answer = Vec::new();
    let exchange = async {
        // The server may answer, and close, before it has read all.
        let _ = writer.write_all(bytes).await;
        let mut chunk = [0; 1 << 10];
        while !answer.windows(2).any(|end| end == b"\r\n") {
            match reader.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => answer.extend_from_slice(&chunk[..read]),
            }
        }
    };
    timeout(PATIENCE, exchange).await.context("no answer")?;
    if answer.is_empty() {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&answer);
    match line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()) {
        Some(status) => Ok(Some(status)),
        None => bail!("not an answer: {line}"),
    }
}
