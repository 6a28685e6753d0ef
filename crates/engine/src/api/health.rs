//! How the server is: `GET /health` as llama-server has it, and what orchestrators ask apart, `/livez` (would a restart help?) and
//! `/readyz` (may it be sent requests?).

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;

use super::error::ApiError;
use crate::engine::Engine;
use crate::http::refusal::ErrorBody;
use crate::http::reply::{self, Reply};
use crate::hub::{Progress, Stage};
use crate::serving::SubmitError;

/// A step that runs for longer will never end. The slowest ones that do are long parts of a prompt in scalar code on a machine
/// that is busy with other things: some minutes.
const STALLED: Duration = Duration::from_secs(300);

/// What the server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no model yet.
    Loading(Stage),
    Ready,
    /// It was told to stop, and finishes what it has.
    Draining,
    /// The engine thread does not get on.
    Stalled,
    /// The engine thread has ended.
    Failed,
}

/// What the state depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    pub(super) stage: Stage,
    /// Whether the engine thread runs; none before the model is loaded.
    pub(super) alive: Option<bool>,
    /// For how long the step runs that runs now.
    pub(super) step: Option<Duration>,
    pub(super) draining: bool,
}

impl State {
    pub(super) fn of(signs: Signs) -> Self {
        match signs {
            Signs { alive: Some(false), .. } => Self::Failed,
            Signs { step: Some(step), .. } if step > STALLED => Self::Stalled,
            Signs { draining: true, .. } => Self::Draining,
            Signs { alive: None, stage, .. } => Self::Loading(stage),
            Signs { alive: Some(true), .. } => Self::Ready,
        }
    }
}

/// Whether it helps to start the server again.
pub(super) fn livez(state: &State) -> Reply {
    match state {
        State::Loading(_) | State::Ready | State::Draining => reply::ok(&Report::new("ok")),
        State::Stalled | State::Failed => not_now(state),
    }
}

/// Whether requests would be taken.
pub(super) fn readyz(state: &State) -> Reply {
    if *state == State::Ready { reply::ok(&Report::new("ok")) } else { not_now(state) }
}

fn not_now(state: &State) -> Reply {
    let report = match *state {
        State::Ready => Report::new("ok"),
        State::Loading(Stage::Loading) => Report::new("loading"),
        State::Loading(Stage::Downloading(progress)) => {
            Report { progress: Some(progress.into()), ..Report::new("loading") }
        }
        State::Draining => Report::new("draining"),
        State::Stalled => Report::new("stalled"),
        State::Failed => Report::new("failed"),
    };
    reply::json(StatusCode::SERVICE_UNAVAILABLE, &report)
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Download>,
}

impl Report {
    fn new(status: &'static str) -> Self {
        Self { status, progress: None }
    }
}

/// The error that every request gets before the model is there, and beside it how far that is.
#[derive(Serialize)]
struct Waiting {
    #[serde(flatten)]
    error: ErrorBody,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
struct Download {
    bytes: u64,
    total: Option<u64>,
    seconds_left: Option<u64>,
}

impl From<Progress> for Download {
    fn from(Progress { bytes, total, seconds_left }: Progress) -> Self {
        Self { bytes, total, seconds_left }
    }
}

/// Whether the engine answers; while there is none yet, `stage` says why.
pub(super) fn health(engine: Option<&Engine>, stage: &watch::Receiver<Stage>) -> Reply {
    match engine {
        Some(engine) if engine.handle.is_alive() => reply::ok(&Report::new("ok")),
        Some(_) => ApiError::from(SubmitError::Stopped).into_reply(),
        None => {
            let report = match *stage.borrow() {
                Stage::Loading => Report::new("loading"),
                Stage::Downloading(progress) => {
                    Report { progress: Some(progress.into()), ..Report::new("downloading") }
                }
            };
            let error = ApiError::Loading.body();
            ApiError::Loading.into_reply_with(&Waiting { error, report })
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    /// Status and body of an answer.
    async fn told(reply: Reply) -> (u16, Value) {
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn check(signs: Signs, alive: u16, ready: u16, status: &str) {
        let state = State::of(signs);
        let (of_livez, _) = told(livez(&state)).await;
        let (of_readyz, body) = told(readyz(&state)).await;
        assert_eq!((of_livez, of_readyz, &body["status"]), (alive, ready, &json!(status)), "{signs:?}");
    }

    #[tokio::test]
    async fn each_state_says_whether_to_send_requests_and_whether_to_start_again() {
        let ready = Signs { stage: Stage::Loading, alive: Some(true), step: None, draining: false };
        check(ready, 200, 200, "ok").await;
        check(Signs { step: Some(STALLED), ..ready }, 200, 200, "ok").await;
        check(Signs { alive: None, ..ready }, 200, 503, "loading").await;
        check(Signs { draining: true, ..ready }, 200, 503, "draining").await;
        check(Signs { alive: None, draining: true, ..ready }, 200, 503, "draining").await;
        let stalled = Signs { step: Some(STALLED + Duration::from_secs(1)), ..ready };
        check(stalled, 503, 503, "stalled").await;
        check(Signs { draining: true, ..stalled }, 503, 503, "stalled").await;
        check(Signs { alive: Some(false), ..stalled }, 503, 503, "failed").await;
        check(Signs { alive: Some(false), draining: true, ..ready }, 503, 503, "failed").await;
    }

    #[tokio::test]
    async fn a_download_says_how_far_it_is() {
        let progress = Progress { bytes: 3, total: Some(9), seconds_left: None };
        let (status, body) = told(readyz(&State::Loading(Stage::Downloading(progress)))).await;
        let progress = json!({ "bytes": 3, "total": 9, "seconds_left": null });
        assert_eq!((status, body), (503, json!({ "status": "loading", "progress": progress })));
    }
}
