//! Events of the worker in, the answer to a request out: whole, or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::error::ApiError;
use crate::http::reply::{self, Reply};
use crate::worker::{Event, Events, Finish, Generation, Piece, Token};

/// A checked request: what to generate and how to send it.
pub(super) struct Plan<F> {
    pub(super) generation: Generation,
    pub(super) format: F,
    pub(super) stream: bool,
}

/// How one API writes answers.
pub(super) trait Format: Send + 'static {
    /// Whether a stream ends with `data: [DONE]`.
    const DONE: bool;
    /// What a stream begins with.
    fn begin(&mut self) -> Option<Value>;
    /// The chunk for more text.
    fn piece(&mut self, piece: Piece) -> Value;
    /// The last chunks of a stream.
    fn finish(&mut self, finish: Finish) -> Vec<Value>;
    /// A token of the prompt, if the request asked for them. All come before the first piece.
    fn prompt(&mut self, _: Token) {}
    /// The answer in one.
    fn whole(self, answer: Answer) -> Value;
}

/// Everything that was generated for a request.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    pub(super) finish: Finish,
}

/// Waits for the whole answer. If the client leaves, the connection drops this future.
pub(super) async fn whole<F: Format>(mut format: F, mut events: Events) -> Result<Reply, ApiError> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match events.recv().await {
            Some(Event::Prompt(token)) => format.prompt(token),
            Some(Event::Piece(piece)) => {
                text.push_str(&piece.text);
                tokens.extend(piece.tokens);
            }
            Some(Event::Finish(finish)) => {
                let answer = Answer { text, tokens, finish };
                return Ok(reply::json(StatusCode::OK, &format.whole(answer)));
            }
            Some(Event::Failed(reason)) => return Err(ApiError::Failed(reason)),
            None => return Err(gone()),
        }
    }
}

/// Sends the answer as it is generated. After `ping` of silence a comment is sent, since writing
/// is the only way to notice a client that vanished without a word.
pub(super) fn stream<F: Format>(mut format: F, events: Events, ping: Duration) -> Reply {
    let begin = format.begin().as_ref().map(data);
    let state = Some((format, events));
    let rest = stream::unfold(state, move |state| async move {
        let (mut format, mut events) = state?;
        let bytes = loop {
            match timeout(ping, events.recv()).await {
                Err(_) => break Bytes::from_static(b": still working\n\n"),
                Ok(Some(Event::Prompt(token))) => format.prompt(token),
                Ok(Some(Event::Piece(piece))) => break data(&format.piece(piece)),
                Ok(Some(Event::Finish(finish))) => return Some((last(&mut format, finish), None)),
                Ok(Some(Event::Failed(reason))) => {
                    return Some((data(&ApiError::Failed(reason).to_json()), None));
                }
                Ok(None) => return Some((data(&gone().to_json()), None)),
            }
        };
        Some((bytes, Some((format, events))))
    });
    let frames = stream::iter(begin).chain(rest).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx and those that copied it would collect the events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

fn last<F: Format>(format: &mut F, finish: Finish) -> Bytes {
    let mut bytes: Vec<u8> = format.finish(finish).iter().flat_map(data).collect();
    if F::DONE {
        bytes.extend_from_slice(b"data: [DONE]\n\n");
    }
    bytes.into()
}

/// One event. JSON has no line breaks outside of strings, and none inside them.
fn data(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// The worker closed the channel without a last word.
fn gone() -> ApiError {
    crate::worker::SubmitError::Stopped.into()
}
