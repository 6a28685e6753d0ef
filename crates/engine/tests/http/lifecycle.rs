//! Start, cancelled requests, and the end.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{request, send, whole};
use super::exposition;
use super::refusals::error;
use super::server::{MODEL, Server};

/// A server whose model never comes: its hub takes the connection and says nothing.
pub(crate) async fn loading() -> Server {
    let hub = Box::leak(Box::new(TcpListener::bind("127.0.0.1:0").unwrap()));
    let endpoint = format!("http://{}", hub.local_addr().unwrap());
    let folder = std::env::temp_dir().join(format!("bitnet-engine-loading-{}", std::process::id()));
    let folder = folder.to_str().unwrap();
    let flags = ["--hf-endpoint", &endpoint, "--model-dir", folder, "--hf-home", folder];
    Server::start_with_model("hf:owner/repo/model.gguf", &flags).await
}

pub(crate) async fn is_idle(server: &Server) -> bool {
    server.slots().await.iter().all(|slot| slot["is_processing"] == false)
}

#[tokio::test]
async fn until_the_model_is_loaded_the_port_answers_503() {
    let server = loading().await;
    for (method, path) in [("GET", "/health"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions")] {
        let reply = server.send(request(method, path, "{}")).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.header("retry-after"), "1");
        let error =
            json!({ "message": "Loading model", "type": "unavailable_error", "param": null, "code": 503 });
        let mut expected = json!({ "error": error });
        if path == "/health" {
            expected["status"] = json!("loading");
        }
        assert_eq!(reply.json(), expected);
    }
    for path in ["/", "/livez"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK, "{path} needs no model");
    }
    let reply = server.get("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.json(), json!({ "status": "loading" }));
    let metrics = exposition::parse(&server.get("/metrics").await.text);
    assert_eq!((metrics["bitnet_ready"], metrics["llamacpp:requests_deferred"]), (0.0, 0.0));
    assert_eq!(metrics[r#"bitnet_requests_refused_total{reason="not_ready"}"#], 2.0);
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_does_not_wait_for_its_model() {
    let mut server = loading().await;
    server.get("/health").await;
    server.stop();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_the_server() {
    let server = Server::start_with_model("/does/not/exist.gguf", &[]).await;
    let error = format!("{:#}", server.ended().await.unwrap_err());
    assert!(error.contains("/does/not/exist.gguf"), "{error}");
    let server = Server::start_with_model(MODEL, &["-c", "2000"]).await;
    let error = format!("{:#}", server.ended().await.unwrap_err());
    assert!(error.contains("--ctx-size 2000") && error.contains("1024"), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_closed_frees_the_engine_at_once() {
    let server = Server::start(&["--isa", "scalar"]).await;
    let stream = server.keep_busy().await;
    assert!(!is_idle(&server).await);
    drop(stream);
    server.until("idle", async || is_idle(&server).await).await;
    let generated = server.generated().await;
    assert!(generated < 1000.0, "the answer was cut short, after {generated} tokens");
}

#[tokio::test]
async fn a_client_that_waits_for_the_whole_answer_can_leave_as_well() {
    let server = Server::start(&["--isa", "scalar"]).await;
    let body = json!({ "prompt": "Once", "ignore_eos": true }).to_string();
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let head =
        format!("POST /completion HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).await.unwrap();
    server.until("busy", async || !is_idle(&server).await).await;
    drop(client);
    server.until("idle", async || is_idle(&server).await).await;
    assert!(server.generated().await < 1000.0);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_makes_room_in_it() {
    let server = Server::start(&["--isa", "scalar", "--parallel", "1", "--queue", "1"]).await;
    let _running = server.keep_busy().await;
    let body = json!({ "prompt": "Once", "n_predict": 1, "stream": true }).to_string();
    for _ in 0..3 {
        let waiting = send(server.address, request("POST", "/completion", body.clone())).await;
        assert_eq!(waiting.status(), StatusCode::OK);
        drop(waiting);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_silent_stream_gets_comments() {
    let server = Server::start(&["--simulate", "0.1", "--sse-ping-interval", "1"]).await;
    let mut silent = server.stream("/completion", json!({ "prompt": "a", "n_predict": 1 })).await;
    let first = silent.next().await.unwrap();
    assert!(silent.comments >= 1, "{first}");
    assert_eq!(silent.rest().await.0.last().unwrap()["stop"], true);
}

#[tokio::test]
async fn running_requests_finish_before_the_server_ends() {
    let mut server = Server::start(&["--isa", "scalar", "-c", "96", "--shutdown-timeout", "60"]).await;
    let address = server.address;
    let running = server.keep_busy().await;
    // Connections without a request do not hold the server up.
    let _idle = TcpStream::connect(address).await.unwrap();
    assert_eq!(server.get("/readyz").await.json(), json!({ "status": "ok" }));
    server.stop();
    server.until("draining", async || server.get("/readyz").await.status != StatusCode::OK).await;
    assert_eq!(server.get("/readyz").await.json(), json!({ "status": "draining" }));
    assert_eq!(server.get("/livez").await.status, StatusCode::OK, "it does what it should");
    let refused = server.post("/completion", &json!({ "prompt": "too late" })).await;
    assert_eq!(error(&refused, 503)["code"], "draining");
    assert_eq!(refused.header("retry-after"), "1");
    let metrics = exposition::parse(&server.get("/metrics").await.text);
    assert_eq!((metrics["bitnet_ready"], metrics["bitnet_slots_busy"]), (0.0, 1.0));
    let (chunks, _) = running.rest().await;
    assert_eq!(chunks.last().unwrap()["stop"], true);
    server.ended().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn requests_that_run_for_too_long_are_cut_off() {
    let mut server = Server::start(&["--isa", "scalar", "--shutdown-timeout", "1"]).await;
    let running = server.keep_busy().await;
    let stopped = Instant::now();
    server.stop();
    server.ended().await.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(10));
    let (chunks, _) = running.rest().await;
    assert_eq!(chunks.last().unwrap()["error"]["code"], "draining");
}

/// One step takes many times what the last words have time for.
#[tokio::test]
async fn requests_that_are_cut_off_are_told_though_the_engine_is_busy() {
    let mut server = Server::start(&["--simulate", "0.2", "--shutdown-timeout", "1"]).await;
    let body = json!({ "prompt": "word ".repeat(100), "max_tokens": 4 });
    let chat = json!({ "messages": [{ "role": "user", "content": "word ".repeat(100) }] });
    let texts = server.stream("/v1/completions", body.clone()).await;
    let chats = server.stream("/v1/chat/completions", chat).await;
    let answer = tokio::spawn(send(server.address, request("POST", "/completion", body.to_string())));
    let all_are_there = async || {
        let metrics = exposition::parse(&server.get("/metrics").await.text);
        metrics["llamacpp:requests_processing"] + metrics["llamacpp:requests_deferred"] == 3.0
    };
    server.until("all are there", all_are_there).await;
    let stopped = Instant::now();
    server.stop();
    for stream in [texts, chats] {
        let (chunks, done) = stream.rest().await;
        assert_eq!((&chunks.last().unwrap()["error"]["code"], done), (&json!("draining"), true));
    }
    let reply = whole(answer.await.unwrap()).await;
    assert_eq!(error(&reply, 503)["code"], "draining");
    assert_eq!(reply.header("retry-after"), "1");
    server.ended().await.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}

#[tokio::test]
async fn a_model_file_that_is_cut_off_fails_the_requests_that_need_the_rest_and_no_others() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cut-off.gguf");
    fs::copy(MODEL, &file).unwrap();
    let server = Server::start_with_model(file.to_str().unwrap(), &["--head", "q4"]).await;
    server.until("ready", async || server.get("/health").await.status == StatusCode::OK).await;

    // Its first tensor, most of the file, is the embedding, which is lm_head as well: without its last rows.
    let cut = OpenOptions::new().write(true).open(&file).unwrap();
    cut.set_len(cut.metadata().unwrap().len() / 2).unwrap();
    let small = |name: &str, value| json!({ "prompt": [5, 6, 7], "n_predict": 2, "max_tokens": 2, "temperature": 0, name: value });
    for (path, body, expected) in [
        ("/completion", small("prompt", json!([5, 2000])), "the embedding of token 2000: "),
        ("/completion", small("n_probs", json!(2)), "lm_head: "),
        ("/v1/completions", small("logprobs", json!(1)), "lm_head: "),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", reply.text);
        let message = reply.json()["error"]["message"].to_string();
        assert!(message.contains(expected) && message.contains("has become shorter"), "{message}");
        assert!(is_idle(&server).await);
    }
    let echo = json!({ "prompt": [5, 6, 7], "max_tokens": 0, "logprobs": 1, "echo": true });
    let reply = server.post("/v1/completions", &echo).await;
    assert_eq!(
        reply.status,
        StatusCode::INTERNAL_SERVER_ERROR,
        "probabilities of the prompt: {}",
        reply.text
    );
    server.until("idle", async || is_idle(&server).await).await;

    fs::write(&file, fs::read(MODEL).unwrap()).unwrap();
    let body = small("n_probs", json!(2));
    let found = server.ask("/completion", &body).await["content"].take();
    assert_eq!(found, Server::start(&[]).await.ask("/completion", &body).await["content"]);
    fs::remove_file(&file).unwrap();
}
