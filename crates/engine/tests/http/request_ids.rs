//! A request's id, which its answer has as well.

use serde_json::json;

use super::client::{Reply, request};
use super::raw::ask;
use super::server::Server;

/// An id of the server's own.
#[track_caller]
fn check_new(reply: &Reply) {
    let id = reply.header("x-request-id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
}

#[tokio::test]
async fn every_answer_has_an_id_and_no_two_the_same() {
    let server = Server::start(&["--api-key", "secret"]).await;
    let mut ids = Vec::new();
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/nothing"),
        ("HEAD", "/"),
        ("OPTIONS", "/health"),
        ("DELETE", "/health"),
        ("POST", "/completion"),
    ] {
        let reply = server.send(request(method, path, "")).await;
        check_new(&reply);
        ids.push(reply.header("x-request-id").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn a_client_s_id_comes_back_also_with_a_stream() {
    let server = Server::start(&[]).await;
    for stream in [false, true] {
        let body = json!({ "prompt": "Hi", "n_predict": 2, "stream": stream });
        let mut request = request("POST", "/completion", body.to_string());
        request.headers_mut().insert("x-request-id", "call-17/a".parse().unwrap());
        let reply = server.send(request).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-request-id")), (200, "call-17/a"));
    }
}

#[tokio::test]
async fn an_id_that_could_forge_a_log_or_a_header_is_not_taken() {
    let server = Server::start(&[]).await;
    let long = [b"x-request-id: ".to_vec(), vec![b'x'; 129], b"\r\n".to_vec()].concat();
    for header in [
        &b""[..],
        b"x-request-id:\r\n",
        b"x-request-id: two words\r\n",
        b"x-request-id: \x1b[31mred\r\n",
        b"x-request-id: a\tb\r\n",
        b"x-request-id: \xff\r\n",
        b"x-request-id: one\r\nx-request-id: two\r\n",
        &long,
    ] {
        let head = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
        let reply = ask(&server, [&head[..], header, b"\r\n"].concat()).await;
        // hyper refuses control characters before anybody looks at the header.
        if reply.status != 400 {
            assert_eq!(reply.status, 200, "{header:?}");
            check_new(&reply);
        }
    }
}
