//! Requests and server-sent events, as any client would do them.

use std::pin::Pin;

use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures_util::{Stream, StreamExt as _};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::program::within;

/// An answer that came as a whole.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// The body; text that is not JSON as a JSON string.
    pub body: Value,
}

/// `GET url`.
pub async fn get(url: &str) -> Reply {
    whole(client().get(url)).await
}

/// `POST url` with a body that claims to be JSON.
pub async fn post(url: &str, body: impl ToString) -> Reply {
    whole(json(url, &body)).await
}

async fn whole(request: RequestBuilder) -> Reply {
    let response = send(request).await;
    let status = response.status().as_u16();
    let text = within("the body", response.text()).await.expect("the body arrives whole");
    Reply { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// An event stream that is being read; dropping it closes the connection.
pub struct Events(Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<reqwest::Error>>>>>);

impl Events {
    /// `POST url` with a body that claims to be JSON; panics unless a stream of events answers.
    pub async fn of(url: &str, body: impl ToString) -> Self {
        let response = send(json(url, &body)).await;
        let kind =
            response.headers().get("content-type").map(|kind| kind.to_str().expect("ASCII").to_owned());
        let streams = response.status() == 200
            && kind.as_deref().is_some_and(|kind| kind.starts_with("text/event-stream"));
        assert!(streams, "{url} answered {} {kind:?}: {:?}", response.status(), response.text().await);
        Self(Box::pin(response.bytes_stream().eventsource()))
    }

    /// The next event; none when the stream has ended properly.
    pub async fn next(&mut self) -> Option<Event> {
        within("the next event", self.0.next())
            .await
            .map(|event| event.expect("an event, complete and in UTF-8"))
    }

    /// The events that remain, as their data.
    pub async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(event) = self.next().await {
            rest.push(event.data);
        }
        rest
    }
}

fn json(url: &str, body: &impl ToString) -> RequestBuilder {
    client().post(url).header("content-type", "application/json").body(body.to_string())
}

async fn send(request: RequestBuilder) -> Response {
    within("the answer", request.send()).await.expect("the server answers")
}

/// A client of its own for each request: a connection belongs to the runtime of the test that opened it, and one that
/// is never used again closes as soon as its answer is dropped.
fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client needs nothing from outside")
}
