//! A server of its own for each test.

use std::net::SocketAddr;
use std::time::Duration;

use bitnet_engine::config::Config;
use bitnet_engine::server::{Listener, run};
use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::{Events, Reply, request, send, whole};
use super::exposition;

pub(crate) const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/nano64/model-i2_s.gguf");

pub(crate) struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// With the fixture model and these flags, once the model is loaded.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let server = Self::start_with_model(MODEL, flags).await;
        server.until("ready", async || server.get("/health").await.status == StatusCode::OK).await;
        server
    }

    /// As soon as the port is open.
    pub(crate) async fn start_with_model(model: &str, flags: &[&str]) -> Self {
        let config = Config::parse([&["bitnet-engine", "-t", "1", "-m", model], flags].concat()).unwrap();
        let listener = Listener::bind("localhost", 0).await.unwrap();
        let address = listener.addresses().unwrap()[0];
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let running = tokio::spawn(async move { run(&config, listener, shutdown).await });
        Self { address, stop: Some(stop), running }
    }

    /// Tells the server to stop, as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// How the server ended.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        tokio::time::timeout(Duration::from_secs(60), self.running).await.unwrap().unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Reply {
        whole(send(self.address, request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(request("GET", path, "")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(request("POST", path, body.to_string())).await
    }

    /// Posts and expects success.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.header("content-type"), "application/json");
        reply.json()
    }

    pub(crate) async fn stream(&self, path: &str, mut body: Value) -> Events {
        body["stream"] = json!(true);
        Events::new(send(self.address, request("POST", path, body.to_string())).await)
    }

    /// Starts an answer that goes on until the context is full, and waits for its first words.
    pub(crate) async fn keep_busy(&self) -> Events {
        let mut events = self.stream("/completion", json!({ "prompt": "Once", "ignore_eos": true })).await;
        events.next().await.unwrap();
        events
    }

    pub(crate) async fn slots(&self) -> Vec<Value> {
        serde_json::from_value(self.get("/slots").await.json()).unwrap()
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        exposition::parse(&self.get("/metrics").await.text)[name]
    }

    /// Tokens that were generated for all who asked.
    pub(crate) async fn generated(&self) -> f64 {
        self.metric("llamacpp:tokens_predicted_total").await
    }

    /// Waits until the condition holds.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        for _ in 0..3_000 {
            if condition().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {what}");
    }
}

/// The object without what differs from run to run.
pub(crate) fn steady(mut object: Value) -> Value {
    for name in ["id", "created", "timings"] {
        if object.get(name).is_some() {
            object[name] = json!("…");
        }
    }
    object
}
