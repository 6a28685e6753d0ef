//! What only bytes on a socket show: large and broken heads, HTTP/1.0, how a connection ends.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fake_engine::{FakeEngine, Reply, Step, end, in_time, text};
use crate::web::Web;

/// All that comes back until the other side closes, which it must do in order: a reset is an error here.
async fn exchange(web: &Web, request: &str) -> String {
    let mut connection = TcpStream::connect(web.address()).await.unwrap();
    in_time(connection.write_all(request.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    in_time(connection.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads until what came so far ends with `end`.
async fn read_until(connection: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        answer.push(in_time(connection.read_u8()).await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

/// What a front end that signs people in adds, with this many bytes of it in cookies.
fn signed_in(cookie: usize) -> String {
    let (token, principal) = ("secret-t".repeat(1 << 10), "secret-p".repeat(3 << 8));
    let mut headers = format!("cookie: AppServiceAuthSession={}\r\n", "secret-c".repeat(cookie / 8));
    let _ = write!(headers, "x-ms-token-aad-id-token: {token}\r\nx-ms-client-principal: {principal}\r\n");
    for number in 0..60 {
        let _ = write!(headers, "x-further-{number}: secret-{number}\r\n");
    }
    headers
}

fn question(headers: &str) -> String {
    let body = json!({"message": "Hi"}).to_string();
    format!(
        "POST /chat HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn the_headers_of_a_sign_in_are_accepted() {
    let engine = FakeEngine::start([Reply::Stream(vec![text("Hello"), end("stop")])]).await;
    let web = Web::before(&engine);
    let headers = format!("connection: close\r\n{}", signed_in(12 << 10));
    let page = exchange(&web, &format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("</html>"), "{page}");
    let answer = exchange(&web, &question(&headers)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("event: done"), "{answer}");
}

#[tokio::test]
async fn the_headers_of_a_sign_in_do_not_reach_the_engine() {
    let engine = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = Web::start(engine.local_addr().unwrap(), &[]);
    let mut connection = TcpStream::connect(web.address()).await.unwrap();
    connection.write_all(question(&signed_in(12 << 10)).as_bytes()).await.unwrap();
    let (mut request, _) = in_time(engine.accept()).await.unwrap();
    let head = read_until(&mut request, "\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    assert!(!["secret", "cookie", "x-ms-", "x-further-"].iter().any(|name| head.contains(name)), "{head}");
}

#[tokio::test]
async fn a_head_beyond_the_limits_gets_a_whole_readable_answer_and_the_next_connection_works() {
    let web = Web::before(&FakeEngine::start([]).await);
    let many = "x-one-of-many: 1\r\n".repeat(150);
    let long = |bytes| format!("x-long: {}\r\n", "x".repeat(bytes));
    for headers in [signed_in(26 << 10), long(100 << 10), many, long(4 << 20), long(32 << 10)] {
        for request in [question(&headers), format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")] {
            let answer = exchange(&web, &request).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("connection: close"), "{head}");
            assert!(head.contains("content-security-policy: "), "{head}");
            let problem: Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["error"]["code"], "head_too_large");
            assert!(problem["error"]["message"].as_str().unwrap().contains("32768 bytes"), "{problem}");
            assert_eq!(web.get("/health").await.status(), 200);
        }
    }
}

#[tokio::test]
async fn the_limit_of_a_head_is_exact() {
    let web = Web::before(&FakeEngine::start([]).await);
    for (bytes, status) in [(32 << 10, "200"), ((32 << 10) + 1, "431")] {
        let start = "GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: ";
        let request = format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4));
        let answer = exchange(&web, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes} bytes got {answer}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused_before_it_ends() {
    let web = Web::before(&FakeEngine::start([]).await);
    let mut connection = TcpStream::connect(web.address()).await.unwrap();
    let more = "x".repeat(32 << 10);
    connection.write_all(format!("GET / HTTP/1.1\r\nx: {more}").as_bytes()).await.unwrap();
    read_until(&mut connection, "\"}}").await;
    // Whoever goes on sending is still listened to for a moment, and can read the answer.
    connection.write_all(more.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(in_time(connection.read_to_end(&mut rest)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_second_request_on_a_connection_is_refused_with_a_reason_too() {
    let web = Web::before(&FakeEngine::start([]).await);
    let mut connection = TcpStream::connect(web.address()).await.unwrap();
    connection.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_until(&mut connection, r#"{"status":"ok"}"#).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let large = format!("GET / HTTP/1.1\r\n{}\r\n", signed_in(40 << 10));
    connection.write_all(large.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(connection.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("head_too_large"), "{answer}");
}

#[tokio::test]
async fn what_is_not_http_is_told_so() {
    let web = Web::before(&FakeEngine::start([]).await);
    for request in
        ["GET\u{1} / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nbad header: x\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"]
    {
        let answer = exchange(&web, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("unreadable_head"), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_upload_is_answered_whole() {
    let web = Web::before(&FakeEngine::start([]).await);
    let body = "x".repeat(8 << 20);
    let request = format!(
        "POST /chat HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(&web, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("}}"), "{answer}");
}

#[tokio::test]
async fn to_http_1_0_a_stream_comes_as_it_is_made_and_ends_with_the_connection() {
    for connection_header in ["", "connection: keep-alive\r\n"] {
        let engine = FakeEngine::start([
            Reply::Stream(vec![text("first"), Step::Hang]),
            Reply::Stream(vec![text("whole"), end("stop")]),
        ])
        .await;
        let web = Web::before(&engine);
        let request = question(connection_header).replace("HTTP/1.1\r\nhost: a\r\n", "HTTP/1.0\r\n");

        let mut connection = TcpStream::connect(web.address()).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut connection, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        for header in ["x-accel-buffering: no", "cache-control: no-cache, no-store, no-transform"] {
            assert!(head.contains(header), "{header} is not in {head}");
        }
        for header in ["transfer-encoding", "content-length", "connection: keep-alive"] {
            assert!(!head.contains(header), "{header} is in {head}");
        }
        // The engine says nothing more, so this can only be what it has said already.
        let first = read_until(&mut connection, "\n\n").await;
        assert_eq!(first, "event: delta\ndata: {\"text\":\"first\"}\n\n");
        drop(connection);

        let whole = exchange(&web, &request).await;
        let (_, events) = whole.split_once("\r\n\r\n").unwrap();
        assert!(events.starts_with("event: delta\n") && events.contains("event: done\n"), "{whole}");
    }
}

#[tokio::test]
async fn to_http_1_0_an_answer_has_a_length_and_keeps_the_connection_only_on_request() {
    let web = Web::before(&FakeEngine::start([]).await);
    let answer = exchange(&web, "GET /health HTTP/1.0\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("content-length: 15\r\n"),
        "{answer}"
    );

    let mut connection = TcpStream::connect(web.address()).await.unwrap();
    for _ in 0..2 {
        connection.write_all(b"GET /health HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = read_until(&mut connection, r#"{"status":"ok"}"#).await;
        assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_engine_that_breaks_off_behind_http_1_0_is_an_error_event() {
    let steps = vec![text("Hel"), Step::Wait(std::time::Duration::from_millis(50)), Step::Break];
    let engine = FakeEngine::start([Reply::Stream(steps)]).await;
    let web = Web::before(&engine);
    let request = question("").replace("HTTP/1.1", "HTTP/1.0");
    let answer = exchange(&web, &request).await;
    assert!(answer.contains("event: error\n") && !answer.contains("event: done\n"), "{answer}");
}

#[tokio::test]
async fn long_messages_share_a_bounded_memory_and_short_ones_always_find_room() {
    let long = " ".repeat((1 << 20) - 1);
    let head =
        "POST /chat HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1048576\r\n\r\n";
    let engine = FakeEngine::start([Reply::Stream(vec![text("Hello"), end("stop")])]).await;
    let web = Web::before(&engine);
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = TcpStream::connect(web.address()).await.unwrap();
        let long = long.clone();
        connections.push(tokio::spawn(async move {
            // One that is refused in the middle may not take the rest.
            let _ = connection.write_all(format!("{head}{long}").as_bytes()).await;
            read_until(&mut connection, "\r\n").await
        }));
    }
    let (first, _, others) = in_time(futures_util::future::select_all(connections)).await;
    assert_eq!(first.unwrap(), "HTTP/1.1 503 Service Unavailable\r\n");
    let answer = exchange(&web, &question("connection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for connection in others {
        connection.abort();
    }
}
