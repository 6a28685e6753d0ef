//! What cannot be answered is refused with a reason, in OpenAI's shape.

use e2e::{Events, Reply, busy_engine, engine, get, post, web};
use serde_json::{Value, json};

const ROUTES: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/completion"];

/// The error of a refusal, which has all that OpenAI's clients look for.
fn error(reply: &Reply, status: u16) -> &Value {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = &reply.body["error"];
    for field in ["message", "type", "param", "code"] {
        assert!(error.get(field).is_some(), "{field} is missing: {reply:?}");
    }
    error
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    let engine = engine(&["--ctx-size", "256"]).await;
    let text = "one two three ".repeat(200);
    for (route, body) in [
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": text}]})),
        ("/v1/completions", json!({"prompt": text})),
        ("/completion", json!({"prompt": text, "stream": true})),
    ] {
        let reply = post(&format!("{}{route}", engine.url), body).await;
        let error = error(&reply, 400);
        assert_eq!(error["type"], "exceed_context_size_error");
        assert_eq!(error["n_ctx"], 256);
        assert!(error["n_prompt_tokens"].as_u64().expect("a number") > 256, "{error}");
    }

    let web = web(&engine.url).await;
    let reply = post(&format!("{}/chat", web.url), json!({"message": text})).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(
        reply.body["error"]["message"].as_str().is_some_and(|message| message.contains("256")),
        "{reply:?}"
    );
}

#[tokio::test]
async fn malformed_json_is_a_bad_request() {
    let engine = engine(&[]).await;
    let web = web(&engine.url).await;
    for body in
        ["", "{", "[]", "{\"messages\": 1}", "\u{0}", "{\"prompt\": \"\\ud800\"}", &"[".repeat(100_000)]
    {
        for route in ROUTES {
            error(&post(&format!("{}{route}", engine.url), body).await, 400);
        }
        let reply = post(&format!("{}/chat", web.url), body).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.body["error"]["message"].is_string(), "{reply:?}");
    }
}

#[tokio::test]
async fn a_route_that_does_not_exist_is_not_found() {
    let engine = engine(&[]).await;
    error(&get(&format!("{}/v1/nothing", engine.url)).await, 404);
}

#[tokio::test]
async fn an_engine_whose_queue_is_full_says_so() {
    let engine = busy_engine(&["--temp", "0"]).await;
    let url = format!("{}/v1/chat/completions", engine.url);
    let body = |stream| json!({"messages": [{"role": "user", "content": "Hello"}], "stream": stream});
    let mut stream = Events::of(&url, body(true)).await;
    stream.next().await.expect("a first chunk");
    error(&post(&url, body(false)).await, 429);
}
