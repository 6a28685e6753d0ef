//! The endpoints that llama-server has beyond OpenAI's.

use serde_json::{Value, json};

use super::server::{MODEL, Server};

#[tokio::test]
async fn a_completion_has_llama_servers_shape() {
    let server = Server::start(&["--alias", "nano"]).await;
    let body = json!({
        "prompt": "Hello there", "n_predict": 3, "temperature": 0, "seed": 5, "n_probs": 2, "return_tokens": true,
        "stop": ["never"],
    });
    let mut answer = server.ask("/completion", &body).await;
    let content = answer["content"].take();
    let tokens = answer["tokens"].take();
    assert_eq!(tokens.as_array().unwrap().len(), 3);
    assert_eq!(server.ask("/detokenize", &json!({ "tokens": tokens })).await["content"], content);
    let probabilities = answer["completion_probabilities"].take();
    for (entry, id) in probabilities.as_array().unwrap().iter().zip(tokens.as_array().unwrap()) {
        assert_eq!(entry["id"], *id);
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2);
        for entry in [entry, &entry["top_logprobs"][1]] {
            assert!(entry["token"].is_string() && entry["bytes"].is_array() && entry["logprob"].is_number());
        }
    }
    let timings = answer["timings"].take();
    assert_eq!(
        (&timings["cache_n"], &timings["prompt_n"], &timings["predicted_n"]),
        (&json!(0), &json!(5), &json!(3))
    );
    for name in
        ["prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"]
    {
        assert!(timings[name].as_f64().unwrap() > 0.0, "{name} in {timings}");
    }
    let expected = json!({
        "index": 0,
        "id_slot": 0,
        "content": null,
        "tokens": null,
        "completion_probabilities": null,
        "timings": null,
        "stop": true,
        "stop_type": "limit",
        "stopping_word": "",
        "truncated": false,
        "tokens_predicted": 3,
        "tokens_evaluated": 5,
        "tokens_cached": 0,
        "model": "nano",
        "prompt": "Hello there",
        "generation_settings": {
            "n_ctx": 1024, "model": "nano", "n_predict": 3, "max_tokens": 3, "seed": 5, "temperature": 0.0, "top_k": 40,
            "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0, "repeat_last_n": 64, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "logit_bias": [], "n_probs": 2, "stop": ["never"], "stream": false,
            "cache_prompt": true,
        },
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_streamed_completion_is_the_same_in_pieces() {
    let server = Server::start(&[]).await;
    let body = json!({ "prompt": [1792, "Hello", " there"], "n_predict": 20, "temperature": 0, "return_tokens": true });
    let whole = server.ask("/completions", &body).await;
    let (chunks, done) = server.stream("/completion", body).await.rest().await;
    assert!(!done, "llama-server ends this stream without [DONE]");
    let (last, chunks) = chunks.split_last().unwrap();
    assert!(chunks.iter().all(|chunk| chunk["stop"] == false));
    let text: String = chunks.iter().map(|chunk| chunk["content"].as_str().unwrap()).collect();
    assert_eq!(text, whole["content"].as_str().unwrap());
    let tokens: Vec<Value> =
        chunks.iter().flat_map(|chunk| chunk["tokens"].as_array().unwrap().clone()).collect();
    assert_eq!(json!(tokens), whole["tokens"]);
    for name in ["stop", "stop_type", "tokens_predicted", "tokens_evaluated", "truncated", "prompt"] {
        assert_eq!(last[name], whole[name], "{name}");
    }
    assert_eq!(last["content"], "");
}

#[tokio::test]
async fn the_end_of_a_completion_is_explained() {
    let server = Server::start(&["-c", "16"]).await;
    let body = |more: Value| {
        let mut body = json!({ "prompt": "Hello there", "temperature": 0 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let limited = server.ask("/completion", &body(json!({ "n_predict": 4, "ignore_eos": true }))).await;
    let word: String = limited["content"].as_str().unwrap().chars().skip(2).take(3).collect();
    for (more, stop_type, stopping_word, truncated) in [
        (json!({ "n_predict": 4 }), "limit", "", false),
        (json!({ "ignore_eos": true }), "limit", "", true),
        (json!({ "logit_bias": [[1801, 100]] }), "eos", "", false),
        (json!({ "stop": [word] }), "word", word.as_str(), false),
    ] {
        let answer = server.ask("/completion", &body(more)).await;
        let end = (&answer["stop_type"], &answer["stopping_word"], &answer["truncated"]);
        assert_eq!(end, (&json!(stop_type), &json!(stopping_word), &json!(truncated)));
    }
}

#[tokio::test]
async fn a_bias_of_false_forbids_a_token_and_text_stands_for_its_tokens() {
    let server = Server::start(&[]).await;
    let body = json!({ "prompt": "Hello there", "n_predict": 1, "temperature": 0, "return_tokens": true });
    let with = |bias: Value| {
        let mut body = body.clone();
        body["logit_bias"] = bias;
        body
    };
    let first = server.ask("/completion", &body).await["tokens"][0].clone();
    let other = server.ask("/completion", &with(json!([[first, false]]))).await["tokens"][0].clone();
    assert_ne!(first, other);
    let forced = server.ask("/completion", &with(json!([["!", 1000]]))).await;
    assert_eq!(forced["content"], "!");
}

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let server = Server::start(&[]).await;
    let ids = async |body: Value| server.ask("/tokenize", &body).await["tokens"].clone();
    let plain = ids(json!({ "content": "Hello<|eot_id|>" })).await;
    assert_eq!(
        plain.as_array().unwrap().last(),
        Some(&json!(1801)),
        "names of special tokens count by default"
    );
    let text = ids(json!({ "content": "Hello<|eot_id|>", "parse_special": false })).await;
    assert!(text.as_array().unwrap().len() > plain.as_array().unwrap().len());
    let special = ids(json!({ "content": "", "add_special": true })).await;
    assert_eq!(special, json!([1792]));
    let pieces = ids(json!({ "content": "H🙂", "with_pieces": true })).await;
    assert_eq!(pieces[0], json!({ "id": 39, "piece": "H" }));
    assert_eq!(pieces[1]["piece"][0], 0xf0, "a part of a character is shown as bytes");
    assert_eq!(server.ask("/detokenize", &json!({ "tokens": text })).await["content"], "Hello<|eot_id|>");
}

#[tokio::test]
async fn the_template_can_be_seen_at_work() {
    let server = Server::start(&[]).await;
    let messages = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hi" }]);
    let prompt = server.ask("/apply-template", &json!({ "messages": messages })).await;
    assert_eq!(prompt, json!({ "prompt": "System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: " }));
}

#[tokio::test]
async fn the_server_tells_what_it_serves() {
    let server = Server::start(&["--alias", "nano", "--temp", "0.5", "-n", "9", "--parallel", "1"]).await;
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["object"], "list");
    let model = &models["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&json!("nano"), &json!("model")));
    assert!(model["created"].is_u64() && model["owned_by"].is_string());
    assert_eq!(server.get("/v1/models/nano").await.json(), *model);
    assert_eq!(server.get("/models").await.json(), models);

    let props = server.get("/props").await.json();
    let settings = &props["default_generation_settings"];
    assert_eq!(settings["n_ctx"], 1024);
    assert_eq!(settings["params"]["temperature"], 0.5);
    assert_eq!(settings["params"]["n_predict"], 9);
    assert_eq!(settings["params"]["seed"], -1);
    assert_eq!(props["total_slots"], 1);
    assert_eq!(props["model_path"], MODEL);
    assert!(props["chat_template"].as_str().unwrap().contains("Assistant: "));
    let slot = json!({ "id": 0, "n_ctx": 1024, "is_processing": false, "n_past": 0 });
    assert_eq!(server.slots().await, [slot]);

    let root = server.get("/").await;
    assert_eq!((root.status.as_u16(), root.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!(server.get("/health").await.json(), json!({ "status": "ok" }));
    assert_eq!(server.get("/v1/health").await.json(), json!({ "status": "ok" }));
}
