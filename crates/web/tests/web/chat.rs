//! `POST /chat` when all goes well, and what it refuses.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_engine::{FakeEngine, Reply, Step, chunk, end, text};
use crate::web::Web;

#[tokio::test]
async fn pieces_arrive_in_order_and_unmodified() {
    let pieces = ["Hello", " ", "<b>wörld</b>", "\n\n", "a \"quote\"", " \u{2028}", "👩‍👩‍👧"];
    let mut steps: Vec<_> = pieces.iter().copied().map(text).collect();
    steps.insert(0, chunk(&json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]})));
    steps.push(end("stop"));
    let engine = FakeEngine::start([Reply::Stream(steps)]).await;
    let web = Web::before(&engine);

    let mut answer = web.ask("Hi").await;
    for piece in pieces {
        answer.expect_text(piece).await;
    }
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
    answer.expect("done", json!({"finish_reason": "stop", "usage": usage})).await;
    answer.expect_end().await;
}

#[tokio::test]
async fn an_emoji_split_over_network_packets_stays_whole() {
    let Step::Send(bytes) = text("a 👋🏽 b") else { unreachable!() };
    let mut steps = Vec::new();
    for byte in bytes {
        steps.push(Step::Send(vec![byte]));
        steps.push(Step::Wait(Duration::from_millis(1)));
    }
    steps.push(end("stop"));
    let engine = FakeEngine::start([Reply::Stream(steps)]).await;
    let web = Web::before(&engine);
    web.ask("Hi").await.expect_text("a 👋🏽 b").await;
}

#[tokio::test]
async fn each_piece_is_passed_on_before_the_next_exists() {
    let engine = FakeEngine::start([Reply::Stream(vec![text("first"), Step::Hang])]).await;
    let web = Web::before(&engine);
    web.ask("Hi").await.expect_text("first").await;
}

#[tokio::test]
async fn the_limit_is_named_as_the_reason() {
    let engine = FakeEngine::start([Reply::Stream(vec![text("cut"), end("length")])]).await;
    let web = Web::before(&engine);
    let mut answer = web.ask("Hi").await;
    answer.expect_text("cut").await;
    let (_, done) = answer.next().await.unwrap();
    assert_eq!(done["finish_reason"], "length");
}

#[tokio::test]
async fn the_engine_is_asked_in_the_openai_format() {
    let mut engine = FakeEngine::start(vec![Reply::Stream(vec![end("stop")]); 2]).await;
    let web = Web::start(engine.address, &["--system-prompt", "Be brief.", "--chat-model", "bitnet"]);

    web.post(&json!({"message": "Hi"})).await;
    let system = json!({"role": "system", "content": "Be brief."});
    let expected = json!({
        "model": "bitnet",
        "messages": [system, {"role": "user", "content": "Hi"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(engine.request().await, expected);

    let turns = json!([
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
    ]);
    web.post(&json!({"messages": turns})).await;
    assert_eq!(engine.request().await["messages"], json!([system, turns[0], turns[1], turns[2]]));
}

#[tokio::test]
async fn the_engine_learns_which_request_it_works_for_and_so_does_the_client() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut engine = FakeEngine::start(vec![Reply::Stream(vec![text("Hi"), end("stop")]); 2]).await;
    let web = Web::before(&engine);
    let request = web.request("POST", "/chat").json(&json!({"message": "Hi"}));
    let request = request.header("x-request-id", "call-17").header("traceparent", parent);
    let response = request.header("cookie", "a=b").send().await.unwrap();
    let (headers, _) = engine.request_with_headers().await;
    assert_eq!(
        (&headers["x-request-id"], &headers["traceparent"]),
        (&"call-17".parse().unwrap(), &parent.parse().unwrap())
    );
    assert_eq!(response.headers()["x-request-id"], "call-17");
    assert!(!headers.contains_key("cookie"));

    let response = web.post(&json!({"message": "Hi"})).await;
    let (headers, _) = engine.request_with_headers().await;
    assert_eq!(headers["x-request-id"].len(), 32);
    assert_eq!(response.headers()["x-request-id"], headers["x-request-id"]);
    assert!(!headers.contains_key("traceparent"));
    assert!(web.get("/nothing").await.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn a_browser_that_leaves_in_mid_answer_cancels_the_engine() {
    let mut engine = FakeEngine::start([Reply::Stream(vec![text("first"), Step::Hang])]).await;
    let web = Web::before(&engine);
    let mut answer = web.ask("Hi").await;
    answer.expect_text("first").await;
    drop(answer);
    engine.cancelled().await;
}

#[tokio::test]
async fn a_browser_that_leaves_before_the_first_byte_cancels_the_engine() {
    // The first time while the response has not begun, the second time after it has.
    for patience in [Duration::from_millis(200), Duration::from_millis(2500)] {
        let mut engine = FakeEngine::start([Reply::Nothing]).await;
        let web = Web::before(&engine);
        let url = web.url("/chat");
        let browser = tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let response = client.post(url).json(&json!({"message": "Hi"})).send().await.unwrap();
            response.text().await
        });
        engine.request().await;
        tokio::time::sleep(patience).await;
        browser.abort();
        engine.cancelled().await;
    }
}

#[tokio::test]
async fn what_is_not_a_conversation_is_refused_with_the_reason() {
    let engine = FakeEngine::start([]).await;
    let web = Web::before(&engine);
    for (body, reason) in [
        ("{", "not valid JSON"),
        (r#"{"messages": [{"role": "robot", "content": "x"}]}"#, "messages[0].role"),
        (r#"{"message": ""}"#, "message is empty"),
    ] {
        let request = web.request("POST", "/chat").header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "invalid_request");
        assert!(error["error"]["message"].as_str().unwrap().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let engine = FakeEngine::start([]).await;
    let web = Web::before(&engine);
    let response = web.post(&json!({"message": "x".repeat(2 << 20)})).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "body_too_large");
}

#[tokio::test]
async fn only_json_is_read() {
    let engine = FakeEngine::start([]).await;
    let web = Web::before(&engine);
    let response = web.request("POST", "/chat").body(r#"{"message": "Hi"}"#).send().await.unwrap();
    assert_eq!(response.status(), 415);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let engine = FakeEngine::start([]).await;
    let web = Web::before(&engine);
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://elsewhere.example")] {
        let request = web.request("POST", "/chat").header(name, value).json(&json!({"message": "Hi"}));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "cross_site");
    }
}

#[tokio::test]
async fn a_page_behind_a_proxy_that_changes_host_is_told_the_setting_and_works_with_it() {
    let engine = FakeEngine::start([Reply::Stream(vec![text("Hello"), end("stop")])]).await;
    let ask = async |web: &Web, headers: &[(&str, &str)]| {
        let request = web.request("POST", "/chat").json(&json!({"message": "Hi"}));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    };
    let proxied = [("origin", "http://chat.lan"), ("host", "web:8080"), ("x-forwarded-host", "chat.lan")];

    let web = Web::before(&engine);
    let response = ask(&web, &proxied).await;
    assert_eq!(response.status(), 403);
    let error = response.json::<Value>().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    for part in ["http://chat.lan", "web:8080", "PUBLIC_ORIGIN"] {
        assert!(message.contains(part), "{message}");
    }

    let web = Web::start(engine.address, &["--public-origin", "http://chat.lan"]);
    assert_eq!(ask(&web, &proxied).await.status(), 200);
    assert_eq!(ask(&web, &[("origin", "http://evil.example"), ("host", "web:8080")]).await.status(), 403);
    let from_elsewhere = [("sec-fetch-site", "cross-site"), ("origin", "http://chat.lan")];
    assert_eq!(ask(&web, &from_elsewhere).await.status(), 403);
}

#[tokio::test]
async fn a_running_answer_is_finished_before_the_server_stops() {
    let steps = vec![text("one"), Step::Wait(Duration::from_millis(300)), text("two"), end("stop")];
    let engine = FakeEngine::start([Reply::Stream(steps)]).await;
    let mut web = Web::before(&engine);
    let mut answer = web.ask("Hi").await;
    answer.expect_text("one").await;
    web.begin_shutdown();
    answer.expect_text("two").await;
    assert_eq!(answer.next().await.unwrap().0, "done");
    web.ended().await;
}

#[tokio::test]
async fn an_answer_without_end_does_not_keep_the_server_from_stopping() {
    let engine = FakeEngine::start([Reply::Stream(vec![text("one"), Step::Hang])]).await;
    let mut web = Web::start(engine.address, &["--drain-timeout", "0"]);
    let mut answer = web.ask("Hi").await;
    answer.expect_text("one").await;
    web.begin_shutdown();
    web.ended().await;
}
