//! What nobody should send, and the status that it gets.

use serde_json::{Value, json};

use super::raw::post;

/// Bytes of a connection; the statuses that are right (none: the server may close without an answer).
pub(super) type Garbage = (Vec<u8>, &'static [Option<u16>]);

const CLOSED_OR_BAD: &[Option<u16>] = &[Some(400), None];

pub(super) fn all() -> Vec<Garbage> {
    let mut all: Vec<Garbage> = Vec::new();
    for path in ["/v1/chat/completions", "/v1/completions", "/completion"] {
        for body in [
            json!([]),
            json!("text"),
            json!({"messages": 1, "prompt": {"a": 1}}),
            json!({"messages": [], "prompt": []}),
            json!({"messages": [{"role": "user", "content": "a"}], "prompt": "a", "temperature": "hot"}),
            json!({"messages": [{"role": "user", "content": "a"}], "prompt": "a", "max_tokens": [1]}),
            json!({"messages": [{"role": "user", "content": "a"}], "prompt": "a", "stop": {"a": Value::Null}}),
        ] {
            all.push((post(path, &body), &[Some(400)]));
        }
        for body in
            ["", "{", "{\"prompt\": \"\\ud800\"}", "\u{0}", &"[".repeat(100_000), &"{\"a\":".repeat(10_000)]
        {
            all.push((text(path, body), &[Some(400)]));
        }
        all.push((format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes(), &[Some(405)]));
        let endless =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999999\r\n\r\n{{");
        all.push((endless.into_bytes(), &[Some(413)]));
    }
    all.push((b"GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), &[Some(404)]));
    all.push((
        format!("GET / HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "a".repeat(1 << 20)).into(),
        &[Some(431), None],
    ));
    all.push((b"GARBAGE\r\n\r\n".to_vec(), CLOSED_OR_BAD));
    all.push((b"GET / HTTP/9.9\r\n\r\n".to_vec(), CLOSED_OR_BAD));
    // The beginning of a TLS handshake, as from a browser that tries https.
    all.push((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), CLOSED_OR_BAD));
    all.push(((0..=255).cycle().take(4_096).collect(), CLOSED_OR_BAD));
    all
}

/// A request whose body claims to be JSON.
fn text(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}
