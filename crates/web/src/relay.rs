//! Deltas → the events that a browser receives as the answer to `POST /chat` (`text/event-stream`).
//!
//! | event    | data                                                                    | when                              |
//! |----------|-------------------------------------------------------------------------|-----------------------------------|
//! | `status` | `{"state": "unreachable", "loading", "stopping" or "ready"}`            | the engine is waited for; is back |
//! | `delta`  | `{"text": …}`                                                           | a piece of the answer, in order   |
//! | `done`   | `{"finish_reason": …, "usage": {"prompt_tokens", "completion_tokens"}}` | complete; both may be null        |
//! | `error`  | `{"error": {"code", "message", …}}`                                     | it failed, see [`Problem`]        |
//!
//! Every stream ends with exactly one `done` or `error`; one that ends otherwise was cut on the way. When the first
//! event would be an `error`, it is an HTTP status with the same JSON instead. Comment lines keep idle proxies patient.
//!
//! There is no task behind the stream: it advances when the connection to the browser asks for more, and dropping it
//! drops the request to the engine.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use hyper::body::Frame;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::conversation::Conversation;
use crate::engine_client::{Delta, EngineClient, EngineError, Readiness, Usage};
use crate::problem::Problem;

/// Time after which the response starts although the engine has not spoken: enough for it to refuse with a status.
const FIRST_EVENT: Duration = Duration::from_secs(2);
/// Silence after which a comment line is sent. Front ends cut idle connections, some after 30 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pause before the engine is asked a second time; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Starts the answer to `conversation`: the frames of an event stream, or the problem when it is known at once.
/// An engine that is not there or not ready is asked again for as long as `patience`, and while it downloads its model.
pub async fn answer(
    engine: EngineClient,
    conversation: Conversation,
    patience: Duration,
) -> Result<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send, Problem> {
    let relay = Relay {
        engine,
        conversation,
        deadline: Instant::now() + patience,
        pause: FIRST_PAUSE,
        waiting: false,
        finish_reason: None,
        usage: None,
        step: Step::Ask,
    };
    let events = stream::unfold(relay, async |mut relay| Some((relay.next().await?, relay)));
    let mut events = events.boxed().fuse();
    let first = match timeout(FIRST_EVENT, events.next()).await {
        Ok(Some(Event::Error(problem))) => return Err(problem),
        Ok(first) => first,
        Err(_) => None,
    };
    let events = stream::iter(first).chain(events).boxed();
    Ok(stream::unfold(events, async |mut events| {
        let bytes = match timeout(KEEP_ALIVE, events.next()).await {
            Ok(event) => event?.to_bytes(),
            Err(_) => Bytes::from_static(b": still here\n"),
        };
        Some((Ok(Frame::data(bytes)), events))
    }))
}

/// What the browser is told; the module's table is the wire format.
#[derive(Debug)]
enum Event {
    Status(Readiness),
    Delta(String),
    Done { finish_reason: Option<String>, usage: Option<Usage> },
    Error(Problem),
}

impl Event {
    fn to_bytes(&self) -> Bytes {
        let (name, data) = match self {
            Self::Status(state) => ("status", json!({"state": state})),
            Self::Delta(text) => ("delta", json!({"text": text})),
            Self::Done { finish_reason, usage } => {
                ("done", json!({"finish_reason": finish_reason, "usage": usage}))
            }
            Self::Error(problem) => ("error", problem.to_json()),
        };
        // JSON text has no line breaks, so one `data` line holds it.
        format!("event: {name}\ndata: {data}\n\n").into()
    }
}

/// One answer on its way.
struct Relay {
    engine: EngineClient,
    conversation: Conversation,
    deadline: Instant,
    pause: Duration,
    /// The browser has been told to wait.
    waiting: bool,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    step: Step,
}

enum Step {
    Ask,
    Pause,
    Read(BoxStream<'static, Result<Delta, EngineError>>),
    End,
}

impl Relay {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match &mut self.step {
                Step::Ask => match self.engine.chat(&self.conversation).await {
                    Ok(answer) => {
                        self.step = Step::Read(answer.boxed());
                        if self.waiting {
                            return Some(Event::Status(Readiness::Ready));
                        }
                    }
                    Err(error) => return Some(self.wait_or_fail(error).await),
                },
                Step::Pause => {
                    sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    self.step = Step::Ask;
                }
                Step::Read(answer) => match answer.next().await {
                    Some(Ok(delta)) => {
                        self.finish_reason = delta.finish_reason.or(self.finish_reason.take());
                        self.usage = delta.usage.or(self.usage);
                        if !delta.text.is_empty() {
                            return Some(Event::Delta(delta.text));
                        }
                    }
                    Some(Err(error)) => return Some(self.fail(error)),
                    None => {
                        self.step = Step::End;
                        let finish_reason = self.finish_reason.take();
                        return Some(Event::Done { finish_reason, usage: self.usage });
                    }
                },
                Step::End => return None,
            }
        }
    }

    async fn wait_or_fail(&mut self, error: EngineError) -> Event {
        let state = match &error {
            EngineError::Unreachable(_) => Readiness::Unreachable,
            EngineError::Loading => Readiness::Loading,
            // One that starts in its place is found at the same address.
            EngineError::Stopping { .. } => Readiness::Stopping,
            _ => return self.fail(error),
        };
        if Instant::now() + self.pause > self.deadline && self.engine.health().await.download.is_none() {
            return self.fail(error);
        }
        self.step = Step::Pause;
        self.waiting = true;
        Event::Status(state)
    }

    fn fail(&mut self, error: EngineError) -> Event {
        tracing::warn!(cause = error.source(), "{error}");
        self.step = Step::End;
        Event::Error(error.into())
    }
}
