//! What a request is refused for before any protocol has looked at it, with the status and the sentence of each.

use std::time::Duration;

use hyper::StatusCode;

/// Why a request is not passed on. The protocol that it was meant for writes the answer in its own shape.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request body has more than {limit} bytes (see --max-body-bytes)")]
    BodyTooLarge { limit: usize },
    #[error("the request body was not complete after {} s", .0.as_secs())]
    BodyTooSlow(Duration),
    #[error("the request body ended early: {0}")]
    BodyIncomplete(hyper::Error),
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
}

impl Refusal {
    /// Status, type and code of each, in the words of OpenAI's API.
    pub(crate) fn row(&self) -> (StatusCode, &'static str, &'static str) {
        const REQUEST: &str = "invalid_request_error";
        match self {
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, REQUEST, "request_too_large"),
            Self::BodyTooSlow(_) => (StatusCode::REQUEST_TIMEOUT, REQUEST, "request_timeout"),
            Self::BodyIncomplete(_) => (StatusCode::BAD_REQUEST, REQUEST, "incomplete_body"),
            Self::MissingKey | Self::WrongKey => {
                (StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key")
            }
            Self::ForeignOrigin { .. } => (StatusCode::FORBIDDEN, "permission_error", "origin_not_allowed"),
            Self::ForeignHost { .. } => (StatusCode::FORBIDDEN, "permission_error", "host_not_allowed"),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", "too_many_connections"),
        }
    }

    /// When it is worth to try again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Crowded => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
