//! A client that goes away takes its work with it: observed on an engine that refuses whatever comes while it is busy.

use std::time::{Duration, Instant};

use e2e::{Events, Server, busy_engine, post, web, within};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Takes seconds on a busy engine, against milliseconds for one token.
fn long_request() -> Value {
    json!({
        "prompt": "The kettle sings",
        "temperature": 0,
        "max_tokens": 200,
        "ignore_eos": true,
    })
}

fn completions(engine: &Server) -> String {
    format!("{}/v1/completions", engine.url)
}

/// The status that a request for one token gets now.
async fn status(engine: &Server) -> u16 {
    post(&completions(engine), json!({"prompt": "The", "max_tokens": 1})).await.status
}

/// How long a long request takes when nobody interrupts it.
async fn uninterrupted(engine: &Server) -> Duration {
    let start = Instant::now();
    let reply = post(&completions(engine), long_request()).await;
    assert_eq!(reply.body["usage"]["completion_tokens"], 200, "{reply:?}");
    start.elapsed()
}

/// Fails unless the engine takes the next request long before an uninterrupted one would have been over.
async fn soon_free(engine: &Server, uninterrupted: Duration) {
    let start = Instant::now();
    let asking = async {
        while status(engine).await == 429 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within("the engine is free", asking).await;
    let waited = start.elapsed();
    assert!(waited < uninterrupted / 2, "{waited:?}, and uninterrupted {uninterrupted:?}");
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_frees_the_engine() {
    let engine = busy_engine(&[]).await;
    let uninterrupted = uninterrupted(&engine).await;

    let mut request = long_request();
    request["stream"] = json!(true);
    let mut stream = Events::of(&completions(&engine), request).await;
    stream.next().await.expect("a first chunk");
    assert_eq!(status(&engine).await, 429);

    drop(stream);
    soon_free(&engine, uninterrupted).await;
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_a_whole_answer_frees_the_engine() {
    let engine = busy_engine(&[]).await;
    let uninterrupted = uninterrupted(&engine).await;

    let url = completions(&engine);
    // Until it is accepted, it may itself be the one that is refused.
    let request = tokio::spawn(async move { while post(&url, long_request()).await.status == 429 {} });
    let busy = async { while status(&engine).await != 429 {} };
    within("the engine is busy", busy).await;

    request.abort();
    soon_free(&engine, uninterrupted).await;
}

#[tokio::test]
async fn a_browser_that_leaves_frees_the_engine() {
    let engine = busy_engine(&["--temp", "0"]).await;
    let uninterrupted = uninterrupted(&engine).await;
    let web = web(&engine.url).await;

    let mut stream = Events::of(&format!("{}/chat", web.url), json!({"message": "What is the sea?"})).await;
    stream.next().await.expect("a first event");
    assert_eq!(status(&engine).await, 429);

    drop(stream);
    soon_free(&engine, uninterrupted).await;
}
