//! Bytes as they go over the wire, for what no proper client would send.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::Reply;
use super::server::Server;

/// A connection. Dropping it closes it.
pub(crate) struct Raw(pub TcpStream);

impl Raw {
    pub(crate) async fn open(server: &Server) -> Self {
        Self(TcpStream::connect(server.address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes until the server closes.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = timeout(Duration::from_secs(60), self.0.read_to_end(&mut bytes)).await;
        read.expect("the server closes").expect("it closes in order");
        bytes
    }

    /// The one answer until the server closes.
    pub(crate) async fn answer(self) -> Reply {
        let text = String::from_utf8(self.rest().await).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap()["HTTP/1.1 ".len()..][..3].parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Reply { status, headers, text: body.to_owned() }
    }
}

/// Sends all of it and returns the one answer; `connection: close` is up to the caller.
pub(crate) async fn ask(server: &Server, bytes: impl AsRef<[u8]>) -> Reply {
    let mut raw = Raw::open(server).await;
    raw.send(bytes).await;
    raw.answer().await
}
