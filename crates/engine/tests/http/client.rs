//! A client that shows everything that comes over the wire.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A whole response.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request over a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let response = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    timeout(Duration::from_secs(120), response).await.expect("an answer")
}

pub(crate) fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost");
    builder.body(Full::new(body.into())).unwrap()
}

pub(crate) async fn whole(response: Response<Incoming>) -> Reply {
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
    Reply { status: head.status, headers: head.headers, text }
}

/// Server-sent events as they arrive. Dropping them closes the connection.
pub(crate) struct Events {
    body: Incoming,
    buffer: BytesMut,
    /// Comments so far.
    pub(crate) comments: usize,
}

impl Events {
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        Self { body: response.into_body(), buffer: BytesMut::new(), comments: 0 }
    }

    /// The next event without its blank line and the comments before it; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block = String::from_utf8(self.buffer.split_to(end + 2)[..end].to_vec()).unwrap();
                let (comments, lines): (Vec<_>, Vec<_>) =
                    block.lines().partition(|line| line.starts_with(": "));
                self.comments += comments.len();
                // A decoder that takes every block for an event finds data in each.
                assert!(lines.iter().any(|line| line.starts_with("data: ")), "{block:?}");
                return Some(lines.join("\n"));
            }
            let frame = timeout(Duration::from_secs(60), self.body.frame()).await.unwrap()?;
            self.buffer.extend_from_slice(&frame.ok()?.into_data().unwrap());
        }
    }

    /// All that is left: the JSON of each event, and whether `[DONE]` came last.
    pub(crate) async fn rest(mut self) -> (Vec<Value>, bool) {
        let (mut chunks, mut done) = (Vec::new(), false);
        while let Some(event) = self.next().await {
            assert!(!done, "{event} after [DONE]");
            match event.strip_prefix("data: ").unwrap() {
                "[DONE]" => done = true,
                json => chunks.push(serde_json::from_str(json).unwrap()),
            }
        }
        (chunks, done)
    }
}
