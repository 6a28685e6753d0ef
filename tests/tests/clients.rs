//! Clients that were written for other servers work unchanged.

use std::env;
use std::io::{self, Write as _};
use std::process::Command;

use e2e::{engine, post};
use serde_json::{Value, json};

#[tokio::test]
async fn the_flask_sample_works_unchanged() {
    let engine = engine(&[]).await;
    let body = json!({
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the sea?"},
        ],
        "stream": true,
        "cache_prompt": false,
        "n_predict": 2048,
    });
    let reply = post(&format!("{}/v1/chat/completions", engine.url), body).await;
    assert_eq!(reply.status, 200, "{reply:?}");

    // As the sample reads: an event is a line that begins with "data: ", and what is not JSON is passed over.
    let lines = reply.body.as_str().expect("a stream of events").lines();
    let chunks: Vec<Value> = lines
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    let choices = || chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
    let text: String = choices().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
    assert!(!text.is_empty(), "{chunks:?}");
    assert_eq!(choices().filter(|choice| !choice["finish_reason"].is_null()).count(), 1, "{chunks:?}");
}

/// Runs `tests/clients/openai_client.py`. Its Python has to be prepared (CONTRIBUTING.md says how): a test
/// run should install nothing. `.ci/run` does that, so there its absence is a failure.
#[tokio::test]
async fn the_openai_python_client_works_unchanged() {
    let Some(python) = env::var_os("BITNET_PYTHON") else {
        assert!(env::var_os("CI").is_none(), "BITNET_PYTHON is not set");
        // Past the test runner, which shows what a test prints only when it fails.
        writeln!(io::stderr(), "not run: BITNET_PYTHON is not set (see CONTRIBUTING.md)")
            .expect("standard error");
        return;
    };
    let engine = engine(&[]).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/openai_client.py");
    // What it prints is shown in any case: the names of the tests that ran.
    let status = Command::new(python).arg(script).env("BITNET_URL", &engine.url).status();
    assert!(status.expect("a Python").success());
}
