//! A prompt that is computed before anybody asks.

use std::path::PathBuf;

use hyper::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};

use super::client::request;
use super::server::{Server, steady};

const PATH: &str = "/v1/chat/completions";
const PROMPT: &str = "You answer in whole sentences and say so when you do not know. You never make up a name, a number or a place, and \
                      you keep to the language of the question, whatever that is. Lists have at most three points, and each of them is a \
                      whole sentence that can stand alone. You do not repeat the question, and you end when all is said. When a question can be read \
                      in two ways, you say which of them you answer, and you do not answer both. What is secret stays secret, whoever \
                      asks for it, and what is dangerous is not explained. When somebody is sad, you are kind, and say where there is help.";

/// A folder that is gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("bitnet-http-warm-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn body(question: &str) -> Value {
    json!({
        "messages": [{ "role": "system", "content": PROMPT }, { "role": "user", "content": question }],
        "temperature": 0,
        "max_tokens": 12,
        "logprobs": true,
        "top_logprobs": 5,
    })
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

/// An answer without what tells how it was computed.
fn content(answer: &Value) -> Value {
    let mut answer = steady(answer.clone());
    answer["usage"].take();
    answer
}

#[tokio::test]
async fn the_first_answer_skips_the_prompt_and_has_the_same_bits_computed_or_restored() {
    let folder = Folder::new("bits");
    let flags = ["--warm-prompt", PROMPT, "--warm-dir", folder.0.to_str().unwrap()];
    let cold = Server::start(&[]).await.ask(PATH, &body("Who are you?")).await;
    assert_eq!(cached(&cold), 0);
    let prompt = cold["usage"]["prompt_tokens"].as_u64().unwrap();
    for _ in 0..2 {
        let server = Server::start(&flags).await;
        let warm = server.ask(PATH, &body("Who are you?")).await;
        assert!(cached(&warm) > 128 && prompt - cached(&warm) < 24, "{} of {prompt}", cached(&warm));
        assert_eq!(content(&warm), content(&cold));
        // Who does not want it does not get it.
        let mut other = body("Who are you?");
        other["cache_prompt"] = json!(false);
        let other = server.ask(PATH, &other).await;
        assert_eq!((cached(&other), content(&other)), (0, content(&cold)));
    }
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[tokio::test]
async fn every_key_may_use_the_servers_prompt_and_none_what_another_has_added() {
    let folder = Folder::new("keys");
    let flags = ["--warm-prompt", PROMPT, "--warm-dir", folder.0.to_str().unwrap(), "--api-key", "one,other"];
    let server = Server::start(&flags).await;
    let ask = async |key: &str, question: &str| {
        let mut request = request("POST", PATH, body(question).to_string());
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}")).unwrap());
        cached(&server.send(request).await.json())
    };
    let long = "a question of many words that nobody else has asked ".repeat(20);
    let prompt = ask("one", &long).await;
    assert!(prompt > 128, "{prompt}");
    assert!(ask("one", &long).await > prompt + 100);
    assert_eq!(ask("other", &long).await, prompt);
    assert!(ask("other", &long).await > prompt + 100);
}

#[tokio::test]
async fn a_simulation_has_the_same_cache() {
    let folder = Folder::new("simulated");
    let flags = ["--simulate", "1000", "--warm-prompt", PROMPT, "--warm-dir", folder.0.to_str().unwrap()];
    let server = Server::start(&flags).await;
    assert!(cached(&server.ask(PATH, &json!({ "messages": body("Who are you?")["messages"] })).await) > 0);
    assert!(!folder.0.exists());
}

#[tokio::test]
async fn whatever_is_wrong_with_the_prompt_is_told_at_the_start() {
    let folder = Folder::new("errors");
    let start = async |flags: &[&str]| {
        let flags = [&["--warm-prompt", PROMPT, "--warm-dir", folder.0.to_str().unwrap()], flags].concat();
        let server = Server::start_with_model(super::server::MODEL, &flags).await;
        format!("{:#}", server.ended().await.unwrap_err())
    };
    let little = start(&["--ctx-size", "1024", "--cache-ram", "1"]).await;
    for part in ["--cache-ram 1 ", "1024", "of --warm-prompt", "needs 2 MiB"] {
        assert!(little.contains(part), "{part:?} is not in {little}");
    }
    let long = start(&["--ctx-size", "64"]).await;
    assert!(long.contains("--warm-prompt") && long.contains("64"), "{long}");
}
