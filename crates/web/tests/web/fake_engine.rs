//! An engine that answers as it is told and reports when a connection is dropped.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How the next `POST /v1/chat/completions` is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// With a status, headers and a JSON body.
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    /// With an event stream.
    Stream(Vec<Step>),
    /// Not at all: the request is read and nothing comes back.
    Nothing,
}

#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Keep the connection open and say nothing more.
    Hang,
    /// Break the connection.
    Break,
}

/// One chunk with this text.
pub(crate) fn text(text: &str) -> Step {
    chunk(&serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// The chunk that carries the reason, the one with the counts, and the end.
pub(crate) fn end(finish_reason: &str) -> Step {
    let finish = serde_json::json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]});
    let usage = serde_json::json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
    Step::Send(format!("data: {finish}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into_bytes())
}

pub(crate) fn chunk(json: &Value) -> Step {
    Step::Send(format!("data: {json}\n\n").into_bytes())
}

pub(crate) struct FakeEngine {
    pub(crate) address: SocketAddr,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: mpsc::UnboundedReceiver<(HeaderMap, Value)>,
    dropped: mpsc::UnboundedReceiver<()>,
    _task: JoinSet<()>,
}

impl FakeEngine {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), replies).await
    }

    pub(crate) async fn start_at(address: SocketAddr, replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let replies = Arc::new(Mutex::new(replies.into_iter().collect()));
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (drop_sender, dropped) = mpsc::unbounded_channel();
        let engine = Engine { replies: replies.clone(), requests: request_sender, dropped: drop_sender };
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Dropped together with this task, so that a stopped engine leaves no connection behind.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let engine = engine.clone();
                let service = service_fn(move |request| {
                    let engine = engine.clone();
                    async move { Ok::<_, Infallible>(engine.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { address, replies, requests, dropped, _task: task }
    }

    /// The body of the next chat request.
    pub(crate) async fn request(&mut self) -> Value {
        self.request_with_headers().await.1
    }

    /// The headers and the body of the next chat request.
    pub(crate) async fn request_with_headers(&mut self) -> (HeaderMap, Value) {
        in_time(self.requests.recv()).await.unwrap()
    }

    /// Waits until a request is given up by the other side.
    pub(crate) async fn cancelled(&mut self) {
        in_time(self.dropped.recv()).await.unwrap();
    }

    /// How many replies of the script are left.
    pub(crate) fn left(&self) -> usize {
        self.replies.lock().unwrap().len()
    }
}

/// Waits for something that should happen promptly.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it should have happened by now")
}

#[derive(Clone)]
struct Engine {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: mpsc::UnboundedSender<(HeaderMap, Value)>,
    dropped: mpsc::UnboundedSender<()>,
}

/// Reports when it is dropped before it was disarmed.
struct Watch(Option<mpsc::UnboundedSender<()>>);

impl Watch {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Engine {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/chat/completions") => {}
            (&Method::GET, "/health") => {
                return match self.replies.lock().unwrap().front() {
                    Some(Reply::Status(503, ..)) => json(503, r#"{"error":{"message":"Loading model"}}"#),
                    _ => json(200, r#"{"status":"ok"}"#),
                };
            }
            _ => return json(404, "{}"),
        }
        let mut watch = Watch(Some(self.dropped.clone()));
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let _ = self.requests.send((head.headers, serde_json::from_slice(&body).unwrap()));
        let reply = self.replies.lock().unwrap().pop_front().expect("a scripted reply");
        match reply {
            Reply::Nothing => std::future::pending().await,
            Reply::Status(status, headers, body) => {
                watch.disarm();
                let mut response = json(status, body);
                for (name, value) in headers {
                    response.headers_mut().insert(*name, value.parse().unwrap());
                }
                response
            }
            Reply::Stream(steps) => {
                let frames = stream::unfold((steps.into_iter(), watch), |(mut steps, mut watch)| async {
                    let frame = loop {
                        match steps.next() {
                            Some(Step::Send(bytes)) => break Ok(Frame::data(Bytes::from(bytes))),
                            Some(Step::Wait(time)) => tokio::time::sleep(time).await,
                            Some(Step::Hang) => std::future::pending().await,
                            Some(Step::Break) => break Err(std::io::Error::other("broken on purpose")),
                            None => {
                                watch.disarm();
                                return None;
                            }
                        }
                    };
                    Some((frame, (steps, watch)))
                });
                let mut response = Response::new(StreamBody::new(frames.boxed()).boxed_unsync());
                response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
                response
            }
        }
    }
}

fn json(status: u16, body: &'static str) -> Response<Body> {
    let body = Full::from(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
