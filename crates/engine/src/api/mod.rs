//! HTTP requests in, responses out: OpenAI's API and llama-server's, and what operators ask.
//!
//! The way of a request through this module: [`Guard`] (may this client ask?), the table of
//! endpoints below, [`Bodies`] (bounded), [`Admission`] (a permit before anything that costs time), [`fields`] (checked one by
//! one), a `read` that turns the fields into a [`Plan`], the engine thread, and [`answer`], which writes what comes back.
//! Every refusal on that way is an [`ApiError`]. Nothing here computes anything that takes long
//! on the threads that serve connections.

mod answer;
mod error;
mod fields;
mod health;
mod llamacpp;
mod logprobs;
mod metrics;
mod openai;
mod request;
mod usage;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Method;
use hyper::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderValue};
use tokio::sync::watch;
use tracing::Instrument;

use crate::config::Config;
use crate::engine::Engine;
use crate::generation::Client;
use crate::http::admission::{self, Admission, Wanted};
use crate::http::body::{Bodies, Share};
use crate::http::connection::Request;
use crate::http::escapes;
use crate::http::guard::Guard;
use crate::http::refusal::Refusal;
use crate::http::reply::{self, Reply};
use crate::http::request_head;
use crate::http::trace::Trace;
use crate::hub::Stage;
use crate::metrics::Metrics;
use crate::serving::{SubmitError, Submitted};
use answer::{News, Plan, Wire};
use error::ApiError;
use health::{Signs, State};
use llamacpp::{completion, props, tokens};
use openai::{chat, completions, models};

/// Threads that parse, render and tokenize; they take time from those that compute.
const TEXT_THREADS: usize = 2;
/// Requests that may wait for them, at least.
const TEXTS_WAITING: usize = 64;
/// For how long.
const TEXT_PATIENCE: Duration = Duration::from_secs(10);

/// What the program calls itself on the wire.
const VERSION: &str = concat!("bitnet-engine-", env!("CARGO_PKG_VERSION"));

/// A body that has a permit, and what it takes to read it.
struct Admitted<'a> {
    body: &'a [u8],
    engine: &'a Engine,
    /// Whether its client is still there.
    wanted: &'a Wanted,
    client: Client,
}

/// What all requests share.
pub(crate) struct Api {
    guard: Guard,
    bodies: Bodies,
    admission: Admission,
    ping: Duration,
    metrics: Arc<Metrics>,
    /// Requests that may wait for the engine.
    queue: usize,
    /// Name of the instruction set.
    isa: String,
    /// Nothing new is taken any more.
    draining: AtomicBool,
    /// What goes on is to end.
    stopping: watch::Sender<bool>,
    /// What the engine does before it is there.
    stage: watch::Receiver<Stage>,
    /// Empty until the model is loaded.
    engine: OnceLock<Arc<Engine>>,
}

/// Everything that can be asked.
enum Endpoint<'a> {
    Root,
    Health,
    Livez,
    Readyz,
    Metrics,
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

impl Endpoint<'_> {
    /// Whether it is about the server and not about a model: answered to everybody, at any time, and on reserved connections.
    fn is_health(&self) -> bool {
        matches!(self, Self::Root | Self::Health | Self::Livez | Self::Readyz)
    }

    /// Whether it is asked again and again by something that watches.
    fn is_probe(&self) -> bool {
        self.is_health() || matches!(self, Self::Metrics)
    }
}

/// The endpoint at a path, and its method.
fn endpoint(path: &str) -> Option<(Method, Endpoint<'_>)> {
    Some(match path {
        "/" => (Method::GET, Endpoint::Root),
        "/health" | "/v1/health" => (Method::GET, Endpoint::Health),
        "/livez" => (Method::GET, Endpoint::Livez),
        "/readyz" => (Method::GET, Endpoint::Readyz),
        "/metrics" => (Method::GET, Endpoint::Metrics),
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
            waiting: config.scheduling.queue.max(TEXTS_WAITING),
            patience: TEXT_PATIENCE,
        };
        Ok(Self {
            guard: Guard::new(config, local),
            bodies: Bodies::new(config.max_body_bytes),
            admission: Admission::new(limits)?,
            ping: config.sse_ping_interval,
            metrics: Arc::new(Metrics::new()),
            queue: config.scheduling.queue,
            isa: config.isa.to_string(),
            draining: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
            stage,
            engine: OnceLock::new(),
        })
    }

    /// The model is loaded.
    pub(crate) fn ready(&self, engine: Engine) {
        self.engine.set(Arc::new(engine)).ok();
    }

    /// Where the engine counts as well.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// From now on only questions about the server are answered; what was taken before goes on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if let Some(engine) = self.engine.get() {
            engine.handle.drain();
        }
    }

    /// Ends what goes on, with an error that says so, and does not wait for the engine to notice.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
        if let Some(engine) = self.engine.get() {
            engine.handle.stop();
        }
    }

    /// Answers a request that came from `peer`. Never fails: what goes wrong is an answer too. On a `reserved` connection it must cost
    /// nothing.
    pub(crate) async fn handle(&self, request: Request, peer: IpAddr, reserved: bool) -> Reply {
        let is_probe = endpoint(request.uri().path()).is_some_and(|(_, endpoint)| endpoint.is_probe());
        let trace = Trace::begin(&request, is_probe);
        let headers = request.headers().clone();
        let reply = self.respond(request, peer, reserved).instrument(trace.span()).await;
        let mut reply = reply.unwrap_or_else(|error| {
            if let Some(reason) = error.reason() {
                self.metrics.refused(reason);
            }
            error.into_reply()
        });
        self.guard.share(&headers, &mut reply);
        trace.finish(reply)
    }

    async fn respond(&self, request: Request, peer: IpAddr, reserved: bool) -> Result<Reply, ApiError> {
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
        if !endpoint.is_probe() && reserved {
            return Err(Refusal::Crowded.into());
        }
        let mut client = Client::Address(peer);
        if !endpoint.is_health()
            && let Some(key) = self.guard.check_key(request.headers())?
        {
            client = Client::Key(key);
        }
        if !endpoint.is_probe() && self.draining.load(Ordering::Relaxed) {
            return Err(SubmitError::Draining.into());
        }
        match endpoint {
            Endpoint::Root => Ok(reply::text("bitnet-engine is running\n")),
            Endpoint::Health => Ok(health::health(self.engine.get().map(AsRef::as_ref), &self.stage)),
            Endpoint::Livez => Ok(health::livez(&self.state())),
            Endpoint::Readyz => Ok(health::readyz(&self.state())),
            Endpoint::Metrics => {
                let (engine, ready) = (self.engine.get().map(AsRef::as_ref), self.state() == State::Ready);
                Ok(metrics::metrics(&self.metrics, engine, ready, self.queue, &self.isa))
            }
            Endpoint::Models => Ok(reply::ok(&models::list(&self.engine()?.about))),
            Endpoint::Model(name) => {
                Ok(reply::ok(&models::get(&self.engine()?.about, &escapes::decode(name)?)?))
            }
            Endpoint::Props => Ok(reply::ok(&props::props(self.engine()?))),
            Endpoint::Slots => Ok(reply::ok(&props::slots(self.engine()?))),
            Endpoint::ChatCompletions => self.generate(request, client, chat::read).await,
            Endpoint::Completions => self.generate(request, client, completions::read).await,
            Endpoint::Completion => self.generate(request, client, completion::read).await,
            Endpoint::Tokenize => self.inspect(request, client, tokens::tokenize).await,
            Endpoint::Detokenize => self.inspect(request, client, tokens::detokenize).await,
            Endpoint::ApplyTemplate => self.inspect(request, client, tokens::apply_template).await,
        }
    }

    fn state(&self) -> State {
        State::of(Signs {
            stage: *self.stage.borrow(),
            alive: self.engine.get().map(|engine| engine.handle.is_alive()),
            step: self.metrics.step_runs_for(),
            draining: self.draining.load(Ordering::Relaxed),
        })
    }

    fn engine(&self) -> Result<&Arc<Engine>, ApiError> {
        self.engine.get().ok_or(ApiError::Loading)
    }

    /// Has an answer generated.
    async fn generate<W: Wire>(
        &self,
        request: Request,
        client: Client,
        read: fn(&Admitted) -> Result<Plan<W>, ApiError>,
    ) -> Result<Reply, ApiError> {
        let (Plan { request, wire, stream }, _) = self.read(request, client, read).await?;
        let Submitted { events, waiting_before, wait } = self.engine()?.handle.submit(request)?;
        let news = News { events, stopping: self.stopping.subscribe() };
        let mut reply =
            if stream { answer::stream(wire, news, self.ping) } else { answer::whole(wire, news).await? };
        reply.headers_mut().insert("x-queue-position", HeaderValue::from(waiting_before));
        reply.headers_mut().insert("x-queue-wait", HeaderValue::from(wait.as_secs_f64().ceil() as u64));
        Ok(reply)
    }

    /// Has a text looked at. The answer may be as large as the body, so it keeps the body's share of the room until it is sent.
    async fn inspect(
        &self,
        request: Request,
        client: Client,
        read: fn(&Admitted) -> Result<Reply, ApiError>,
    ) -> Result<Reply, ApiError> {
        let (reply, share) = self.read(request, client, read).await?;
        Ok(reply::with_share(reply, share))
    }

    /// Reads the body, and applies `read` to it once it is admitted: that may parse, render and tokenize a lot of text.
    async fn read<T: Send + 'static>(
        &self,
        request: Request,
        client: Client,
        read: fn(&Admitted) -> Result<T, ApiError>,
    ) -> Result<(T, Share), ApiError> {
        let engine = Arc::clone(self.engine()?);
        let mut body = self.bodies.read(request.into_body()).await?;
        let work = move |wanted: &Wanted| {
            let read = read(&Admitted { body: &body, engine: &engine, wanted, client })?;
            Ok((read, body.take_share()))
        };
        self.admission.run(work).await?
    }
}
