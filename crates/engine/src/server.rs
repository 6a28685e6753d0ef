//! The life of the server: it listens, loads the model meanwhile, serves, and comes to an orderly end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::api::Api;
use crate::config::Config;
use crate::engine::Engine;
use crate::http::connection;
pub use crate::http::listener::Listener;
use crate::http::places::{Place, Places};
use crate::hub::Stage;
use crate::memory;
use crate::metrics::Metrics;

/// For what is said to those whose answers end with the server, and to those who came while it was stopping.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until `shutdown` resolves or the engine fails. The port answers from the start, with
/// 503 until the model is loaded. Requests that run when `shutdown` resolves get
/// `--shutdown-timeout` to finish; meanwhile the port answers that no others are taken.
pub async fn run(config: &Config, listener: Listener, shutdown: impl Future<Output = ()>) -> Result<()> {
    memory::give_back_large_blocks();
    let addresses = listener.addresses()?;
    for address in &addresses {
        info!(%address, "listening");
    }
    let (stages, stage) = watch::channel(Stage::default());
    let local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    let api = Arc::new(Api::new(config, local, stage).context("cannot start a thread")?);
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
    match load(config.clone(), stages, api.metrics()).await {
        Ok(engine) => {
            let ended = engine.handle.ended();
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
async fn load(config: Config, stages: watch::Sender<Stage>, metrics: Arc<Metrics>) -> Result<Engine> {
    let (sender, loaded) = oneshot::channel();
    let load = move || {
        // Nobody waits any more when the server was told to stop.
        sender.send(Engine::load_counting(&config, &stages, metrics)).ok();
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
    let places = Places::new(config.max_connections);
    let mut connections = JoinSet::new();
    let (stop, stopping) = watch::channel(false);
    let result = tokio::select! {
        result = shutdown => result,
        never = accept(&listener, &api, &places, &stopping, &mut connections) => match never {},
    };

    api.drain();
    info!(connections = connections.len(), "stopping");
    stop.send_replace(true);
    // Whoever comes now, a balancer that looks where requests may go, is told so and holds nothing up.
    let mut late = JoinSet::new();
    let (stop, stopping) = watch::channel(false);
    tokio::select! {
        finished = timeout(config.shutdown_timeout, all(&mut connections)) => {
            if finished.is_err() {
                let limit = config.shutdown_timeout.as_secs();
                warn!("requests were still running after {limit} s and are cut off");
                api.stop();
                timeout(LAST_WORDS, all(&mut connections)).await.ok();
            }
        }
        never = accept(&listener, &api, &places, &stopping, &mut late) => match never {},
    }
    drop(listener);
    connections.shutdown().await;
    stop.send_replace(true);
    timeout(LAST_WORDS, all(&mut late)).await.ok();
    late.shutdown().await;
    result
}

/// Waits until all connections have ended.
async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Gives every connection a place and a task of its own.
async fn accept(
    listener: &Listener,
    api: &Arc<Api>,
    places: &Arc<Places>,
    stopping: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    loop {
        let stream = listener.accept().await;
        // One that is gone already needs no place.
        let Ok(peer) = stream.peer_addr() else { continue };
        let place = places.take(peer.ip()).await;
        let api = Arc::clone(api);
        let answer = move |request, place: &Place| {
            let (api, peer, reserved) = (Arc::clone(&api), place.peer(), place.is_reserved());
            async move { api.handle(request, peer, reserved).await }
        };
        connections.spawn(connection::serve(stream, place, stopping.clone(), answer));
        while connections.try_join_next().is_some() {}
    }
}
