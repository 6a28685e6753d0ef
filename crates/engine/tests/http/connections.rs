//! Connections that ask for nothing, that leave in unusual ways, or are refused before they have said everything.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::Reply;
use super::lifecycle::{is_idle, loading};
use super::raw::{Raw, ask};
use super::refusals::error;
use super::server::Server;

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
async fn one_address_does_not_push_out_another() {
    let server = Server::start(&["--max-connections", "8"]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Raw(socket.connect(server.address).await.unwrap());
    other.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let _idle = idle(&server, 100).await;
    assert_eq!(server.get("/").await.status, StatusCode::OK);
    other.send("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let answers = String::from_utf8(other.rest().await).unwrap();
    assert_eq!(answers.matches("bitnet-engine is running\n").count(), 2, "{answers}");
}

#[tokio::test]
async fn a_request_keeps_its_connection_and_beside_all_of_them_health_still_answers() {
    let server = Server::start(&["--isa", "scalar", "--max-connections", "2", "--queue", "4"]).await;
    let running = server.keep_busy().await;
    let body = json!({ "prompt": "Once", "n_predict": 3 });
    let waiting = server.stream("/completion", body.clone()).await;
    let _idle = idle(&server, 100).await;
    for path in ["/health", "/v1/health", "/", "/livez", "/readyz", "/metrics"] {
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
        let generated = server.generated().await;
        assert!(generated < 1000.0, "the answers were cut short, after {generated} tokens");
    }
}

/// Sends a large body slowly, whatever the server says meanwhile, and only then looks for the answer.
async fn refused_while_sending(server: &Server, head: &str, status: u16) -> Reply {
    const BODY: usize = 3 << 20;
    let mut raw = Raw::open(server).await;
    raw.send(format!("{head}\r\nhost: localhost\r\ncontent-length: {BODY}\r\n\r\n")).await;
    for _ in 0..48 {
        raw.send(vec![b' '; BODY / 48]).await;
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
    let server = loading().await;
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

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_with_a_sentence() {
    let server = Server::start(&[]).await;
    let large = "x".repeat(300_000);
    for (head, status, code) in [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "invalid_head"),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\ncookie: {large}\r\n\r\n"), 431, "head_too_large"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), 431, "head_too_large"),
    ] {
        assert_eq!(error(&ask(&server, head).await, status)["code"], code);
    }
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused_however_it_is_said() {
    let server = Server::start(&[]).await;
    for (target, hosts, refused) in [
        ("/health", &b"host: evil.example\r\n"[..], Some(403)),
        ("/health", b"host: evil.example\xff\r\n", Some(400)),
        ("/health", b"host: localhost\r\nhost: evil.example\r\n", Some(400)),
        ("/health", b"host: evil.example\r\nhost: localhost\r\n", Some(400)),
        ("http://evil.example/health", b"host: localhost\r\n", Some(403)),
        ("http://localhost/health", b"host: evil.example\r\n", Some(403)),
        ("http://localhost/health", b"host: localhost\r\n", None),
        ("/health", b"host: localhost\r\n", None),
    ] {
        let line = format!("GET {target} HTTP/1.1\r\nconnection: close\r\n");
        let reply = ask(&server, [line.as_bytes(), hosts, b"\r\n"].concat()).await;
        match refused {
            Some(status) => _ = error(&reply, status),
            None => assert_eq!(reply.status, StatusCode::OK),
        }
    }
}

#[tokio::test]
async fn bodies_beyond_what_all_may_take_together_are_refused_and_the_others_answered() {
    let server = Server::start(&[]).await;
    let text = json!({ "prompt": "a", "n_predict": 1, "user": "x".repeat(4_000_000) }).to_string();
    let (complete, told) = watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..12 {
        let (mut raw, mut told, text) = (Raw::open(&server).await, told.clone(), text.clone());
        clients.spawn(async move {
            let head = "POST /completion HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
            raw.send(format!("{head}content-length: {}\r\n\r\n", text.len())).await;
            let (last, first) = text.as_bytes().split_last().unwrap();
            raw.send(first).await;
            tokio::select! {
                // It is refused before it is complete.
                readable = raw.0.readable() => readable.unwrap(),
                () = async { drop(told.wait_for(|complete| *complete).await.unwrap()) } => {
                    raw.send([*last]).await;
                }
            }
            raw.answer().await
        });
    }
    for _ in 0..4 {
        let refused = clients.join_next().await.unwrap().unwrap();
        assert_eq!(error(&refused, 503)["code"], "too_much_text");
        assert_eq!(refused.header("retry-after"), "1");
    }
    // Beside eight bodies that take all the room.
    server.ask("/completion", &json!({ "prompt": "a", "n_predict": 1 })).await;
    complete.send(true).unwrap();
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
}
