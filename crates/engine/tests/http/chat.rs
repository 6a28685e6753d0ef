//! `POST /v1/chat/completions`.

use serde_json::{Value, json};

use super::server::{Server, steady};

const PATH: &str = "/v1/chat/completions";

/// A request for a few tokens that are always the same.
fn request(more: &Value) -> Value {
    let mut request = json!({
        "messages": [{ "role": "user", "content": "Hello there" }],
        "temperature": 0,
        "max_tokens": 12,
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// The text of a streamed answer.
fn joined(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape() {
    let server = Server::start(&["--alias", "nano"]).await;
    let answer = server.ask(PATH, &request(&json!({ "max_tokens": 1 }))).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(answer["timings"]["predicted_n"], 1);
    let text = content(&answer).to_owned();
    let expected = json!({
        "id": "…",
        "object": "chat.completion",
        "created": "…",
        "model": "nano",
        "system_fingerprint": concat!("bitnet-engine-", env!("CARGO_PKG_VERSION")),
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": null,
            "finish_reason": "length",
        }],
        "usage": {
            "prompt_tokens": 15,
            "completion_tokens": 1,
            "total_tokens": 16,
            "prompt_tokens_details": { "cached_tokens": 0 },
        },
        "timings": "…",
    });
    assert_eq!(steady(answer), expected);
}

#[tokio::test]
async fn a_streamed_answer_has_openais_chunks() {
    let server = Server::start(&[]).await;
    let body =
        request(&json!({ "max_tokens": 1, "model": "any", "stream_options": { "include_usage": true } }));
    let (chunks, done) = server.stream(PATH, body).await.rest().await;
    assert!(done);
    let chunk = |choices: Value, usage: Value| {
        json!({
            "id": "…",
            "object": "chat.completion.chunk",
            "created": "…",
            "model": "any",
            "system_fingerprint": concat!("bitnet-engine-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
            "usage": usage,
        })
    };
    let choice = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason }]);
    let counts = json!({
        "prompt_tokens": 15,
        "completion_tokens": 1,
        "total_tokens": 16,
        "prompt_tokens_details": { "cached_tokens": 0 },
    });
    let mut last = chunk(json!([]), counts);
    last["timings"] = json!("…");
    let expected = [
        chunk(
            choice(json!({ "role": "assistant", "content": "", "refusal": null }), json!(null)),
            json!(null),
        ),
        chunk(choice(json!({ "content": joined(&chunks) }), json!(null)), json!(null)),
        chunk(choice(json!({}), json!("length")), json!(null)),
        last,
    ];
    let ids: Vec<_> = chunks.iter().map(|chunk| chunk["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "one id for the whole answer");
    assert_eq!(chunks.into_iter().map(steady).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_streamed_text_is_the_whole_text_whatever_the_seed() {
    let server = Server::start(&[]).await;
    for seed in 0..8 {
        let body = request(&json!({ "temperature": 1.5, "top_k": 0, "seed": seed, "max_tokens": 60 }));
        let whole = server.ask(PATH, &body).await;
        let (chunks, done) = server.stream(PATH, body).await.rest().await;
        assert!(done);
        assert_eq!(joined(&chunks), content(&whole));
        let reason = chunks.iter().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
        assert_eq!(reason, whole["choices"][0]["finish_reason"].as_str());
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text_with_and_without_the_cache() {
    let server = Server::start(&[]).await;
    let body =
        |seed: i64, cache: bool| request(&json!({ "temperature": 1, "seed": seed, "cache_prompt": cache }));
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    let first = server.ask(PATH, &body(7, true)).await;
    // What a request leaves out of the cache nobody finds there.
    for (uses, expected) in [(true, 14), (false, 0)] {
        let again = server.ask(PATH, &body(7, uses)).await;
        assert_eq!(content(&first), content(&again));
        assert_eq!(cached(&again), expected);
    }
    let apart = json!([{ "role": "user", "content": "Something that was never asked before, and goes on for a while" }]);
    for uses in [false, true] {
        let body = request(&json!({ "messages": apart, "cache_prompt": uses, "max_tokens": 1 }));
        let begins_alike = cached(&server.ask(PATH, &body).await).as_u64().unwrap();
        assert!(begins_alike < 5, "{begins_alike}");
    }
    assert_ne!(content(&first), content(&server.ask(PATH, &body(8, false)).await));
}

#[tokio::test]
async fn without_a_seed_two_answers_differ() {
    let server = Server::start(&[]).await;
    let body = request(&json!({ "temperature": 1, "max_tokens": 30 }));
    assert_ne!(content(&server.ask(PATH, &body).await), content(&server.ask(PATH, &body).await));
}

#[tokio::test]
async fn a_conversation_computes_only_its_new_turn() {
    let server = Server::start(&[]).await;
    let first = server.ask(PATH, &request(&json!({}))).await;
    let messages = json!([
        { "role": "user", "content": "Hello there" },
        { "role": "assistant", "content": content(&first) },
        { "role": "user", "content": "And now?" },
    ]);
    let second = server.ask(PATH, &request(&json!({ "messages": messages }))).await;
    assert!(second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() >= 14);
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_no_part_of_it() {
    let server = Server::start(&[]).await;
    let all = server.ask(PATH, &request(&json!({}))).await;
    let text = content(&all);
    // Across the border of two tokens, wherever that is.
    let stop: String = text.chars().skip(7).take(6).collect();
    let expected = &text[..text.find(&stop).unwrap()];
    for stop in [json!(stop), json!(["never", stop])] {
        let body = request(&json!({ "stop": stop, "logprobs": true }));
        let answer = server.ask(PATH, &body).await;
        assert_eq!(content(&answer), expected);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
        let listed: String = tokens.iter().filter_map(|token| token["token"].as_str()).collect();
        assert!(listed.starts_with(expected), "{listed:?} for {expected:?}");
        let (chunks, _) = server.stream(PATH, body).await.rest().await;
        assert_eq!(joined(&chunks), expected);
    }
}

#[tokio::test]
async fn an_answer_ends_at_the_end_of_a_turn() {
    let server = Server::start(&[]).await;
    // 1801 is <|eot_id|>: make it the only choice.
    let body = request(&json!({ "logit_bias": { "1801": 100 } }));
    let answer = server.ask(PATH, &body).await;
    assert_eq!((content(&answer), &answer["choices"][0]["finish_reason"]), ("", &json!("stop")));
    // The token that ends a turn takes its time, and is no part of the answer.
    assert_eq!(
        (&answer["usage"]["completion_tokens"], &answer["timings"]["predicted_n"]),
        (&json!(0), &json!(1))
    );
    let answer =
        server.ask(PATH, &request(&json!({ "logit_bias": { "1801": 100 }, "ignore_eos": true }))).await;
    assert_eq!(answer["usage"]["completion_tokens"], 12);
}

#[tokio::test]
async fn log_probabilities_come_with_their_tokens() {
    let server = Server::start(&[]).await;
    let body = request(&json!({ "logprobs": true, "top_logprobs": 2, "max_tokens": 5 }));
    let whole = server.ask(PATH, &body).await;
    let logprobs = &whole["choices"][0]["logprobs"];
    assert_eq!(logprobs["refusal"], json!(null));
    let entries = logprobs["content"].as_array().unwrap();
    assert_eq!(entries.len(), 5);
    let mut text = Vec::new();
    for entry in entries {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        // Greedy: the likeliest was taken.
        for name in ["token", "logprob", "bytes"] {
            assert_eq!(entry[name], top[0][name]);
        }
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        assert!(top[1]["logprob"].as_f64() <= top[0]["logprob"].as_f64());
        text.extend(entry["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8));
    }
    assert_eq!(String::from_utf8_lossy(&text), content(&whole));

    let (chunks, _) = server.stream(PATH, body).await.rest().await;
    let streamed: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(&streamed, entries);
}

#[tokio::test]
async fn the_answer_may_fill_the_context_and_ends_there() {
    let server = Server::start(&["-c", "32"]).await;
    let answer = server.ask(PATH, &request(&json!({ "max_tokens": null, "ignore_eos": true }))).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 32);
}

#[tokio::test]
async fn every_name_of_the_limit_works_and_minus_one_is_none() {
    let server = Server::start(&["-c", "32", "-n", "3"]).await;
    for (limit, tokens) in [
        (json!({ "max_tokens": 2 }), 2),
        (json!({ "max_tokens": null, "n_predict": 2 }), 2),
        (json!({ "max_completion_tokens": 2, "max_tokens": 5 }), 2),
        (json!({ "max_tokens": 0 }), 0),
        (json!({ "max_tokens": -1 }), 17),
        (json!({ "max_tokens": null }), 3),
    ] {
        let mut body = request(&limit);
        body["ignore_eos"] = json!(true);
        let answer = server.ask(PATH, &body).await;
        assert_eq!(answer["usage"]["completion_tokens"], tokens, "{limit}");
    }
}

#[tokio::test]
async fn what_asks_for_nothing_unusual_is_accepted() {
    let server = Server::start(&[]).await;
    let body = request(&json!({
        "model": "gpt-4o", "n": 1, "stop": null, "tools": [], "tool_choice": "auto", "user": "me", "store": false,
        "response_format": { "type": "text" }, "modalities": ["text"], "logit_bias": {}, "metadata": {},
        "parallel_tool_calls": true, "frequency_penalty": 0.5, "presence_penalty": -0.5, "top_p": 0.9, "min_p": 0.1,
        "repeat_penalty": 1.1, "repeat_last_n": -1, "mirostat": 0, "grammar": "", "something_new": 1,
    }));
    assert_eq!(server.ask(PATH, &body).await["model"], "gpt-4o");
    // The other name of the path, and a content type that curl sends.
    let reply = server.post("/chat/completions", &body).await;
    assert_eq!(reply.status, 200);
}
