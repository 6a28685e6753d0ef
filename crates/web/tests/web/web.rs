//! The program under test, and a browser's view of it.

use std::net::SocketAddr;

use bitnet_web::config::Config;
use bitnet_web::listener::Listener;
use bitnet_web::server;
use clap::Parser;
use eventsource_stream::Eventsource;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake_engine::{FakeEngine, in_time};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

pub(crate) struct Web {
    address: SocketAddr,
    client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Web {
    pub(crate) fn before(engine: &FakeEngine) -> Self {
        Self::start(engine.address, &[])
    }

    pub(crate) fn start(engine: SocketAddr, flags: &[&str]) -> Self {
        let engine = format!("http://{engine}");
        let mut arguments = vec!["web", "--listen", "127.0.0.1:0", "--engine-url", &engine];
        arguments.extend(flags);
        let config = Cli::parse_from(arguments).config;
        let listener = Listener::bind(&config.addresses()).unwrap();
        let address = listener.addresses().unwrap()[0];
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(server::run(config, listener, shutdown));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, client, stop: Some(stop), task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        in_time(self.client.get(self.url(path)).send()).await.unwrap()
    }

    /// A request that a test may change before it sends it.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(crate) async fn post(&self, body: &Value) -> reqwest::Response {
        in_time(self.request("POST", "/chat").json(body).send()).await.unwrap()
    }

    /// Asks one question and returns the events of the answer as they come.
    pub(crate) async fn ask(&self, question: &str) -> Answer {
        let response = self.post(&json!({"message": question})).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        Answer::new(response.bytes_stream())
    }

    pub(crate) fn begin_shutdown(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn ended(self) {
        in_time(self.task).await.unwrap().unwrap();
    }
}

/// The events of one answer.
pub(crate) struct Answer(BoxStream<'static, (String, Value)>);

impl Answer {
    fn new(bytes: impl Stream<Item = reqwest::Result<bytes::Bytes>> + Send + 'static) -> Self {
        let events = bytes.eventsource().map(|event| {
            let event = event.unwrap();
            (event.event, serde_json::from_str(&event.data).unwrap())
        });
        Self(events.boxed())
    }

    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        in_time(self.0.next()).await
    }

    /// The next event, which must be this one.
    pub(crate) async fn expect(&mut self, name: &str, data: Value) {
        assert_eq!(self.next().await, Some((name.to_owned(), data)));
    }

    pub(crate) async fn expect_text(&mut self, text: &str) {
        self.expect("delta", json!({"text": text})).await;
    }

    /// Skips to the error, which must be the last event, and returns its code and message.
    pub(crate) async fn error(&mut self) -> (String, String) {
        while let Some((name, data)) = self.next().await {
            if name == "error" {
                assert_eq!(self.next().await, None);
                let field = |key: &str| data["error"][key].as_str().unwrap().to_owned();
                return (field("code"), field("message"));
            }
        }
        panic!("the answer ended without an error");
    }

    pub(crate) async fn expect_end(&mut self) {
        assert_eq!(self.next().await, None);
    }
}
