//! Many at once: what they share, what they do not, and who waits for whom.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::client::{Events, request, send, whole};
use super::exposition;
use super::refusals::error;
use super::server::{MODEL, Server};

const CHAT: &str = "/v1/chat/completions";

fn chat(system: &str, user: &str) -> Value {
    json!({
        "messages": [{ "role": "system", "content": system }, { "role": "user", "content": user }],
        "temperature": 0,
        "max_tokens": 4,
    })
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

async fn stream_as(server: &Server, key: &str, body: &Value) -> hyper::Response<hyper::body::Incoming> {
    let mut request = request("POST", "/completion", body.to_string());
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    send(server.address, request).await
}

#[tokio::test]
async fn a_system_prompt_is_computed_once_for_all_who_have_it() {
    let server = Server::start(&["--parallel", "4"]).await;
    let system = "You answer in one word. ".repeat(8);
    let first = server.ask(CHAT, &chat(&system, "Hi")).await;
    let bodies = ["One", "Two", "Three"].map(|user| chat(&system, user));
    let [a, b, c] = &bodies;
    let answers = tokio::join!(server.ask(CHAT, a), server.ask(CHAT, b), server.ask(CHAT, c));
    let prompt = first["usage"]["prompt_tokens"].as_u64().unwrap();
    for answer in [answers.0, answers.1, answers.2] {
        assert!(cached(&answer) + 12 > prompt, "{} of {prompt}", cached(&answer));
    }
    // The same as on a server that has nothing in its cache.
    let fresh = Server::start(&[]).await;
    let content = |answer: &Value| answer["choices"][0]["message"]["content"].clone();
    assert_eq!(content(&server.ask(CHAT, a).await), content(&fresh.ask(CHAT, a).await));
}

#[tokio::test]
async fn a_key_learns_nothing_of_what_another_has_asked() {
    let server = Server::start_with_model(MODEL, &["--api-key", "first,second"]).await;
    server.until("ready", async || server.get("/health").await.status == StatusCode::OK).await;
    let body =
        json!({ "prompt": "A secret that nobody else may guess from the time it takes", "n_predict": 1 });
    let cached_for = async |key: &str| {
        let mut request = request("POST", "/completion", body.to_string());
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        server.send(request).await.json()["timings"]["cache_n"].as_u64().unwrap()
    };
    assert_eq!(cached_for("first").await, 0);
    assert_eq!(cached_for("second").await, 0);
    assert!(cached_for("first").await > 10);
}

/// One client keeps fifty requests waiting; another one's is answered as if there were few.
#[tokio::test]
async fn a_client_with_many_requests_cannot_starve_another() {
    let flags = ["--simulate", "100", "--parallel", "2", "--queue", "8", "--api-key", "hostile,other"];
    let server = Server::start(&flags).await;
    let long = json!({ "prompt": "a", "n_predict": 400, "ignore_eos": true, "stream": true });
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..50 {
        let response = stream_as(&server, "hostile", &long).await;
        match response.status() {
            StatusCode::OK => held.push(response),
            status => {
                assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
                assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused), (10, 40), "two run and eight wait");
    // Their answers take four seconds each.
    for _ in 0..3 {
        let short = json!({ "prompt": "b", "n_predict": 5, "stream": true });
        let answer = stream_as(&server, "other", &short);
        let answer =
            tokio::time::timeout(Duration::from_secs(3), async { Events::new(answer.await).rest().await });
        let (chunks, _) = answer.await.expect("an answer while the other's still run");
        assert_eq!(chunks.last().unwrap()["stop"], true);
    }
}

#[tokio::test]
async fn the_place_in_the_queue_is_told() {
    let server = Server::start(&["--simulate", "20", "--parallel", "1"]).await;
    let _running = server.keep_busy().await;
    let mut held = Vec::new();
    for place in 0..3 {
        let body = json!({ "prompt": "a", "n_predict": 1, "stream": true });
        let waiting = send(server.address, request("POST", "/completion", body.to_string())).await;
        assert_eq!(waiting.headers()["x-queue-position"], place.to_string().as_str());
        held.push(waiting);
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let server = Server::start(&["--simulate", "10", "--parallel", "1", "--request-timeout", "1"]).await;
    let body = json!({ "prompt": "a", "n_predict": 1000, "ignore_eos": true });
    let (chunks, _) = server.stream("/completion", body.clone()).await.rest().await;
    let last = &chunks.last().unwrap()["error"];
    assert_eq!(last["code"], "request_timeout");
    assert!(last["message"].as_str().unwrap().contains("--request-timeout"), "{last}");
    assert_eq!(error(&server.post("/completion", &body).await, 504)["code"], "request_timeout");
    assert_eq!(server.metric(r#"bitnet_requests_total{outcome="timeout"}"#).await, 2.0);
}

#[tokio::test]
async fn who_waits_is_told_that_the_server_stops() {
    let mut server =
        Server::start(&["--simulate", "50", "--parallel", "1", "--shutdown-timeout", "20"]).await;
    let running =
        server.stream("/completion", json!({ "prompt": "a", "n_predict": 50, "ignore_eos": true })).await;
    let waiting = server.stream(CHAT, chat("", "Hi")).await;
    let body = chat("", "Hi").to_string();
    let not_streamed = tokio::spawn(send(server.address, request("POST", CHAT, body)));
    server.until("all are there", async || server.metric("llamacpp:requests_deferred").await == 2.0).await;
    server.stop();
    let (chunks, done) = waiting.rest().await;
    assert_eq!((&chunks.last().unwrap()["error"]["code"], done), (&json!("draining"), true));
    let reply = whole(not_streamed.await.unwrap()).await;
    assert_eq!(error(&reply, 503)["code"], "draining");
    assert_eq!(reply.header("retry-after"), "1");
    let ended = exposition::parse(&server.get("/metrics").await.text);
    let ended =
        ["stopped", "failed"].map(|end| ended[&format!(r#"bitnet_requests_total{{outcome="{end}"}}"#)]);
    assert_eq!(ended, [2.0, 0.0], "none of them is an error of the engine");
    assert_eq!(running.rest().await.0.last().unwrap()["tokens_predicted"], 50);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_simulation_answers_like_a_model_at_the_speed_that_was_asked_for() {
    let server = Server::start(&["--simulate", "200"]).await;
    assert_eq!(server.get("/v1/models").await.json()["data"][0]["id"], "simulated");
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 100 });
    let (first, second) = tokio::join!(server.ask(CHAT, &body), server.ask(CHAT, &body));
    for answer in [&first, &second] {
        assert_eq!(answer["choices"][0]["message"], first["choices"][0]["message"]);
        let speed = answer["timings"]["predicted_per_second"].as_f64().unwrap();
        assert!((20.0..210.0).contains(&speed), "{speed}");
    }
    let text = first["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("simulated"), "{text}");
    let with_logprobs = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2, "logprobs": true, "top_logprobs": 2 });
    let answer = server.ask(CHAT, &with_logprobs).await;
    assert_eq!(answer["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 2);
}
