//! Everything that a request can be refused for, and the one place where that becomes a response.
//!
//! The body has OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::engine::PromptTooLong;
use crate::http::admission::NotDone;
use crate::http::refusal::Refusal;
use crate::http::reply::{self, Reply};
use crate::worker::SubmitError;

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(serde_json::Error),
    #[error("`{field}` must be {expected}, but it is {value}")]
    Invalid { field: String, expected: String, value: String },
    #[error("`{field}` is required")]
    Missing { field: String },
    #[error("`{field}` is not supported: {reason}")]
    Unsupported { field: String, reason: &'static str },
    #[error(transparent)]
    PromptTooLong(#[from] PromptTooLong),
    #[error("the chat template cannot render these messages: {0}")]
    Template(String),
    #[error(transparent)]
    Http(#[from] Refusal),
    #[error("there is nothing at {path}")]
    NotFound { path: String },
    #[error("there is no model named {name:?} here")]
    ModelNotFound { name: String },
    #[error("{path} takes {allowed}, not {method}")]
    MethodNotAllowed { path: String, method: Method, allowed: Method },
    /// The text that clients of llama-server look for.
    #[error("Loading model")]
    Loading,
    #[error(transparent)]
    Refused(#[from] SubmitError),
    #[error("the answer cannot be computed: {0}")]
    Failed(String),
}

impl ApiError {
    /// `value` is not what `field` may be.
    pub(super) fn invalid(field: impl Into<String>, expected: impl Into<String>, value: &Value) -> Self {
        const SHOWN: usize = 100;
        let whole = value.to_string();
        let mut value: String = whole.chars().take(SHOWN).collect();
        if value.len() < whole.len() {
            value.push('…');
        }
        Self::Invalid { field: field.into(), expected: expected.into(), value }
    }

    /// Status, type and code of each.
    fn row(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        const REQUEST: &str = "invalid_request_error";
        match self {
            Self::Http(refusal) => (refusal.status(), REQUEST, None),
            Self::MalformedJson(_) => (StatusCode::BAD_REQUEST, REQUEST, Some("invalid_json")),
            Self::Invalid { .. } | Self::Template(_) => {
                (StatusCode::BAD_REQUEST, REQUEST, Some("invalid_value"))
            }
            Self::Missing { .. } => (StatusCode::BAD_REQUEST, REQUEST, Some("missing_required_parameter")),
            Self::Unsupported { .. } => (StatusCode::BAD_REQUEST, REQUEST, Some("unsupported_parameter")),
            Self::PromptTooLong(_) => {
                (StatusCode::BAD_REQUEST, "exceed_context_size_error", Some("exceed_context_size_error"))
            }
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found_error", Some("not_found")),
            Self::ModelNotFound { .. } => (StatusCode::NOT_FOUND, REQUEST, Some("model_not_found")),
            Self::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, REQUEST, Some("method_not_allowed"))
            }
            Self::Loading => (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", None),
            Self::Refused(SubmitError::Overloaded { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"))
            }
            Self::Refused(SubmitError::Stopped) => {
                (StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("engine_stopped"))
            }
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("engine_failed")),
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } | Self::Missing { field } | Self::Unsupported { field, .. } => {
                Some(field)
            }
            Self::Template(_) => Some("messages"),
            Self::ModelNotFound { .. } => Some("model"),
            _ => None,
        }
    }

    /// The error as JSON: the body of a response, or an event in a stream that has begun.
    pub(super) fn to_json(&self) -> Value {
        if let Self::Http(refusal) = self {
            return refusal.to_json();
        }
        let (_, kind, code) = self.row();
        let mut error = json!({
            "message": self.to_string(),
            "type": kind,
            "param": self.param(),
            "code": code,
        });
        match self {
            Self::PromptTooLong(PromptTooLong { tokens, context }) => {
                error["n_prompt_tokens"] = json!(tokens);
                error["n_ctx"] = json!(context);
            }
            // As llama-server has it: its clients compare this number.
            Self::Loading => error["code"] = json!(503),
            _ => {}
        }
        json!({ "error": error })
    }

    /// The response.
    pub(super) fn into_reply(self) -> Reply {
        let body = self.to_json();
        self.into_reply_with(&body)
    }

    /// The response, with a body that says more than the error alone.
    pub(super) fn into_reply_with(self, body: &Value) -> Reply {
        let (status, ..) = self.row();
        let mut reply = reply::json(status, body);
        let headers = reply.headers_mut();
        match self {
            Self::Refused(SubmitError::Overloaded { retry_after, .. }) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs()));
            }
            Self::Http(refusal) => {
                if let Some(time) = refusal.retry_after() {
                    headers.insert(RETRY_AFTER, HeaderValue::from(time.as_secs()));
                }
            }
            Self::Loading => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            Self::MethodNotAllowed { allowed, .. } => {
                headers.insert(ALLOW, HeaderValue::from_static(reply::allow(&allowed)));
            }
            _ => {}
        }
        reply
    }
}

impl From<NotDone> for ApiError {
    fn from(reason: NotDone) -> Self {
        match reason {
            NotDone::Busy => Refusal::Busy.into(),
            NotDone::Panicked(message) => Self::Failed(message),
        }
    }
}
