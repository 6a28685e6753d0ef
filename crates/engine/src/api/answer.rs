//! Events of the engine thread in, the answer to a request out: whole, or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::watch;
use tokio::time::timeout;

use super::error::ApiError;
use crate::generation::{Finish, GenerationRequest, Piece, Token};
use crate::http::reply::{self, Reply};
use crate::http::sse;
use crate::serving::{Event, Events, Failure, SubmitError};

/// A checked request: what to generate and how to send it.
pub(super) struct Plan<W> {
    pub(super) request: GenerationRequest,
    pub(super) wire: W,
    pub(super) stream: bool,
}

/// How one protocol writes answers. What is written to `out` is sent at once.
pub(super) trait Wire: Send + 'static {
    /// The beginning of a stream.
    fn begin(&mut self, _out: &mut Vec<u8>) {}
    /// A token of the prompt, if the request asked for them. All come before the first piece.
    fn prompt(&mut self, _token: Token) {}
    /// More text in a stream.
    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>);
    /// The end of a stream.
    fn finish(&mut self, finish: Finish, out: &mut Vec<u8>);
    /// The end of a stream whose answer does not come to its end.
    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        sse::event(&error.body(), out);
    }
    /// The answer in one, as JSON.
    fn whole(self, answer: Answer) -> Vec<u8>;
}

/// Everything that was generated for a request.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    pub(super) finish: Finish,
}

/// What is told about one request: by the engine thread, until the server ends what goes on. It ends here then, whatever the thread
/// does: a step may take longer than there is time for a last word.
pub(super) struct News {
    pub(super) events: Events,
    /// True from then on.
    pub(super) stopping: watch::Receiver<bool>,
}

impl News {
    async fn next(&mut self) -> Option<Event> {
        let stopped = async {
            // Whoever could say so may be gone, which is the same.
            let _ = self.stopping.wait_for(|stopping| *stopping).await;
        };
        tokio::select! {
            // What was computed before is told before.
            biased;
            event = self.events.recv() => event,
            () = stopped => Some(Event::Failed(Failure::Stopping)),
        }
    }
}

/// Waits for the whole answer. If the client leaves, the connection drops this future.
pub(super) async fn whole<W: Wire>(mut wire: W, mut news: News) -> Result<Reply, ApiError> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match news.next().await {
            Some(Event::Prompt(token)) => wire.prompt(token),
            Some(Event::Piece(piece)) => {
                text.push_str(&piece.text);
                tokens.extend(piece.tokens);
            }
            Some(Event::Finish(finish)) => {
                return Ok(reply::json_bytes(wire.whole(Answer { text, tokens, finish })));
            }
            Some(Event::Failed(failure)) => return Err(failure.into()),
            None => return Err(gone()),
        }
    }
}

/// Sends the answer as it is generated. After `ping` of silence a comment is sent, since writing is the only way to notice a
/// client that vanished without a word.
pub(super) fn stream<W: Wire>(mut wire: W, news: News, ping: Duration) -> Reply {
    let mut begin = Vec::new();
    wire.begin(&mut begin);
    let begin = (!begin.is_empty()).then(|| Bytes::from(begin));
    let rest = stream::unfold(Some((wire, news)), move |state| async move {
        let (mut wire, mut news) = state?;
        let mut out = Vec::new();
        loop {
            match timeout(ping, news.next()).await {
                Err(_) => sse::comment("still working", &mut out),
                Ok(Some(Event::Prompt(token))) => {
                    wire.prompt(token);
                    continue;
                }
                Ok(Some(Event::Piece(piece))) => wire.piece(piece, &mut out),
                Ok(last) => {
                    match last {
                        Some(Event::Finish(finish)) => wire.finish(finish, &mut out),
                        Some(Event::Failed(failure)) => W::fail(&failure.into(), &mut out),
                        _ => W::fail(&gone(), &mut out),
                    }
                    return Some((Bytes::from(out), None));
                }
            }
            return Some((Bytes::from(out), Some((wire, news))));
        }
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

/// The thread closed the channel without a last word.
fn gone() -> ApiError {
    SubmitError::Stopped.into()
}
