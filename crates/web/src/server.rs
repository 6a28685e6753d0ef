//! Routes, and the life of the server: listen, serve, finish what runs, stop.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::assets::{self, Asset};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::engine_client::{EngineClient, Health, Readiness};
use crate::listener::Listener;
use crate::patience::{Impatient, Limits};
use crate::problem::Problem;
use crate::request_body::BodyMemory;
use crate::request_head::{self, Explained, MAX_HEAD, MAX_HEADERS};
use crate::trace::Trace;
use crate::{headers, origin, pages, relay};

/// Open connections; more wait in the kernel's queue.
///
/// With a full head on each and all the memory for long bodies taken they stay within the 64 MB of the compose file.
const MAX_CONNECTIONS: usize = 512;
/// Time for a request's head, also between two requests of a kept connection. Load balancers keep theirs for up to 60
/// seconds and must not meet one that we have just closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Time for a browser to read, and to close after we have.
const PATIENCE: Limits = Limits {
    write: Duration::from_secs(30),
    silence: Duration::from_secs(1),
    linger: Duration::from_secs(10),
    discarded: 64 << 20,
};

type Response = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

struct State {
    config: Config,
    engine: EngineClient,
    page: Asset,
    bodies: BodyMemory,
}

/// Serves until `shutdown` is ready, then lets running answers finish for [`Config::drain_timeout`].
pub async fn run(
    config: Config,
    listener: Listener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let engine = EngineClient::new(&config).context("cannot set up the client for the engine")?;
    let page = pages::chat().context("cannot render the page")?;
    let state = Arc::new(State { config, engine, page, bodies: BodyMemory::default() });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);

    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            stream = listener.accept(), if connections.len() < MAX_CONNECTIONS => stream,
        };
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(answer(&state, request).await) }
        });
        let stream = Explained::new(Impatient::new(stream, PATIENCE));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            // Not worth more than this: mostly browsers that leave.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
        });
    }

    drop(listener);
    tracing::info!("stopping: no new connections");
    if timeout(state.config.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!("some answers were not finished in time");
    }
    // Dropping `connections` ends those that are left.
    Ok(())
}

/// Resolves at SIGTERM or Ctrl-C. As PID 1 a process has no default reaction to either.
pub async fn termination() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        };
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// Where a program on this machine reaches what listens on `address`. All addresses include the one of IPv4's loopback, while
/// a container often has none of IPv6.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

/// Asks the server that listens on `addresses` whether it is alive; for a container's health check.
pub async fn check_health(addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let address = addresses.first().context("no address to ask")?;
    let url = format!("http://{}/health", reachable(*address));
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{url} answered {status}");
    }
    Ok(())
}

async fn answer(state: &State, request: Request<Incoming>) -> Response {
    let trace = Trace::of(request.headers());
    let mut response = route(state, &trace, request).await.unwrap_or_else(|problem| refuse(&problem));
    headers::protect(response.headers_mut());
    trace.mark(response.headers_mut());
    response
}

async fn route(state: &State, trace: &Trace, request: Request<Incoming>) -> Result<Response, Problem> {
    request_head::check(&request)?;
    // To HEAD we answer as to GET; hyper leaves the body out.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match (method, request.uri().path()) {
        (&Method::GET, "/") => Ok(file(&state.page, &request)),
        (&Method::POST, "/chat") => chat(state, trace, request).await,
        // This program lives.
        (&Method::GET, "/health") => Ok(json(StatusCode::OK, &json!({"status": "ok"}))),
        // It can answer a chat as well.
        (&Method::GET, "/ready") => {
            let engine = state.engine.health().await.readiness;
            let ready = engine == Readiness::Ready;
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Ok(json(status, &json!({"engine": engine})))
        }
        // For the page: a question that has an answer, whatever it is.
        (&Method::GET, "/status") => {
            let Health { readiness, download } = state.engine.health().await;
            let notice = if readiness == Readiness::Ready { state.engine.demo_notice().await } else { None };
            let status = json!({"engine": readiness, "download": download, "demo_notice": notice});
            Ok(json(StatusCode::OK, &status))
        }
        (_, "/chat") => Err(Problem::method_not_allowed("POST")),
        (_, "/" | "/health" | "/ready" | "/status") => Err(Problem::method_not_allowed("GET, HEAD")),
        (method, path) => match path.strip_prefix("/assets/").and_then(assets::find) {
            Some(asset) if method == Method::GET => Ok(file(asset, &request)),
            Some(_) => Err(Problem::method_not_allowed("GET, HEAD")),
            None => Err(Problem::not_found()),
        },
    }
}

async fn chat(state: &State, trace: &Trace, request: Request<Incoming>) -> Result<Response, Problem> {
    origin::check(request.headers(), &state.config.public_origin)
        .map_err(|reason| Problem::cross_site(&reason))?;
    if !headers::is_json(request.headers()) {
        return Err(Problem::not_json());
    }
    let version = request.version();
    let (body, share) = state.bodies.read(request.into_body()).await?;
    let conversation = Conversation::from_json(&body, state.config.system_prompt.as_deref())?;
    let events = relay::answer(state.engine.within(trace), conversation, state.config.engine_wait).await?;

    // The conversation stays in memory until its answer has ended.
    let events = events.inspect(move |_| _ = &share);
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
        // nginx and its relatives collect an answer before they pass it on, unless told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if version < Version::HTTP_11 {
        // Such a stream ends with the connection, also for a client that has asked to keep it.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn file(asset: &Asset, request: &Request<Incoming>) -> Response {
    asset.answer(request.uri().query(), request.headers()).map(BodyExt::boxed_unsync)
}

fn refuse(problem: &Problem) -> Response {
    let mut response = json(problem.status, &problem.to_json());
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if problem.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
        // As hyper does when it refuses a head itself.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(methods) = problem.allow {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}

fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Full::from(body.to_string()).boxed_unsync());
    *response.status_mut() = status;
    headers::declare_json(response.headers_mut());
    response
}
