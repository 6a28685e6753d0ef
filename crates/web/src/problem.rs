//! Whatever goes wrong → what the browser is told: one [`Problem`], as an HTTP answer or as the last event of a stream.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::conversation::{InvalidConversation, MAX_BODY};
use crate::engine_client::EngineError;
use crate::origin::Foreign;

/// `{"error": {"code": …, "message": …}}`; the message is a sentence for the person at the screen.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The status when it is an HTTP answer.
    #[serde(skip)]
    pub status: StatusCode,
    /// For programs; stable.
    pub code: &'static str,
    /// A sentence for the person at the screen: what happened, and what helps.
    pub message: String,
    /// Seconds to wait before asking again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The methods that a 405 recommends.
    #[serde(skip)]
    pub allow: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, allow: None }
    }

    /// As it goes to the browser.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"error": self})
    }

    /// 400: what came is not HTTP as this server speaks it.
    #[must_use]
    pub fn unreadable_head() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable_head", "This is not a request that HTTP/1.1 allows.")
    }

    /// 403: the request comes from a page of another site.
    #[must_use]
    pub fn cross_site(reason: &Foreign) -> Self {
        let message = format!("Only this site's own page may use this address. {reason}");
        Self::new(StatusCode::FORBIDDEN, "cross_site", message)
    }

    /// 404: no route has this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this address.")
    }

    /// 405, with the methods that are allowed.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("This address only accepts {allow}.");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        }
    }

    /// 408: the body did not arrive in time, or not whole.
    #[must_use]
    pub fn incomplete_body() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "incomplete_body", "The request did not arrive completely.")
    }

    /// 503: others are sending as much as fits into memory.
    #[must_use]
    pub fn busy() -> Self {
        let message = "Too many long messages arrive at once. Please try again in a moment.";
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "page_busy", message) }
    }

    /// 413: the body is longer than any conversation may be.
    #[must_use]
    pub fn body_too_large() -> Self {
        let message = format!("The request has more than {MAX_BODY} bytes. Please start a new chat.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    /// 431, with the limits.
    #[must_use]
    pub fn head_too_large(bytes: usize, headers: usize) -> Self {
        let message = format!(
            "The head of the request is too large: at most {bytes} bytes and {headers} headers are accepted. \
             Deleting this site's cookies often helps."
        );
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", message)
    }

    /// 415: what another site's form could send is not taken.
    #[must_use]
    pub fn not_json() -> Self {
        let message = "The body must have the content type application/json.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message)
    }
}

impl From<InvalidConversation> for Problem {
    fn from(error: InvalidConversation) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", error.to_string())
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        use EngineError as E;
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            E::Unreachable(_) => {
                Self::new(unavailable, "engine_unreachable", "The engine cannot be reached.")
            }
            E::Loading => Self::new(unavailable, "engine_loading", "The engine is still loading its model."),
            E::Stopping { retry_after } => Self {
                retry_after,
                ..Self::new(
                    unavailable,
                    "engine_stopping",
                    "The engine is stopping. Please try again in a moment.",
                )
            },
            E::Busy { retry_after } => Self {
                retry_after,
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "engine_busy",
                    match retry_after {
                        Some(1) => "All places are taken. Please try again in a second.".to_owned(),
                        Some(seconds) => {
                            format!("All places are taken. Please try again in {seconds} seconds.")
                        }
                        None => "All places are taken. Please try again in a moment.".to_owned(),
                    },
                )
            },
            E::ContextExceeded { prompt_tokens, context_tokens } => Self::new(
                StatusCode::BAD_REQUEST,
                "context_exceeded",
                format!(
                    "This chat is now {prompt_tokens} tokens long, and the model can read {context_tokens}. \
                     Please start a new chat or send a shorter message."
                ),
            ),
            E::Reported(message) => Self::new(
                StatusCode::BAD_GATEWAY,
                "engine_error",
                format!("The engine reports a problem: {message}"),
            ),
            E::Silent => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "engine_silent",
                "The engine has not sent anything for too long.",
            ),
            E::Lost(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "engine_lost", "The connection to the engine was lost.")
            }
            E::EndedEarly => Self::new(
                StatusCode::BAD_GATEWAY,
                "engine_ended_early",
                "The engine stopped before its answer was complete.",
            ),
            E::TooLong => {
                Self::new(StatusCode::BAD_GATEWAY, "answer_too_long", "The engine's answer is too long.")
            }
            E::Malformed => Self::new(
                StatusCode::BAD_GATEWAY,
                "engine_malformed",
                "The engine sent something that is not an answer. Is ENGINE_URL right?",
            ),
        }
    }
}
