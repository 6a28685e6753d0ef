//! Every way to be refused, and that the refusal says why.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::client::{Reply, request, send, whole};
use super::server::Server;

const CHAT: &str = "/v1/chat/completions";

/// Checks OpenAI's shape of an error and returns it.
#[track_caller]
pub(crate) fn error(reply: &Reply, status: u16) -> Value {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    let error = reply.json()["error"].take();
    for name in ["message", "type", "param", "code"] {
        assert!(error.get(name).is_some(), "{name} is missing in {error}");
    }
    assert!(!error["message"].as_str().unwrap().is_empty());
    error
}

/// Posts a chat with one more field; returns the error.
async fn refused(server: &Server, path: &str, field: &str, value: &Value) -> Value {
    let mut body =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "prompt": "Hi", "max_tokens": 1 });
    body[field] = value.clone();
    let reply = server.post(path, &body).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{field} = {value}: {}", reply.text);
    error(&reply, 400)
}

#[tokio::test]
async fn a_wrong_value_is_refused_by_field_value_and_limit() {
    let server = Server::start(&[]).await;
    for (field, value, limit) in [
        ("temperature", json!(-0.1), "from 0 to 100"),
        ("temperature", json!(1e39), "a number"),
        ("temperature", json!("hot"), "a number"),
        ("temperature", json!([1]), "a number"),
        ("top_p", json!(1.5), "from 0 to 1"),
        ("min_p", json!(-1), "from 0 to 1"),
        ("top_k", json!(2.5), "a whole number"),
        ("top_k", json!(-2), "at least -1"),
        ("repeat_penalty", json!(0), "from 0.01"),
        ("repeat_last_n", json!(-2), "at least -1"),
        ("presence_penalty", json!(1000), "from -100 to 100"),
        ("frequency_penalty", json!(true), "a number"),
        ("max_tokens", json!(-2), "at least -1"),
        ("max_tokens", json!(1e300), "a whole number"),
        ("max_tokens", json!("5"), "a whole number"),
        ("seed", json!(1.5), "64 bits"),
        ("seed", json!("x"), "64 bits"),
        ("stop", json!(1), "a string or up to"),
        ("stop", json!(["a", 1]), "a string or up to"),
        ("stop", json!(vec!["a"; 65]), "up to 64"),
        ("stop", json!("a".repeat(1025)), "at most 1024 bytes"),
        ("stream", json!("yes"), "true or false"),
        ("stream_options", json!(true), "an object"),
        ("cache_prompt", json!(1), "true or false"),
        ("logit_bias", json!(5), "an object or an array"),
        ("logit_bias", json!({ "2048": 1 }), "a token id from 0 to 2047"),
        ("logit_bias", json!({ "-1": 1 }), "a token id from 0 to 2047"),
        ("model", json!(7), "a string"),
        ("model", json!("m".repeat(257)), "at most 256 bytes"),
    ] {
        for path in [CHAT, "/v1/completions"] {
            let error = refused(&server, path, field, &value).await;
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!(error["param"], field);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(field) && message.contains(limit), "{message}");
        }
    }
    for (field, value, place, limit) in [
        ("stream_options", json!({ "include_usage": 1 }), "stream_options.include_usage", "true or false"),
        ("logit_bias", json!({ "5": "much" }), "logit_bias.5", "numbers or false"),
        ("logit_bias", json!([[1, 2, 3]]), "logit_bias[0]", "pairs"),
        ("logit_bias", json!({ "99999999999999999999": 1 }), "logit_bias", "token ids"),
        ("logit_bias", json!([["a".repeat(1025), 1]]), "logit_bias[0]", "at most 1024 bytes"),
        ("logit_bias", json!(vec![[1, 1]; 1025]), "logit_bias", "at most 1024 tokens"),
    ] {
        let error = refused(&server, CHAT, field, &value).await;
        assert_eq!(error["param"], place);
        assert!(error["message"].as_str().unwrap().contains(limit), "{error}");
    }
    for (path, field, value) in [
        (CHAT, "logprobs", json!(3)),
        (CHAT, "top_logprobs", json!(21)),
        (CHAT, "logprobs", json!("x")),
        ("/v1/completions", "logprobs", json!(true)),
        ("/v1/completions", "logprobs", json!(-1)),
        ("/v1/completions", "echo", json!("x")),
        ("/v1/completions", "prompt", json!({})),
        ("/v1/completions", "prompt", json!(["a", "b"])),
        ("/v1/completions", "prompt", json!([[1], [2]])),
        ("/completion", "prompt", json!(["a", "b"])),
        ("/completion", "n_probs", json!(101)),
        ("/completion", "n_probs", json!(-1)),
        ("/completion", "return_tokens", json!(1)),
    ] {
        assert_eq!(refused(&server, path, field, &value).await["param"], field, "{path} {value}");
    }
    for value in [json!([1, 2048]), json!([1, -1]), json!([1, 1.5]), json!([1, true])] {
        assert_eq!(refused(&server, "/completion", "prompt", &value).await["param"], "prompt[1]");
    }
    assert_eq!(refused(&server, CHAT, "top_logprobs", &json!(2)).await["param"], "logprobs");
}

#[tokio::test]
async fn a_prompt_of_nothing_is_refused_and_the_engine_goes_on() {
    let server = Server::start(&["--chat-template", "{{ '' }}{# {{ messages }} #}"]).await;
    for (path, body) in [
        ("/v1/completions", json!({ "prompt": [] })),
        ("/completion", json!({ "prompt": [] })),
        ("/completion", json!({ "prompt": [[]] })),
    ] {
        let error = error(&server.post(path, &body).await, 400);
        assert!(error["message"].as_str().unwrap().contains("no tokens"), "{error}");
    }
    server.ask("/completion", &json!({ "prompt": "Hi", "n_predict": 1 })).await;
}

#[tokio::test]
async fn what_would_change_the_answer_and_is_not_supported_is_refused() {
    let server = Server::start(&[]).await;
    for (field, value) in [
        ("n", json!(2)),
        ("best_of", json!(2)),
        ("suffix", json!("after")),
        ("tools", json!([{ "type": "function" }])),
        ("tool_choice", json!("required")),
        ("functions", json!([{}])),
        ("response_format", json!({ "type": "json_object" })),
        ("response_format", json!({ "type": "json_schema" })),
        ("modalities", json!(["text", "audio"])),
        ("grammar", json!("root ::= \"a\"")),
        ("json_schema", json!({ "type": "object" })),
        ("mirostat", json!(2)),
        ("typical_p", json!(0.5)),
        ("samplers", json!(["top_k"])),
    ] {
        let error = refused(&server, CHAT, field, &value).await;
        assert_eq!((&error["param"], &error["code"]), (&json!(field), &json!("unsupported_parameter")));
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let server = Server::start(&[]).await;
    for (path, field) in [
        (CHAT, "messages"),
        ("/v1/completions", "prompt"),
        ("/completion", "prompt"),
        ("/tokenize", "content"),
        ("/detokenize", "tokens"),
        ("/apply-template", "messages"),
    ] {
        let error = error(&server.post(path, &json!({ "model": "any" })).await, 400);
        assert_eq!((&error["param"], &error["code"]), (&json!(field), &json!("missing_required_parameter")));
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    let server = Server::start(&["-c", "64"]).await;
    let chat = json!({ "messages": [{ "role": "user", "content": "Hello ".repeat(100) }] });
    for (path, body, tokens) in [
        (CHAT, chat, None),
        ("/v1/completions", json!({ "prompt": vec![5; 64] }), Some(64)),
        ("/completion", json!({ "prompt": vec![5; 200], "stream": true }), Some(200)),
    ] {
        let error = error(&server.post(path, &body).await, 400);
        assert_eq!(error["type"], "exceed_context_size_error");
        assert_eq!(error["code"], "exceed_context_size_error");
        assert_eq!(error["n_ctx"], 64);
        let counted = error["n_prompt_tokens"].as_u64().unwrap();
        assert!(tokens.map_or(counted >= 100, |tokens| tokens == counted), "{error}");
        assert!(error["message"].as_str().unwrap().contains(&counted.to_string()));
    }
    server.ask("/completion", &json!({ "prompt": vec![5; 63] })).await;
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let server = Server::start(&[]).await;
    for body in ["", "{", "nonsense", "{\"messages\": NaN}", "{\"messages\": 1e999}", "\u{feff}{}"] {
        let reply = server.send(request("POST", CHAT, body)).await;
        assert_eq!(error(&reply, 400)["code"], "invalid_json", "{body}");
    }
    for body in ["[]", "5", "null"] {
        assert_eq!(error(&server.send(request("POST", CHAT, body)).await, 400)["param"], "body");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(error(&server.send(request("POST", CHAT, deep)).await, 400)["code"], "invalid_json");
    let not_text = request("POST", CHAT, &b"{\"model\": \"\xff\"}"[..]);
    assert_eq!(error(&server.send(not_text).await, 400)["code"], "invalid_json");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_after_it_was_read() {
    let server = Server::start(&["--max-body-bytes", "2000"]).await;
    let body = |bytes: usize| json!({ "prompt": "a", "n_predict": 1, "user": "x".repeat(bytes) }).to_string();
    assert_eq!(server.send(request("POST", "/completion", body(1000))).await.status, StatusCode::OK);
    let reply = server.send(request("POST", "/completion", body(20_000))).await;
    assert!(error(&reply, 413)["message"].as_str().unwrap().contains("2000"));
}

#[tokio::test]
async fn wrong_paths_and_methods_are_refused() {
    let server = Server::start(&[]).await;
    for path in ["/nothing", "/v1", "/v1/chat", "//", "/v1/embeddings"] {
        assert_eq!(error(&server.get(path).await, 404)["code"], "not_found");
    }
    assert_eq!(error(&server.get("/v1/models/other").await, 404)["code"], "model_not_found");
    for (method, path, allow) in [
        ("GET", CHAT, "POST, OPTIONS"),
        ("DELETE", CHAT, "POST, OPTIONS"),
        ("HEAD", "/completion", "POST, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("POST", "/v1/models", "GET, HEAD, OPTIONS"),
    ] {
        let reply = server.send(request(method, path, "")).await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, allow));
        if method != "HEAD" {
            error(&reply, 405);
        }
        assert_eq!(server.send(request("OPTIONS", path, "")).await.header("allow"), allow);
    }
    // Without a body only its length shows which method it names.
    let length = async |method: &str| {
        let reply = server.send(request(method, "/completion", "")).await;
        reply.header("content-length").to_owned()
    };
    assert_eq!(length("HEAD").await, length("LINK").await);
    let head = server.send(request("HEAD", "/health", "")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str(), head.header("content-length")), (200, "", "15"));
}

#[tokio::test]
async fn names_of_models_in_paths_may_have_escapes() {
    let server = Server::start(&["--alias", "my model/€"]).await;
    for path in ["/v1/models/my%20model%2F%e2%82%AC", "/v1/models/my%20model/%E2%82%AC"] {
        assert_eq!(server.get(path).await.json()["id"], "my model/€");
    }
    for path in ["/v1/models/%zz", "/v1/models/my%2", "/v1/models/%ff"] {
        assert_eq!(error(&server.get(path).await, 400)["code"], "invalid_path");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_local_ones_may_read() {
    let server = Server::start(&[]).await;
    let ask = async |method: &str, header: &str, value: &str| {
        let mut request = request(method, "/health", "");
        request.headers_mut().insert(
            hyper::header::HeaderName::from_bytes(header.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
        request.headers_mut().insert("access-control-request-method", "POST".parse().unwrap());
        server.send(request).await
    };
    let foreign = ask("GET", "origin", "https://evil.example").await;
    assert_eq!(error(&foreign, 403)["code"], "origin_not_allowed");
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    assert_eq!(error(&ask("GET", "host", "evil.example").await, 403)["code"], "host_not_allowed");
    let local = ask("GET", "origin", "http://localhost:3000").await;
    assert_eq!(
        (local.status.as_u16(), local.header("access-control-allow-origin")),
        (200, "http://localhost:3000")
    );
    let preflight = ask("OPTIONS", "origin", "http://localhost:3000").await;
    assert_eq!(preflight.status.as_u16(), 204);
    assert_eq!(preflight.header("access-control-allow-methods"), "GET, POST, OPTIONS");
    let foreign = ask("OPTIONS", "origin", "https://evil.example").await;
    assert_eq!((foreign.status.as_u16(), foreign.header("access-control-allow-methods")), (403, ""));
}

#[tokio::test]
async fn with_a_key_only_its_holders_are_served() {
    let server = Server::start(&["--api-key", "secret"]).await;
    assert_eq!(server.get("/health").await.status, StatusCode::OK, "health is for everybody");
    assert_eq!(error(&server.get("/v1/models").await, 401)["code"], "invalid_api_key");
    let with_key = |key: &str| {
        let mut request = request("GET", "/v1/models", "");
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    };
    assert_eq!(error(&server.send(with_key("wrong")).await, 401)["type"], "authentication_error");
    assert_eq!(server.send(with_key("secret")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_beyond_the_queue_is_told_when_to_come_back() {
    let server = Server::start(&["--isa", "scalar", "--parallel", "1", "--queue", "1"]).await;
    let body = json!({ "prompt": "Once", "n_predict": 1, "stream": true });
    let running = server.keep_busy().await;
    // A stream begins at once, even if its request has to wait.
    let waiting = send(server.address, request("POST", "/completion", body.to_string())).await;
    assert_eq!(waiting.status(), StatusCode::OK);
    let refused = server.post("/completion", &body).await;
    assert_eq!(error(&refused, 429)["code"], "queue_full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    drop(running);
    let waited = whole(waiting).await;
    assert!(waited.text.contains("\"stop\":true"), "{}", waited.text);
}
