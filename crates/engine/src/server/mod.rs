//! Connections in, [`Api`] in the middle, an orderly end: everything that is bounded by time or
//! number here is bounded for the sake of the other clients.

mod patience;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::api::Api;
use crate::config::Config;
use crate::engine::Engine;
use patience::Patience;

/// Time to send the head of a request, and to keep a connection without one. Longer than the
/// pools of common clients keep theirs, so that it is the client that closes an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(120);

/// Time in which a client must take something of what is ready for it.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Bytes of the head of a request.
const HEAD_BYTES: usize = 64 * 1024;

/// Opens the configured port.
pub async fn bind(config: &Config) -> Result<TcpListener> {
    let (host, port) = (config.host.as_str(), config.port);
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "cannot listen on {host}:{port}: the port is in use. Ollama uses the same one by default: stop it, \
             or choose another port with --port"
        ),
        _ => anyhow!(error).context(format!("cannot listen on {host}:{port}")),
    })
}

/// Serves until `shutdown` resolves or the engine fails. The port answers from the start, with
/// 503 until the model is loaded. Requests that run when `shutdown` resolves get
/// `--shutdown-timeout` to finish.
pub async fn run(config: &Config, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<()> {
    let address = listener.local_addr()?;
    let api = Arc::new(Api::new(config, address.ip()));
    info!(%address, "listening; loading the model");
    let end = async {
        tokio::select! {
            () = shutdown => Ok(()),
            error = keep_engine(config, &api) => Err(error),
        }
    };
    serve(listener, Arc::clone(&api), config, end).await
}

/// Loads the engine and watches it; returns why there is none or none any more.
async fn keep_engine(config: &Config, api: &Api) -> anyhow::Error {
    match load(config.clone()).await {
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
async fn load(config: Config) -> Result<Engine> {
    let (sender, loaded) = oneshot::channel();
    let load = move || {
        // Nobody waits any more when the server was told to stop.
        sender.send(Engine::load(&config)).ok();
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(load).context("cannot start a thread")?;
    loaded.await.unwrap_or_else(|_| Err(anyhow!("loading the model panicked (see the log above)")))
}

/// Serves `api` until `shutdown` resolves, then lets running requests finish; returns what
/// `shutdown` returned.
async fn serve<T>(
    listener: TcpListener,
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
            stream = accept(&listener), if connections.len() < config.max_connections => stream,
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

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Tokens are small and should leave at once.
                stream.set_nodelay(true).ok();
                return stream;
            }
            Err(error) => {
                // Out of file descriptors, or the client is gone already: neither lasts.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
