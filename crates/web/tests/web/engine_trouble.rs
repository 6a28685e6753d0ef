//! `POST /chat` when the engine is late, full, broken or gone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_engine::{FakeEngine, Reply, Step, chunk, end, text};
use crate::web::Web;

const LOADING: Reply = Reply::Status(503, &[], r#"{"error":{"message":"Loading model","code":503}}"#);

const STOPPING: Reply = Reply::Status(
    503,
    &[("retry-after", "1")],
    r#"{"error":{"message":"this server is stopping","type":"unavailable_error","param":null,"code":"draining"}}"#,
);

fn greeting() -> Reply {
    Reply::Stream(vec![text("Hello"), end("stop")])
}

#[tokio::test]
async fn a_loading_engine_is_waited_for() {
    let engine = FakeEngine::start([LOADING, LOADING, greeting()]).await;
    let web = Web::before(&engine);
    assert_eq!(
        web.get("/status").await.json::<Value>().await.unwrap(),
        json!({"engine": "loading", "download": null, "demo_notice": null})
    );
    assert_eq!(web.get("/ready").await.status(), 503);

    let mut answer = web.ask("Hi").await;
    answer.expect("status", json!({"state": "loading"})).await;
    answer.expect("status", json!({"state": "loading"})).await;
    answer.expect("status", json!({"state": "ready"})).await;
    answer.expect_text("Hello").await;
    assert_eq!(
        web.get("/status").await.json::<Value>().await.unwrap(),
        json!({"engine": "ready", "download": null, "demo_notice": null})
    );
    assert_eq!(web.get("/ready").await.status(), 200);
}

#[tokio::test]
async fn an_engine_that_restarts_is_found_again() {
    let engine = FakeEngine::start([greeting()]).await;
    let address = engine.address;
    let web = Web::before(&engine);
    web.ask("Hi").await.expect_text("Hello").await;
    drop(engine);

    assert_eq!(
        web.get("/status").await.json::<Value>().await.unwrap(),
        json!({"engine": "unreachable", "download": null, "demo_notice": null})
    );
    let mut answer = web.ask("Hi").await;
    answer.expect("status", json!({"state": "unreachable"})).await;

    let _engine = FakeEngine::start_at(address, [greeting()]).await;
    let piece = loop {
        let (name, data) = answer.next().await.unwrap();
        if name != "status" {
            break data;
        }
    };
    assert_eq!(piece, json!({"text": "Hello"}));
}

#[tokio::test]
async fn in_the_place_of_an_engine_that_stops_another_one_is_waited_for() {
    let engine = FakeEngine::start([STOPPING, LOADING, greeting()]).await;
    let web = Web::before(&engine);
    let mut answer = web.ask("Hi").await;
    answer.expect("status", json!({"state": "stopping"})).await;
    answer.expect("status", json!({"state": "loading"})).await;
    answer.expect("status", json!({"state": "ready"})).await;
    answer.expect_text("Hello").await;
}

#[tokio::test]
async fn an_engine_that_stops_is_told_when_no_other_comes() {
    let error = json!({"error": {"message": "the server is stopping", "type": "unavailable_error", "param": null, "code": "draining"}});
    let cut_off = Reply::Stream(vec![text("Hel"), Step::Wait(Duration::from_millis(50)), chunk(&error)]);
    let engine = FakeEngine::start([STOPPING, cut_off]).await;
    let web = Web::start(engine.address, &["--engine-wait", "0"]);
    let response = web.post(&json!({"message": "Hi"})).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "engine_stopping");

    let mut answer = web.ask("Hi").await;
    answer.expect_text("Hel").await;
    assert_eq!(answer.error().await.0, "engine_stopping");
}

#[tokio::test]
async fn waiting_for_the_engine_ends() {
    let engine = FakeEngine::start([]).await;
    let address = engine.address;
    drop(engine);
    let web = Web::start(address, &["--engine-wait", "1"]);
    let (code, _) = web.ask("Hi").await.error().await;
    assert_eq!(code, "engine_unreachable");

    let web = Web::start(address, &["--engine-wait", "0"]);
    let response = web.post(&json!({"message": "Hi"})).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "engine_unreachable");
}

#[tokio::test]
async fn a_busy_engine_says_when_to_come_back() {
    let crowd =
        r#"{"error":{"message":"busy","type":"unavailable_error","param":null,"code":"too_much_text"}}"#;
    let busy = [(429, "{}"), (503, crowd)]
        .map(|(status, body)| Reply::Status(status, &[("retry-after", "7")], body));
    let engine = FakeEngine::start(busy).await;
    let web = Web::before(&engine);
    let response = web.post(&json!({"message": "Hi"})).await;
    assert_eq!(response.status(), 429);
    assert_eq!(
        web.post(&json!({"message": "Hi"})).await.status(),
        429,
        "not waited for as if it were loading"
    );
    assert_eq!(response.headers()["retry-after"], "7");
    let error = response.json::<Value>().await.unwrap();
    assert_eq!(error["error"]["retry_after"], 7);
    assert!(error["error"]["message"].as_str().unwrap().contains("7 seconds"), "{error}");
}

#[tokio::test]
async fn a_chat_that_is_too_long_is_told_with_both_numbers() {
    let body = r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error",
        "n_prompt_tokens":5000,"n_ctx":4096}}"#;
    let engine = FakeEngine::start([Reply::Status(400, &[], body)]).await;
    let web = Web::before(&engine);
    let response = web.post(&json!({"message": "Hi"})).await;
    assert_eq!(response.status(), 400);
    let error = response.json::<Value>().await.unwrap();
    assert_eq!(error["error"]["code"], "context_exceeded");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("5000") && message.contains("4096") && message.contains("new chat"),
        "{message}"
    );
}

#[tokio::test]
async fn a_refusal_keeps_the_engines_words() {
    let engine = FakeEngine::start([
        Reply::Status(401, &[], r#"{"error":{"message":"Invalid API Key"}}"#),
        Reply::Status(500, &[], "<html>"),
    ])
    .await;
    let web = Web::before(&engine);
    for words in ["Invalid API Key", "status 500"] {
        let response = web.post(&json!({"message": "Hi"})).await;
        assert_eq!(response.status(), 502);
        let error = response.json::<Value>().await.unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(words), "{error}");
    }
}

#[tokio::test]
async fn trouble_in_mid_answer_is_told_after_the_pieces_that_arrived() {
    let error = json!({"error": {"message": "out of memory", "type": "server_error", "code": 500}});
    for (trouble, expected) in [
        (vec![chunk(&error)], "engine_error"),
        (
            vec![Step::Send(b"event: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n".to_vec())],
            "engine_error",
        ),
        (vec![Step::Break], "engine_lost"),
        (vec![], "engine_ended_early"),
        (vec![Step::Send(b"data: {\"choices\"".to_vec())], "engine_ended_early"),
        (vec![Step::Send(b"data: gibberish\n\n".to_vec())], "engine_malformed"),
        (vec![Step::Send(b"data: \xff\xfe\n\n".to_vec())], "engine_malformed"),
        (vec![Step::Send(vec![b'x'; 1 << 20])], "answer_too_long"),
        (
            vec![Step::Send([b"data: ", [b'x'; 128 << 10].as_slice(), b"\n"].concat().repeat(300))],
            "answer_too_long",
        ),
    ] {
        // The pause lets the piece leave the engine before the connection breaks.
        let steps = [text("Hel"), Step::Wait(Duration::from_millis(50))].into_iter().chain(trouble).collect();
        let engine = FakeEngine::start([Reply::Stream(steps)]).await;
        let web = Web::before(&engine);
        let mut answer = web.ask("Hi").await;
        answer.expect_text("Hel").await;
        assert_eq!(answer.error().await.0, expected);
    }
}

#[tokio::test]
async fn a_silent_engine_is_given_up() {
    let mut engine = FakeEngine::start([Reply::Stream(vec![text("Hel"), Step::Hang]), Reply::Nothing]).await;
    let web = Web::start(engine.address, &["--engine-silence", "1"]);
    let mut answer = web.ask("Hi").await;
    answer.expect_text("Hel").await;
    assert_eq!(answer.error().await.0, "engine_silent");
    engine.cancelled().await;

    let response = web.post(&json!({"message": "Hi"})).await;
    assert_eq!(response.status(), 504);
    engine.cancelled().await;
    assert_eq!(engine.left(), 0);
}
