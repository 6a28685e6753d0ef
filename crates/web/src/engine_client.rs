//! The engine as this program sees it: a conversation goes out, [`Delta`]s or one [`EngineError`] come in.
//!
//! Dropping what is returned here closes the connection, and that is how the engine learns that nobody wants the rest.
//! Connections are not kept for reuse: on the way to a neighbour a new one costs microseconds, and a kept one could
//! belong to an engine that has restarted in the meantime.

use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt, stream};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::conversation::Conversation;
use crate::trace::Trace;

/// Longest answer, in bytes as it comes from the wire; also what one event of many lines can make us keep.
const MAX_ANSWER: usize = 32 << 20;
/// Longest line of it. The parser looks at an unfinished line again with every packet.
const MAX_LINE: usize = 256 << 10;
/// Longest error body that is read for its message.
const MAX_ERROR: usize = 64 << 10;
/// Longest list of models that is read for its notice, and longest report of health.
const MAX_REPORT: usize = 1 << 20;
/// A neighbour accepts at once or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a health probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks one engine. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct EngineClient {
    http: Client,
    base: Url,
    authorization: Option<HeaderValue>,
    model: Option<String>,
    /// Of the request for which it asks.
    trace: HeaderMap,
}

/// What one event of the engine adds to the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Text to append; often empty in the first and the last event.
    pub text: String,
    /// Why the answer ended: `stop`, `length`, …
    pub finish_reason: Option<String>,
    /// Token counts of the whole request.
    pub usage: Option<Usage>,
}

/// Token counts of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Usage {
    /// Tokens of the conversation so far.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// What the engine's health says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// A message would be answered now.
    Ready,
    /// It listens, and its model is on the way.
    Loading,
    /// It ends, and takes nothing new; another one may come in its place.
    Stopping,
    /// Nothing usable listens at its address.
    Unreachable,
}

/// How an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it can answer.
    pub readiness: Readiness,
    /// How far the download of its model is, while that is what it does.
    pub download: Option<Download>,
}

/// How far a download is. Servers of others do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Download {
    /// Bytes that are there.
    pub bytes: u64,
    /// Bytes of the whole.
    pub total: Option<u64>,
    /// Seconds until the rest is there.
    pub seconds_left: Option<u64>,
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing listens there, or the name does not resolve (yet).
    #[error("the engine cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The engine is up and cannot answer yet (503).
    #[error("the engine is loading its model")]
    Loading,
    /// The engine was told to stop (503 `draining`, or an event of that code).
    #[error("the engine is stopping")]
    Stopping {
        /// Seconds until another one may be there.
        retry_after: Option<u64>,
    },
    /// All slots and the queue are full (429), or too many ask at once (503 with a code that says so).
    #[error("the engine is busy with other conversations")]
    Busy {
        /// Seconds, as the engine computed them.
        retry_after: Option<u64>,
    },
    /// The conversation does not fit the model (400 `exceed_context_size_error`).
    #[error("the conversation has {prompt_tokens} tokens and the model can read {context_tokens}")]
    ContextExceeded {
        /// Tokens of the conversation.
        prompt_tokens: u64,
        /// Tokens that fit.
        context_tokens: u64,
    },
    /// Any other refusal or failure that the engine puts into words.
    #[error("the engine reports: {0}")]
    Reported(String),
    /// Nothing came for [`Config::engine_silence`].
    #[error("the engine was silent for too long")]
    Silent,
    /// The connection broke.
    #[error("the connection to the engine was lost")]
    Lost(#[source] reqwest::Error),
    /// The stream ended before `[DONE]`.
    #[error("the engine ended its answer early")]
    EndedEarly,
    /// The answer, or one line of it, passed the limit.
    #[error("the engine's answer is too long")]
    TooLong,
    /// Something else than the OpenAI wire format.
    #[error("the engine sent something that is not a chat completion")]
    Malformed,
}

impl EngineClient {
    /// A client for the engine that `config` names; does not connect yet.
    pub fn new(config: &Config) -> reqwest::Result<Self> {
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(config.engine_silence)
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            http,
            base: config.engine_url.clone(),
            authorization: config.engine_api_key.clone(),
            model: config.chat_model.clone(),
            trace: HeaderMap::new(),
        })
    }

    /// The same, where the engine learns which request it works for.
    #[must_use]
    pub fn within(&self, trace: &Trace) -> Self {
        Self { trace: trace.headers(), ..self.clone() }
    }

    /// Asks for the next turn. Returns when the engine has accepted or refused; the text follows in the stream, which
    /// ends after the engine's `[DONE]`, or with its first error.
    pub async fn chat(
        &self,
        conversation: &Conversation,
    ) -> Result<impl Stream<Item = Result<Delta, EngineError>> + Send + use<>, EngineError> {
        let mut body = json!({
            "messages": conversation,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(model) = &self.model {
            body["model"] = json!(model);
        }
        let mut request = self.http.post(self.route("v1/chat/completions")).json(&body);
        request = request.headers(self.trace.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(transport)?;
        if response.status().is_success() { Ok(deltas(response)) } else { Err(refusal(response).await) }
    }

    /// Asks the engine how it is.
    pub async fn health(&self) -> Health {
        let health = |readiness| Health { readiness, download: None };
        match self.http.get(self.route("health")).timeout(PROBE_TIMEOUT).send().await {
            Ok(response) if response.status().is_success() => health(Readiness::Ready),
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                let report = serde_json::from_slice(&limited(response, MAX_REPORT).await).ok();
                let download = report.and_then(|Report { progress }| progress);
                Health { download, ..health(Readiness::Loading) }
            }
            Ok(_) | Err(_) => health(Readiness::Unreachable),
        }
    }

    /// What people should know about the model before they rely on it: that it is only the engine's demo. Other servers say
    /// nothing of that kind, and neither does one that cannot be asked.
    pub async fn demo_notice(&self) -> Option<String> {
        let mut request = self.http.get(self.route("v1/models")).timeout(PROBE_TIMEOUT);
        if let Some(authorization) = &self.authorization {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        let body = limited(request.send().await.ok()?, MAX_REPORT).await;
        let Models { data } = serde_json::from_slice(&body).ok()?;
        data.into_iter().find_map(|model| model.meta?.demo_notice)
    }

    fn route(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}

fn deltas(response: Response) -> impl Stream<Item = Result<Delta, EngineError>> + Send {
    let (mut received, mut line) = (0, 0);
    let bytes = response.bytes_stream().map(move |chunk| -> Result<Bytes, EngineError> {
        let chunk = chunk.map_err(transport)?;
        received += chunk.len();
        line = match chunk.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => chunk.len() - end,
            None => line + chunk.len(),
        };
        if received > MAX_ANSWER || line > MAX_LINE { Err(EngineError::TooLong) } else { Ok(chunk) }
    });
    stream::unfold(Some(Box::pin(bytes.eventsource())), |events| async {
        let mut events = events?;
        let delta = match events.next().await {
            Some(Ok(event)) if event.data == "[DONE]" => return None,
            Some(Ok(event)) => delta(&event),
            Some(Err(EventStreamError::Transport(error))) => Err(error),
            Some(Err(_)) => Err(EngineError::Malformed),
            None => Err(EngineError::EndedEarly),
        };
        let rest = delta.is_ok().then_some(events);
        Some((delta, rest))
    })
}

/// One event of `/v1/chat/completions`: a chunk, or the error that ends the answer.
#[derive(Deserialize)]
struct WireEvent {
    #[serde(default)]
    choices: Vec<WireChoice>,
    usage: Option<Usage>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    delta: WireMessage,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct WireMessage {
    content: Option<String>,
}

/// `GET /health` before the model is there.
#[derive(Deserialize)]
struct Report {
    progress: Option<Download>,
}

/// `GET /v1/models`, as far as it matters here.
#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    demo_notice: Option<String>,
}

#[derive(Deserialize)]
struct WireError {
    message: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    n_prompt_tokens: Option<u64>,
    n_ctx: Option<u64>,
    /// A name, or while the engine loads a number.
    code: Option<Value>,
}

impl WireError {
    fn is(&self, name: &str) -> bool {
        self.code.as_ref().is_some_and(|code| code == name)
    }

    /// Whether others are asking, and the engine itself is fine.
    fn is_crowd(&self) -> bool {
        self.is("too_much_text") || self.is("too_many_connections")
    }
}

fn delta(event: &Event) -> Result<Delta, EngineError> {
    let event: WireEvent = serde_json::from_str(&event.data).map_err(|_| EngineError::Malformed)?;
    if let Some(error) = event.error {
        return Err(reported(error));
    }
    let mut delta = Delta { usage: event.usage, ..Delta::default() };
    // One answer was asked for, so there is one choice, or none in the event that carries the usage.
    if let Some(choice) = event.choices.into_iter().next() {
        delta.text = choice.delta.content.unwrap_or_default();
        delta.finish_reason = choice.finish_reason;
    }
    Ok(delta)
}

async fn refusal(response: Response) -> EngineError {
    #[derive(Deserialize)]
    struct Body {
        error: WireError,
    }
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    if status == StatusCode::TOO_MANY_REQUESTS {
        return EngineError::Busy { retry_after };
    }
    let body = serde_json::from_slice(&limited(response, MAX_ERROR).await);
    match (status, body) {
        (StatusCode::SERVICE_UNAVAILABLE, Ok(Body { error })) if error.is_crowd() => {
            EngineError::Busy { retry_after }
        }
        (StatusCode::SERVICE_UNAVAILABLE, Ok(Body { error })) if error.is("draining") => {
            EngineError::Stopping { retry_after }
        }
        (StatusCode::SERVICE_UNAVAILABLE, _) => EngineError::Loading,
        (_, Ok(Body { error })) => reported(error),
        (_, Err(_)) => EngineError::Reported(format!("status {status}")),
    }
}

/// What comes of a body, up to the piece that passes the limit.
async fn limited(response: Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            break;
        }
    }
    body
}

fn reported(error: WireError) -> EngineError {
    match (error.kind.as_deref(), error.n_prompt_tokens, error.n_ctx) {
        (Some("exceed_context_size_error"), Some(prompt_tokens), Some(context_tokens)) => {
            EngineError::ContextExceeded { prompt_tokens, context_tokens }
        }
        _ if error.is("draining") => EngineError::Stopping { retry_after: None },
        _ => EngineError::Reported(error.message),
    }
}

fn transport(error: reqwest::Error) -> EngineError {
    // A connection that is not established in time is a timeout too, so this order matters.
    if error.is_connect() {
        EngineError::Unreachable(error)
    } else if error.is_timeout() {
        EngineError::Silent
    } else {
        EngineError::Lost(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &str) -> Result<Delta, EngineError> {
        delta(&Event { data: data.to_owned(), ..Event::default() })
    }

    #[test]
    fn each_kind_of_chunk_becomes_a_delta() {
        let role =
            check(r#"{"choices":[{"delta":{"role":"assistant","content":null},"finish_reason":null}]}"#);
        assert_eq!(role.unwrap(), Delta::default());
        let text = check(r#"{"choices":[{"index":0,"delta":{"content":"Hi \ud83d\udc4b"}}]}"#).unwrap();
        assert_eq!(text.text, "Hi 👋");
        let last = check(r#"{"choices":[{"delta":{},"finish_reason":"length"}],"usage":null}"#).unwrap();
        assert_eq!(last.finish_reason.as_deref(), Some("length"));
        let usage =
            check(r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#);
        assert_eq!(usage.unwrap().usage, Some(Usage { prompt_tokens: 5, completion_tokens: 7 }));
    }

    #[test]
    fn an_error_event_is_an_error() {
        let error = check(r#"{"error":{"message":"out of slots","type":"server_error"}}"#).unwrap_err();
        assert_eq!(error.to_string(), "the engine reports: out of slots");
        let error = check(
            r#"{"error":{"message":"x","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
        );
        assert!(matches!(error, Err(EngineError::ContextExceeded { prompt_tokens: 9, context_tokens: 8 })));
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        for data in ["", "hello", "[]", r#"{"choices":3}"#, r#"{"choices":[{"delta":{"content":3}}]}"#] {
            assert!(matches!(check(data), Err(EngineError::Malformed)), "{data}");
        }
    }
}
