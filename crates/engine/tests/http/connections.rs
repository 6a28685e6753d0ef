//! Connections that ask for nothing, that leave in unusual ways, or are refused before they have said everything.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::client::{Reply, request};
use super::lifecycle::{endless_model, is_idle};
use super::raw::{Raw, ask};
use super::refusals::error;
use super::server::{MODEL, Server};

const HALF_A_HEAD: &str = "GET /health HTTP/1.1\r\nhost: local";

/// Opens connections that never become a request.
async fn idle(server: &Server, number: usize) -> Vec<Raw> {
    let mut all = Vec::new();
    for index in 0..number {
        let mut raw = Raw::open(server).await;
        if index % 2 == 1 {
            raw.send(HALF_A_HEAD).await;
        }
        all.push(raw);
    }
    all
}

#[tokio::test]
async fn the_connection_that_is_idle_for_longest_gives_way_to_the_next() {
    let server = Server::start(&["--max-connections", "4"]).await;
    let mut first = Raw::open(&server).await;
    first.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let _idle = idle(&server, 20).await;
    assert_eq!(server.get("/v1/models").await.status, StatusCode::OK);
    let answer = String::from_utf8(first.rest().await).unwrap();
    assert!(answer.ends_with("bitnet-engine is running\n"), "{answer}");
}

#[tokio::test]
async fn a_request_keeps_its_connection_and_beside_all_of_them_health_still_answers() {
    let server = Server::start(&["--isa", "scalar", "--max-connections", "2", "--queue", "4"]).await;
    let running = server.keep_busy().await;
    let body = json!({ "prompt": "Once", "n_predict": 3 });
    let waiting = server.stream("/completion", body.clone()).await;
    let _idle = idle(&server, 100).await;
    for path in ["/health", "/v1/health", "/"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK);
    }
    let refused = server.post("/completion", &body).await;
    assert_eq!(error(&refused, 503)["code"], "too_many_connections");
    assert_eq!((refused.header("retry-after"), refused.header("connection")), ("1", "close"));
    drop(running);
    let (chunks, _) = waiting.rest().await;
    assert_eq!(chunks.last().unwrap()["stop"], true);
    assert_eq!(server.post("/completion", &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_leaves_after_a_stray_byte_is_noticed() {
    let server = Server::start(&["--isa", "scalar"]).await;
    for stream in [false, true] {
        let body = json!({ "prompt": "Once", "ignore_eos": true, "stream": stream }).to_string();
        let mut client = Raw::open(&server).await;
        let head =
            format!("POST /completion HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        client.send(head + &body + "\n").await;
        server.until("busy", async || !is_idle(&server).await).await;
        // What comes later stays in the kernel.
        client.send("more").await;
        drop(client);
        server.until("idle", async || is_idle(&server).await).await;
        let computed = server.slot().await["n_past"].as_u64().unwrap();
        assert!(computed < 1000, "the answer was cut short, after {computed} tokens");
    }
}

/// Sends a large body slowly, whatever the server says meanwhile, and only then looks for the answer.
async fn refused_while_sending(server: &Server, head: &str, status: u16) -> Reply {
    const BODY: usize = 3 << 20;
    let mut raw = Raw::open(server).await;
    raw.send(format!("{head}\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n")).await;
    for _ in 0..48 {
        raw.send([b' '; BODY / 48]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reply = raw.answer().await;
    error(&reply, status);
    reply
}

#[tokio::test]
async fn early_refusals_reach_a_client_that_is_still_sending() {
    let server = Server::start(&["--api-key", "secret", "--max-body-bytes", "2000"]).await;
    let key = "authorization: bearer secret";
    for (head, status) in [
        ("POST /completion HTTP/1.1".to_owned(), 401),
        ("POST /completion HTTP/1.1\r\norigin: https://evil.example".to_owned(), 403),
        (format!("POST /nothing HTTP/1.1\r\n{key}"), 404),
        (format!("POST /health HTTP/1.1\r\n{key}"), 405),
        (format!("POST /completion HTTP/1.1\r\n{key}"), 413),
    ] {
        refused_while_sending(&server, &head, status).await;
    }
    let server = Server::start_with_model(&endless_model("sending"), &[]).await;
    refused_while_sending(&server, "POST /completion HTTP/1.1", 503).await;
}

#[tokio::test]
async fn at_the_end_nobody_waits_for_requests_that_are_not_complete() {
    let mut server = Server::start(&["--shutdown-timeout", "600"]).await;
    let mut half_a_head = Raw::open(&server).await;
    half_a_head.send(HALF_A_HEAD).await;
    let mut half_a_body = Raw::open(&server).await;
    half_a_body
        .send("POST /completion HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"prompt\"")
        .await;
    // Behind these on the same way, so they have arrived.
    server.get("/health").await;
    server.stop();
    server.ended().await.unwrap();
    drop((half_a_head, half_a_body));
}
