//! What a request is refused for before any protocol has looked at it, with the status and the sentence of each.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::request_head::{MAX_HEAD, MAX_HEADERS};
use crate::metrics::Reason;

/// The body of a refusal, or an event in a stream that has begun: OpenAI's shape.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorObject,
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorObject {
    pub(crate) message: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n_prompt_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n_ctx: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Code {
    Name(&'static str),
    /// As llama-server has it: its clients compare this number.
    Status(u16),
}

impl ErrorObject {
    pub(crate) fn new(error: &impl ToString, kind: &'static str) -> Self {
        Self { message: error.to_string(), kind, param: None, code: None, n_prompt_tokens: None, n_ctx: None }
    }
}

/// Why a request is not passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the head of this request cannot be read")]
    UnreadableHead,
    #[error("the head of this request has more than {MAX_HEAD} bytes or {MAX_HEADERS} headers")]
    HeadTooLarge,
    #[error("the request body has more than {limit} bytes (see --max-body-bytes)")]
    BodyTooLarge { limit: usize },
    #[error("the request body was not complete after {} s", .0.as_secs())]
    BodyTooSlow(Duration),
    #[error("the request body ended early: {0}")]
    BodyIncomplete(String),
    #[error("{part:?} in the path is not a name: a % needs two hexadecimal digits, and all of it is UTF-8")]
    MalformedPath { part: String },
    #[error("a request has one header `Host`, of ASCII characters")]
    MalformedHost,
    #[error("an API key is needed: send the header `Authorization: Bearer KEY`")]
    MissingKey,
    #[error("this API key is not the one of this server")]
    WrongKey,
    #[error("pages of {origin} may not use this server; start it with --cors-origins {origin} to allow that")]
    ForeignOrigin { origin: String },
    #[error("this server answers on this machine only, and {host:?} is not one of its names")]
    ForeignHost { host: String },
    #[error("all connections of this server are busy; try again later")]
    Crowded,
    #[error("this server is busy with the text of other requests; try again later")]
    Busy,
}

impl Refusal {
    /// Status, type and code of each, in the words of OpenAI's API.
    pub(crate) fn row(&self) -> (StatusCode, &'static str, &'static str) {
        const REQUEST: &str = "invalid_request_error";
        const FORBIDDEN: &str = "permission_error";
        const UNAVAILABLE: &str = "unavailable_error";
        match self {
            Self::UnreadableHead => (StatusCode::BAD_REQUEST, REQUEST, "invalid_head"),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, REQUEST, "head_too_large"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, REQUEST, "request_too_large"),
            Self::BodyTooSlow(_) => (StatusCode::REQUEST_TIMEOUT, REQUEST, "request_timeout"),
            Self::BodyIncomplete(_) => (StatusCode::BAD_REQUEST, REQUEST, "incomplete_body"),
            Self::MalformedPath { .. } => (StatusCode::BAD_REQUEST, REQUEST, "invalid_path"),
            Self::MalformedHost => (StatusCode::BAD_REQUEST, REQUEST, "invalid_host"),
            Self::MissingKey | Self::WrongKey => {
                (StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key")
            }
            Self::ForeignOrigin { .. } => (StatusCode::FORBIDDEN, FORBIDDEN, "origin_not_allowed"),
            Self::ForeignHost { .. } => (StatusCode::FORBIDDEN, FORBIDDEN, "host_not_allowed"),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "too_many_connections"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "too_much_text"),
        }
    }

    /// What it counts as.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::HeadTooLarge | Self::BodyTooLarge { .. } => Reason::TooLarge,
            Self::BodyTooSlow(_) | Self::BodyIncomplete(_) => Reason::Incomplete,
            Self::MissingKey | Self::WrongKey => Reason::Unauthorized,
            Self::ForeignOrigin { .. } | Self::ForeignHost { .. } => Reason::Forbidden,
            Self::Crowded => Reason::Places,
            Self::Busy => Reason::Text,
            Self::UnreadableHead | Self::MalformedPath { .. } | Self::MalformedHost => Reason::Invalid,
        }
    }

    /// The error in OpenAI's shape, for whoever speaks no protocol yet.
    pub(crate) fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.row();
        ErrorBody { error: ErrorObject { code: Some(Code::Name(code)), ..ErrorObject::new(self, kind) } }
    }

    /// When it is worth to try again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Crowded | Self::Busy).then_some(Duration::from_secs(1))
    }
}
