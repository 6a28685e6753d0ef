//! A hub on loopback that does to each connection what it is told, and keeps what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to one connection after its request has come; then it is closed.
#[derive(Clone)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    stall: bool,
}

impl Reply {
    pub(super) fn new(status: &str, headers: &[(&str, String)], body: &[u8]) -> Self {
        let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{}\r\n", headers.concat());
        Self { bytes: [head.as_bytes(), body].concat(), stall: false }
    }

    pub(super) fn redirect(location: &str, headers: &[(&str, String)]) -> Self {
        let all =
            [headers, &[("location", location.to_owned()), ("content-length", "0".to_owned())]].concat();
        Self::new("302 Found", &all, b"")
    }

    /// Without its last bytes.
    pub(super) fn cut(mut self, bytes: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - bytes);
        self
    }

    /// The connection stays open afterwards, and nothing more comes.
    pub(super) fn stalling(mut self) -> Self {
        self.stall = true;
        self
    }
}

pub(super) struct FakeHub {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl FakeHub {
    /// Answers one connection after the other with these; further ones are closed at once.
    pub(super) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut replies: VecDeque<_> = replies.into_iter().collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, replies.pop_front(), Arc::clone(&seen)));
            }
        });
        Self { address, requests, _task: task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far, in lower case.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, reply: Option<Reply>, requests: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    requests.lock().unwrap().push(String::from_utf8(head).unwrap().to_lowercase());
    let Some(reply) = reply else { return };
    // The client may have left already.
    stream.write_all(&reply.bytes).await.ok();
    if reply.stall {
        std::future::pending::<()>().await;
    }
}
