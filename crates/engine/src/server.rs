//! Connections in, [`Api`] in the middle, an orderly end: everything that is bounded by time or
//! number here is bounded for the sake of the other clients.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::api::Api;
use crate::config::Config;
use crate::engine::Engine;
pub use crate::http::listener::Listener;
use crate::http::patience::Patience;
use crate::hub::Stage;

/// Time to send the head of a request, and to keep a connection without one. Longer than the
/// pools of common clients keep theirs, so that it is the client that closes an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(120);

/// Time in which a client must take something of what is ready for it.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Bytes of the head of a request.
const HEAD_BYTES: usize = 64 * 1024;

/// Serves until `shutdown` resolves or the engine fails. The port answers from the start, with
/// 503 until the model is loaded. Requests that run when `shutdown` resolves get
/// `--shutdown-timeout` to finish.
pub async fn run(config: &Config, listener: Listener, shutdown: impl Future<Output = ()>) -> Result<()> {
    let addresses = listener.addresses()?;
    for address in &addresses {
        info!(%address, "listening");
    }
    let (stages, stage) = watch::channel(Stage::default());
    let local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    let api = Arc::new(Api::new(config, local, stage));
    let end = async {
        tokio::select! {
            () = shutdown => Ok(()),
            error = keep_engine(config, &api, stages) => Err(error),
        }
    };
    serve(listener, Arc::clone(&api), config, end).await
}

/// Loads the engine and watches it; returns why there is none or none any more.
async fn keep_engine(config: &Config, api: &Api, stages: watch::Sender<Stage>) -> anyhow::Error {
    match load(config.clone(), stages).await {
        Ok(engine) => {
            let ended = engine.worker.ended();
            api.ready(engine);
            info!("ready");
            ended.await;
            anyhow!("the engine stopped because of an internal error (see the log above)")
        }
        Err(error) => error,
    }
}

/// Loads on a thread of its own, not on one of tokio's, so that a program that is told to end
/// meanwhile need not wait for it.
async fn load(config: Config, stages: watch::Sender<Stage>) -> Result<Engine> {
    let (sender, loaded) = oneshot::channel();
    let load = move || {
        // Nobody waits any more when the server was told to stop.
        sender.send(Engine::load(&config, &stages)).ok();
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(load).context("cannot start a thread")?;
    loaded.await.unwrap_or_else(|_| Err(anyhow!("loading the model panicked (see the log above)")))
}

/// Serves `api` until `shutdown` resolves, then lets running requests finish; returns what
/// `shutdown` returned.
async fn serve<T>(
    listener: Listener,
    api: Arc<Api>,
    config: &Config,
    shutdown: impl Future<Output = T>,
) -> T {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);

    let result = loop {
        let stream = tokio::select! {
            result = &mut shutdown => break result,
            stream = listener.accept(), if connections.len() < config.max_connections => stream,
            Some(_) = connections.join_next() => continue,
        };
        let api = Arc::clone(&api);
        let service = service_fn(move |request| {
            let api = Arc::clone(&api);
            async move { Ok::<_, Infallible>(api.handle(request).await) }
        });
        let connection = http.serve_connection(TokioIo::new(Patience::new(stream, WRITE_TIME)), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection");
            }
        });
    };

    drop(listener);
    info!(connections = connections.len(), "stopping");
    if tokio::time::timeout(config.shutdown_timeout, graceful.shutdown()).await.is_err() {
        warn!("requests were still running after {} s and are cut off", config.shutdown_timeout.as_secs());
    }
    connections.shutdown().await;
    result
}
