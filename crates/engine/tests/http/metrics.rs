//! `/metrics`: every event is counted, once, as what it is.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::json;

use super::client::request;
use super::exposition::parse;
use super::server::Server;

async fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let reply = server.get("/metrics").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    parse(&reply.text)
}

/// What is counted and not in this list is zero, or a time.
#[track_caller]
fn check(metrics: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let counts = metrics.iter().filter(|(series, _)| {
        let name = series.split('{').next().unwrap();
        (name.ends_with("_total") || name.ends_with("_count"))
            && !name.contains("seconds_total")
            && !name.contains("bitnet_cpu")
    });
    let mut counts: Vec<(&str, f64)> = counts.map(|(series, value)| (series.as_str(), *value)).collect();
    counts.retain(|(_, value)| *value != 0.0);
    let mut expected = expected.to_vec();
    expected.sort_by_key(|(series, _)| *series);
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn each_token_and_each_time_of_an_answer_is_counted() {
    let server = Server::start(&["--alias", "tiny"]).await;
    let before = scrape(&server).await;
    check(&before, &[]);
    assert_eq!((before["bitnet_ready"], before["bitnet_slots_busy"]), (1.0, 0.0));
    assert!(before["bitnet_slots"] >= 1.0 && before["bitnet_queue_limit"] == 32.0);
    let build = before.keys().find(|series| series.starts_with("bitnet_build_info")).unwrap();
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\",model=\"tiny\",isa=");
    assert!(build.contains(version), "{build}");

    let body = json!({ "prompt": [5, 6, 7, 8], "n_predict": 10, "ignore_eos": true });
    let answer = server.ask("/completion", &body).await;
    assert_eq!(answer["timings"]["predicted_n"], 10);
    let once = scrape(&server).await;
    check(
        &once,
        &[
            ("llamacpp:prompt_tokens_total", 4.0),
            ("llamacpp:tokens_predicted_total", 10.0),
            ("llamacpp:n_decode_total", 10.0),
            ("bitnet_time_to_first_token_seconds_count", 1.0),
            ("bitnet_token_gap_seconds_count", 9.0),
            ("bitnet_queue_seconds_count", 1.0),
            ("bitnet_prefill_seconds_count", 1.0),
            ("bitnet_request_seconds_count", 1.0),
            (r#"bitnet_requests_total{outcome="length"}"#, 1.0),
        ],
    );
    assert_eq!((once["llamacpp:n_tokens_max"], once["llamacpp:n_busy_slots_per_decode"]), (14.0, 1.0));
    let times = ["bitnet_time_to_first_token", "bitnet_token_gap", "bitnet_prefill"];
    let sum = |name: &str| once[&format!("{name}_seconds_sum")];
    assert!(times.iter().all(|name| sum(name) > 0.0 && sum(name) < sum("bitnet_request")), "{once:?}");
    assert_eq!(once["llamacpp:tokens_predicted_seconds_total"], sum("bitnet_token_gap"));
    for speed in ["llamacpp:prompt_tokens_seconds", "llamacpp:predicted_tokens_seconds"] {
        assert!(once[speed] > 0.0, "{speed}");
    }

    let again = server.ask("/completion", &body).await;
    let twice = scrape(&server).await;
    let cached = again["timings"]["cache_n"].as_f64().unwrap();
    assert!(cached > 0.0);
    assert_eq!(twice["bitnet_cached_tokens_total"], cached);
    assert_eq!(twice["llamacpp:prompt_tokens_total"], 8.0 - cached);
}

#[tokio::test]
async fn an_answer_is_counted_by_its_end() {
    let server = Server::start(&["--isa", "scalar"]).await;
    // 1801 is <|eot_id|>: make it the only choice.
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "logit_bias": { "1801": 100 } });
    server.ask("/v1/chat/completions", &body).await;
    server.ask("/completion", &json!({ "prompt": [5], "n_predict": 0 })).await;
    drop(server.keep_busy().await);
    let cancelled = r#"bitnet_requests_total{outcome="cancelled"}"#;
    server.until("cancelled", async || scrape(&server).await[cancelled] == 1.0).await;
    let metrics = scrape(&server).await;
    assert_eq!(metrics[r#"bitnet_requests_total{outcome="stop"}"#], 1.0);
    assert_eq!(metrics[r#"bitnet_requests_total{outcome="length"}"#], 1.0);
    assert_eq!(metrics["bitnet_request_seconds_count"], 3.0);
    assert_eq!(metrics["bitnet_time_to_first_token_seconds_count"], 2.0, "one answer has no token");
}

#[tokio::test]
async fn what_waits_and_what_is_computed_shows_while_it_does() {
    let server = Server::start(&["--isa", "scalar", "--parallel", "1", "--queue", "1"]).await;
    let _running = server.keep_busy().await;
    let body = json!({ "prompt": "Once", "n_predict": 1 });
    let _waiting = server.stream("/completion", body.clone()).await;
    assert_eq!(server.post("/completion", &body).await.status, StatusCode::TOO_MANY_REQUESTS);
    let metrics = scrape(&server).await;
    for (series, value) in [
        ("llamacpp:requests_processing", 1.0),
        ("llamacpp:requests_deferred", 1.0),
        ("bitnet_slots_busy", 1.0),
        ("bitnet_queue_limit", 1.0),
        (r#"bitnet_requests_refused_total{reason="queue_full"}"#, 1.0),
    ] {
        assert_eq!(metrics[series], value, "{series}");
    }
}

#[tokio::test]
async fn a_refusal_is_counted_by_its_reason() {
    let server = Server::start(&["--api-key", "secret", "--max-body-bytes", "2000", "-c", "32"]).await;
    let ask = async |method: &str, path: &str, headers: &[(&'static str, &'static str)], body: &str| {
        let mut request = request(method, path, body.to_owned());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        server.send(request).await
    };
    let key = ("authorization", "Bearer secret");
    let long = json!({ "prompt": vec![5; 40] }).to_string();
    for (method, path, headers, body, status) in [
        ("POST", "/completion", &[][..], "{}", 401),
        ("GET", "/metrics", &[], "", 401),
        ("GET", "/health", &[("origin", "https://evil.example")], "", 403),
        ("POST", "/completion", &[key], &*"x".repeat(2001), 413),
        ("POST", "/completion", &[key], &long, 400),
        ("POST", "/completion", &[key], "{", 400),
        ("GET", "/nothing", &[key], "", 404),
        ("DELETE", "/health", &[key], "", 405),
    ] {
        assert_eq!(ask(method, path, headers, body).await.status, status, "{method} {path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask("GET", path, &[], "").await.status, 200, "{path} needs no key");
    }
    let metrics = parse(&ask("GET", "/metrics", &[key], "").await.text);
    let of = |reason: &str| metrics[&format!("bitnet_requests_refused_total{{reason=\"{reason}\"}}")];
    for (reason, number) in [
        ("unauthorized", 2.0),
        ("forbidden", 1.0),
        ("too_large", 1.0),
        ("too_long", 1.0),
        ("invalid", 1.0),
        ("not_found", 2.0),
        ("queue_full", 0.0),
    ] {
        assert_eq!(of(reason), number, "{reason}");
    }
}
