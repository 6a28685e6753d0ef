//! What a request is refused for before any protocol has looked at it, with the status and the sentence of each.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::request_head::{MAX_HEAD, MAX_HEADERS};

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
    fn row(&self) -> (StatusCode, &'static str, &'static str) {
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

    pub(crate) fn status(&self) -> StatusCode {
        self.row().0
    }

    /// The error in OpenAI's shape.
    pub(crate) fn to_json(&self) -> Value {
        let (_, kind, code) = self.row();
        json!({ "error": { "message": self.to_string(), "type": kind, "param": null, "code": code } })
    }

    /// When it is worth to try again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Crowded | Self::Busy).then_some(Duration::from_secs(1))
    }
}
