//! Everything that a request can be refused for, and the one place where that becomes a response.
//!
//! The body has OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use std::fmt::Display;

use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use serde::Serialize;

use crate::chat_template::TemplateError;
use crate::generation::InvalidPrompt;
use crate::http::admission::NotDone;
use crate::http::refusal::{Code, ErrorBody, ErrorObject, Refusal};
use crate::http::reply::{self, Reply};
use crate::metrics::Reason;
use crate::serving::{Failure, SubmitError};

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(serde_json::Error),
    #[error("{}", problem_of(.field, .problem))]
    Invalid { field: String, problem: String },
    #[error("`{field}` is required")]
    Missing { field: String },
    #[error("`{field}` is not supported: {reason}")]
    Unsupported { field: String, reason: &'static str },
    #[error(transparent)]
    InvalidPrompt(#[from] InvalidPrompt),
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
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Work on the text of a request has panicked.
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
}

/// "must be …" follows the field's name; what the JSON parser says of it stands for itself.
fn problem_of(field: &str, problem: &str) -> String {
    let colon = if problem.starts_with("must ") || problem.starts_with("cannot ") { "" } else { ":" };
    format!("`{field}`{colon} {problem}")
}

impl ApiError {
    /// `value` is not what `field` may be.
    pub(super) fn invalid(field: impl Into<String>, expected: impl Display, value: impl Display) -> Self {
        Self::Invalid { field: field.into(), problem: format!("must be {expected}, but it is {value}") }
    }

    pub(super) fn of_template(error: TemplateError, context: usize) -> Self {
        match error {
            TemplateError::PromptTooLong { tokens } => {
                InvalidPrompt::TooLong { tokens, at_least: true, context }.into()
            }
            error => Self::Template(error.to_string()),
        }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::Missing { field: field.to_owned() }
    }

    /// Status, type and code of each.
    fn row(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        const REQUEST: &str = "invalid_request_error";
        match self {
            Self::Http(refusal) => {
                let (status, kind, code) = refusal.row();
                (status, kind, Some(code))
            }
            Self::MalformedJson(_) => (StatusCode::BAD_REQUEST, REQUEST, Some("invalid_json")),
            Self::Invalid { .. } | Self::Template(_) | Self::InvalidPrompt(InvalidPrompt::Empty) => {
                (StatusCode::BAD_REQUEST, REQUEST, Some("invalid_value"))
            }
            Self::Missing { .. } => (StatusCode::BAD_REQUEST, REQUEST, Some("missing_required_parameter")),
            Self::Unsupported { .. } => (StatusCode::BAD_REQUEST, REQUEST, Some("unsupported_parameter")),
            Self::InvalidPrompt(InvalidPrompt::TooLong { .. }) => {
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
            Self::Refused(SubmitError::Draining) | Self::Failed(Failure::Stopping) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", Some("draining"))
            }
            Self::Failed(Failure::Timeout(_)) => {
                (StatusCode::GATEWAY_TIMEOUT, "timeout_error", Some("request_timeout"))
            }
            Self::Refused(SubmitError::Stopped) => {
                (StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("engine_stopped"))
            }
            Self::Failed(Failure::Computing(_)) | Self::Unreadable(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("engine_failed"))
            }
        }
    }

    /// What it counts as: nothing, if the request was taken and failed.
    pub(super) fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Http(refusal) => refusal.reason(),
            Self::Refused(SubmitError::Overloaded { .. }) => Reason::QueueFull,
            Self::Loading | Self::Refused(SubmitError::Draining | SubmitError::Stopped) => Reason::NotReady,
            Self::InvalidPrompt(InvalidPrompt::TooLong { .. }) => Reason::TooLong,
            Self::NotFound { .. } | Self::ModelNotFound { .. } | Self::MethodNotAllowed { .. } => {
                Reason::NotFound
            }
            Self::MalformedJson(_)
            | Self::Invalid { .. }
            | Self::Missing { .. }
            | Self::Unsupported { .. }
            | Self::InvalidPrompt(InvalidPrompt::Empty)
            | Self::Template(_) => Reason::Invalid,
            Self::Failed(_) | Self::Unreadable(_) => return None,
        })
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

    pub(super) fn body(&self) -> ErrorBody {
        let (status, kind, code) = self.row();
        let (n_prompt_tokens, n_ctx) = match *self {
            Self::InvalidPrompt(InvalidPrompt::TooLong { tokens, context, .. }) => {
                (Some(tokens), Some(context))
            }
            _ => (None, None),
        };
        let code = match self {
            Self::Loading => Some(Code::Status(status.as_u16())),
            _ => code.map(Code::Name),
        };
        let param = self.param().map(ToOwned::to_owned);
        ErrorBody {
            error: ErrorObject { param, code, n_prompt_tokens, n_ctx, ..ErrorObject::new(self, kind) },
        }
    }

    pub(super) fn into_reply(self) -> Reply {
        let body = self.body();
        self.into_reply_with(&body)
    }

    /// The response, with a body that says more than the error alone.
    pub(super) fn into_reply_with(self, body: &impl Serialize) -> Reply {
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
            Self::Loading | Self::Refused(SubmitError::Draining) | Self::Failed(Failure::Stopping) => {
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
            NotDone::Panicked(message) => Self::Unreadable(message),
        }
    }
}
