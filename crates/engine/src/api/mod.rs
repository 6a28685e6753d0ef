//! HTTP requests in, responses out: OpenAI's API and llama-server's.
//!
//! The way of a request through this module: [`Guard`] (may this client ask?), the table of
//! endpoints below, [`Bodies`] (bounded), [`Admission`] (a permit before anything that costs time), [`fields`] (checked one by
//! one), a `read` that turns the fields into a [`Plan`], the worker, and [`answer`], which writes what comes back.
//! Every refusal on that way is an [`ApiError`]. Nothing here computes anything that takes long
//! on the threads that serve connections.

mod answer;
mod error;
mod fields;
mod generation;
mod llamacpp;
mod messages;
mod openai;
mod probabilities;
mod prompt;
mod usage;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hyper::header::ACCESS_CONTROL_REQUEST_METHOD;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::debug;

use crate::config::Config;
use crate::engine::Engine;
use crate::http::admission::{self, Admission};
use crate::http::body::Bodies;
use crate::http::connection::Request;
use crate::http::escapes;
use crate::http::guard::Guard;
use crate::http::refusal::Refusal;
use crate::http::reply::{self, Reply};
use crate::http::request_head;
use crate::hub::{Progress, Stage};
use answer::{Format, Plan};
use error::ApiError;
use fields::Fields;
use llamacpp::{completion, props, tokens};
use openai::{chat, completions, models};

/// Threads that parse, render and tokenize; they take time from those that compute.
const TEXT_THREADS: usize = 2;
/// Requests that may wait for them, at least.
const TEXTS_WAITING: usize = 64;
/// For how long.
const TEXT_PATIENCE: Duration = Duration::from_secs(10);

/// What all requests share.
pub(crate) struct Api {
    guard: Guard,
    bodies: Bodies,
    admission: Admission,
    ping: Duration,
    /// What the engine does before it is there.
    stage: watch::Receiver<Stage>,
    /// Empty until the model is loaded.
    engine: OnceLock<Arc<Engine>>,
}

/// Everything that can be asked.
enum Endpoint<'a> {
    Root,
    Health,
    Models,
    Model(&'a str),
    Props,
    Slots,
    ChatCompletions,
    Completions,
    Completion,
    Tokenize,
    Detokenize,
    ApplyTemplate,
}

/// The endpoint at a path, and its method.
fn endpoint(path: &str) -> Option<(Method, Endpoint<'_>)> {
    Some(match path {
        "/" => (Method::GET, Endpoint::Root),
        "/health" | "/v1/health" => (Method::GET, Endpoint::Health),
        "/models" | "/v1/models" => (Method::GET, Endpoint::Models),
        "/props" => (Method::GET, Endpoint::Props),
        "/slots" => (Method::GET, Endpoint::Slots),
        "/chat/completions" | "/v1/chat/completions" => (Method::POST, Endpoint::ChatCompletions),
        "/v1/completions" => (Method::POST, Endpoint::Completions),
        "/completion" | "/completions" => (Method::POST, Endpoint::Completion),
        "/tokenize" => (Method::POST, Endpoint::Tokenize),
        "/detokenize" => (Method::POST, Endpoint::Detokenize),
        "/apply-template" => (Method::POST, Endpoint::ApplyTemplate),
        _ => (Method::GET, Endpoint::Model(path.strip_prefix("/v1/models/")?)),
    })
}

impl Api {
    /// For a server that can be reached from this machine only (`local`) or from others too. Until [`ready`](Self::ready),
    /// everything that needs the model is answered with 503; `stage` says what is missing.
    pub(crate) fn new(config: &Config, local: bool, stage: watch::Receiver<Stage>) -> io::Result<Self> {
        let limits = admission::Limits {
            threads: TEXT_THREADS,
            // Whoever may wait for the engine may wait for this as well.
            waiting: config.queue.max(TEXTS_WAITING),
            patience: TEXT_PATIENCE,
        };
        Ok(Self {
            guard: Guard::new(config, local),
            bodies: Bodies::new(config.max_body_bytes),
            admission: Admission::new(limits)?,
            ping: config.sse_ping_interval,
            stage,
            engine: OnceLock::new(),
        })
    }

    /// The model is loaded.
    pub(crate) fn ready(&self, engine: Engine) {
        self.engine.set(Arc::new(engine)).ok();
    }

    /// Answers a request. Never fails: what goes wrong is an answer too. On a `reserved` connection it must cost nothing.
    pub(crate) async fn handle(&self, request: Request, reserved: bool) -> Reply {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let headers = request.headers().clone();
        let mut reply = self.respond(request, reserved).await.unwrap_or_else(ApiError::into_reply);
        self.guard.share(&headers, &mut reply);
        debug!(%method, path, status = reply.status().as_u16(), time = ?started.elapsed(), "request");
        reply
    }

    async fn respond(&self, request: Request, reserved: bool) -> Result<Reply, ApiError> {
        request_head::check(&request)?;
        self.guard.check_page(&request)?;
        let path = request.uri().path().to_owned();
        let (method, endpoint) = endpoint(&path).ok_or_else(|| ApiError::NotFound { path: path.clone() })?;
        if request.method() == Method::OPTIONS {
            let mut reply = reply::options(&method);
            if request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
                Guard::preflight(request.headers(), &mut reply);
            }
            return Ok(reply);
        }
        // hyper leaves out the body of an answer to HEAD.
        let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        if *asked != method {
            return Err(ApiError::MethodNotAllowed {
                path,
                method: request.method().clone(),
                allowed: method,
            });
        }
        if !matches!(endpoint, Endpoint::Root | Endpoint::Health) {
            if reserved {
                return Err(Refusal::Crowded.into());
            }
            self.guard.check_key(request.headers())?;
        }
        match endpoint {
            Endpoint::Root => Ok(reply::text("bitnet-engine is running\n")),
            Endpoint::Health => self.health(),
            Endpoint::Models => Ok(ok(&models::list(&self.engine()?.about))),
            Endpoint::Model(name) => Ok(ok(&models::get(&self.engine()?.about, &escapes::decode(name)?)?)),
            Endpoint::Props => Ok(ok(&props::props(self.engine()?)?)),
            Endpoint::Slots => Ok(ok(&props::slots(self.engine()?))),
            Endpoint::ChatCompletions => self.generate(request, chat::read).await,
            Endpoint::Completions => self.generate(request, completions::read).await,
            Endpoint::Completion => self.generate(request, completion::read).await,
            Endpoint::Tokenize => Ok(ok(&self.read(request, tokens::tokenize).await?)),
            Endpoint::Detokenize => Ok(ok(&self.read(request, tokens::detokenize).await?)),
            Endpoint::ApplyTemplate => Ok(ok(&self.read(request, tokens::apply_template).await?)),
        }
    }

    fn engine(&self) -> Result<&Arc<Engine>, ApiError> {
        self.engine.get().ok_or(ApiError::Loading)
    }

    fn health(&self) -> Result<Reply, ApiError> {
        match self.engine.get() {
            Some(engine) if engine.worker.is_alive() => Ok(ok(&json!({ "status": "ok" }))),
            Some(_) => Err(crate::worker::SubmitError::Stopped.into()),
            None => Ok(self.waiting()),
        }
    }

    /// The error that every request gets before the model is there, and beside it how far that is.
    fn waiting(&self) -> Reply {
        let mut body = ApiError::Loading.to_json();
        match *self.stage.borrow() {
            Stage::Loading => body["status"] = json!("loading"),
            Stage::Downloading(Progress { bytes, total, seconds_left }) => {
                body["status"] = json!("downloading");
                body["progress"] = json!({ "bytes": bytes, "total": total, "seconds_left": seconds_left });
            }
        }
        ApiError::Loading.into_reply_with(&body)
    }

    /// Has an answer generated.
    async fn generate<F: Format>(
        &self,
        request: Request,
        read: fn(&Fields, &Engine) -> Result<Plan<F>, ApiError>,
    ) -> Result<Reply, ApiError> {
        let Plan { generation, format, stream } = self.read(request, read).await?;
        let events = self.engine()?.worker.submit(generation)?;
        if stream {
            Ok(answer::stream(format, events, self.ping))
        } else {
            answer::whole(format, events).await
        }
    }

    /// Reads the body, and applies `read` to its fields once it is admitted: it may render and tokenize a lot of text.
    async fn read<T: Send + 'static>(
        &self,
        request: Request,
        read: fn(&Fields, &Engine) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let engine = Arc::clone(self.engine()?);
        let body = self.bodies.read(request.into_body()).await?;
        self.admission.run(move |_| read(&Fields::parse(&body)?, &engine)).await?
    }
}

fn ok(body: &Value) -> Reply {
    reply::json(StatusCode::OK, body)
}
