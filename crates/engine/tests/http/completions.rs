//! `POST /v1/completions`.

use serde_json::{Value, json};

use super::server::{Server, steady};

const PATH: &str = "/v1/completions";

fn request(more: &Value) -> Value {
    let mut request = json!({ "prompt": "Hello there", "temperature": 0, "max_tokens": 3 });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[tokio::test]
async fn an_answer_has_openais_shape() {
    let server = Server::start(&[]).await;
    let answer = server.ask(PATH, &request(&json!({ "model": "any" }))).await;
    let text = answer["choices"][0]["text"].clone();
    let expected = json!({
        "id": "…",
        "object": "text_completion",
        "created": "…",
        "model": "any",
        "system_fingerprint": concat!("bitnet-engine-", env!("CARGO_PKG_VERSION")),
        "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": "length" }],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": { "cached_tokens": 0 },
        },
        "timings": "…",
    });
    assert_eq!(steady(answer), expected);
}

#[tokio::test]
async fn text_and_its_tokens_are_the_same_prompt() {
    let server = Server::start(&[]).await;
    let tokens = server.ask("/tokenize", &json!({ "content": "Hello there", "add_special": true })).await;
    let tokens = &tokens["tokens"];
    let text = |answer: Value| answer["choices"][0]["text"].clone();
    let expected = text(server.ask(PATH, &request(&json!({}))).await);
    for prompt in [json!(["Hello there"]), json!(tokens), json!([tokens])] {
        assert_eq!(
            text(server.ask(PATH, &request(&json!({ "prompt": prompt }))).await),
            expected,
            "{prompt}"
        );
    }
}

#[tokio::test]
async fn echo_repeats_the_prompt_streamed_or_not() {
    let server = Server::start(&[]).await;
    let plain = server.ask(PATH, &request(&json!({}))).await;
    let body = request(&json!({ "echo": true }));
    let echoed = server.ask(PATH, &body).await;
    let text = format!("Hello there{}", plain["choices"][0]["text"].as_str().unwrap());
    assert_eq!(echoed["choices"][0]["text"], text);
    let (chunks, done) = server.stream(PATH, body).await.rest().await;
    assert!(done);
    let streamed: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(streamed, text);
}

#[tokio::test]
async fn log_probabilities_are_parallel_arrays() {
    let server = Server::start(&[]).await;
    let answer = server.ask(PATH, &request(&json!({ "logprobs": 2 }))).await;
    let choice = &answer["choices"][0];
    let logprobs = &choice["logprobs"];
    let tokens: Vec<_> =
        logprobs["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), choice["text"].as_str().unwrap());
    for index in 0..3 {
        let top = logprobs["top_logprobs"][index].as_object().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[tokens[index]], logprobs["token_logprobs"][index]);
        let before: usize = tokens[..index].iter().map(|token| token.chars().count()).sum();
        assert_eq!(logprobs["text_offset"][index], before);
    }
}

#[tokio::test]
async fn echo_with_log_probabilities_scores_the_prompt() {
    let server = Server::start(&[]).await;
    // First without, so that there is a prefix that must not be taken from the cache.
    let plain = server.ask(PATH, &request(&json!({ "logprobs": 1 }))).await;
    let body = request(&json!({ "echo": true, "logprobs": 1 }));
    let scored = server.ask(PATH, &body).await;
    let logprobs = &scored["choices"][0]["logprobs"];
    let column = |name: &str| logprobs[name].as_array().unwrap().clone();
    assert_eq!(column("tokens").len(), 8);
    assert_eq!(column("tokens")[0], "<|begin_of_text|>");
    assert_eq!(column("token_logprobs")[0], json!(null), "nothing comes before the first");
    assert!(column("token_logprobs")[1..].iter().all(Value::is_number));
    assert_eq!(
        column("token_logprobs")[5..],
        *plain["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap()
    );
    assert_eq!(column("text_offset")[..2], [json!(0), json!(0)], "the first token is not part of the text");

    // Scoring only, in prompt batches of any size.
    let body = request(&json!({ "echo": true, "logprobs": 1, "max_tokens": 0 }));
    let small = Server::start(&["--ubatch-size", "2"]).await;
    for server in [server, small] {
        let only = server.ask(PATH, &body).await;
        assert_eq!(only["choices"][0]["text"], "Hello there");
        assert_eq!(only["choices"][0]["logprobs"]["token_logprobs"], json!(column("token_logprobs")[..5]));
    }
}

#[tokio::test]
async fn an_offset_inside_of_a_character_is_where_the_character_begins() {
    let server = Server::start(&[]).await;
    let body = json!({ "prompt": "a😀é b", "echo": true, "logprobs": 1, "max_tokens": 0 });
    let answer = server.ask(PATH, &body).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    let request = json!({ "content": "a😀é b", "add_special": true, "with_pieces": true });
    let tokens = server.ask("/tokenize", &request).await;
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for token in tokens["tokens"].as_array().unwrap() {
        let complete = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
        expected.push(std::str::from_utf8(&bytes[..complete]).unwrap().chars().count());
        match &token["piece"] {
            // The token that begins a document is no part of the text.
            Value::String(text) if text.starts_with("<|") => {}
            Value::String(text) => bytes.extend(text.bytes()),
            part => bytes.extend(part.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8)),
        }
    }
    assert_eq!(String::from_utf8(bytes).unwrap(), "a😀é b");
    assert!(expected.windows(3).any(|offsets| offsets == [1; 3]), "{expected:?}: no character is split");
    assert_eq!(logprobs["text_offset"], json!(expected));
}

#[tokio::test]
async fn as_many_tokens_are_counted_as_have_a_probability() {
    let server = Server::start(&[]).await;
    let text = server.ask(PATH, &request(&json!({ "max_tokens": 8 }))).await;
    let text = text["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(5).take(3).collect();
    for (more, reason) in [
        (json!({ "max_tokens": 4 }), "length"),
        (json!({ "max_tokens": 8, "stop": stop }), "stop"),
        // <|eot_id|> is the only choice.
        (json!({ "max_tokens": 8, "logit_bias": { "1801": 100 } }), "stop"),
    ] {
        let mut body = request(&more);
        body["logprobs"] = json!(0);
        let answer = server.ask(PATH, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], reason, "{more}");
        let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], tokens.len(), "{more}");
    }
}
