//! `GET /health`: ready, or what is missing.

use serde::Serialize;
use tokio::sync::watch;

use super::error::ApiError;
use crate::engine::Engine;
use crate::http::refusal::ErrorBody;
use crate::http::reply::{self, Reply};
use crate::hub::{Progress, Stage};
use crate::serving::SubmitError;

#[derive(Serialize)]
struct Ready {
    status: &'static str,
}

/// The error that every request gets before the model is there, and beside it how far that is.
#[derive(Serialize)]
struct Waiting {
    #[serde(flatten)]
    error: ErrorBody,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Download>,
}

#[derive(Serialize)]
struct Download {
    bytes: u64,
    total: Option<u64>,
    seconds_left: Option<u64>,
}

/// Whether the engine answers; while there is none yet, `stage` says why.
pub(super) fn health(engine: Option<&Engine>, stage: &watch::Receiver<Stage>) -> Result<Reply, ApiError> {
    match engine {
        Some(engine) if engine.handle.is_alive() => Ok(reply::ok(&Ready { status: "ok" })),
        Some(_) => Err(SubmitError::Stopped.into()),
        None => {
            let error = ApiError::Loading.body();
            let waiting = match *stage.borrow() {
                Stage::Loading => Waiting { error, status: "loading", progress: None },
                Stage::Downloading(Progress { bytes, total, seconds_left }) => {
                    let progress = Some(Download { bytes, total, seconds_left });
                    Waiting { error, status: "downloading", progress }
                }
            };
            Ok(ApiError::Loading.into_reply_with(&waiting))
        }
    }
}
