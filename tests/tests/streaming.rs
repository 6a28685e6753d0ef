//! What arrives piece by piece is what would have arrived as a whole.

use std::collections::HashMap;

use e2e::{Events, Server, engine, post};
use serde_json::{Value, json};

/// One way to ask for text: where, what, and where an answer and a chunk of a stream have their text.
struct Route {
    path: &'static str,
    prompt: Value,
    whole: &'static str,
    chunk: &'static str,
}

fn openai_chat() -> Route {
    Route {
        path: "/v1/chat/completions",
        prompt: json!({"messages": [{"role": "user", "content": "What is the sea?"}]}),
        whole: "/choices/0/message/content",
        chunk: "/choices/0/delta/content",
    }
}

fn openai_completions() -> Route {
    let text = "/choices/0/text";
    Route { path: "/v1/completions", prompt: json!({"prompt": "The kettle sings"}), whole: text, chunk: text }
}

fn llama_cpp() -> Route {
    let text = "/content";
    Route { path: "/completion", prompt: json!({"prompt": "The kettle sings"}), whole: text, chunk: text }
}

impl Route {
    /// The whole answer, its text, and the pieces of its text in a stream.
    async fn ask(&self, engine: &Server, options: &Value) -> (Value, String, Vec<String>) {
        let url = format!("{}{}", engine.url, self.path);
        let mut body = merged(&self.prompt, options);
        let whole = post(&url, &body).await;
        assert_eq!(whole.status, 200, "{whole:?}");
        let text = text(&whole.body, self.whole).expect("a text");

        body["stream"] = json!(true);
        let mut chunks = Events::of(&url, &body).await.rest().await;
        // OpenAI's streams end with this word, llama.cpp's with the chunk that says why.
        chunks.pop_if(|last| last == "[DONE]");
        let chunks = chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("a chunk is JSON"));
        let pieces =
            chunks.filter_map(|chunk| self::text(&chunk, self.chunk)).filter(|piece| !piece.is_empty());
        (whole.body, text, pieces.collect())
    }
}

fn text(answer: &Value, path: &str) -> Option<String> {
    answer.pointer(path)?.as_str().map(str::to_owned)
}

fn merged(first: &Value, second: &Value) -> Value {
    let mut all = first.as_object().expect("an object").clone();
    all.extend(second.as_object().expect("an object").clone());
    all.into()
}

#[tokio::test]
async fn streamed_text_equals_text_that_comes_as_a_whole() {
    let engine = engine(&[]).await;
    for route in [openai_chat(), openai_completions(), llama_cpp()] {
        for sampling in [json!({"temperature": 0}), json!({"temperature": 1, "seed": 5})] {
            let options = merged(&sampling, &json!({"n_predict": 48, "ignore_eos": true}));
            let (_, text, pieces) = route.ask(&engine, &options).await;
            assert_eq!(pieces.concat(), text, "{} {sampling}", route.path);
            assert!(pieces.len() > 1, "{} {sampling}: {pieces:?}", route.path);
        }
    }
}

#[tokio::test]
async fn a_stop_string_ends_the_text_before_it() {
    let engine = engine(&[]).await;
    for route in [openai_chat(), openai_completions(), llama_cpp()] {
        let sampling = json!({"temperature": 1, "seed": 5, "n_predict": 48, "ignore_eos": true});
        let (_, text, _) = route.ask(&engine, &sampling).await;
        // From the middle, and long enough to lie across a border between tokens.
        let stop: String = text.chars().skip(text.chars().count() / 2).take(8).collect();
        let before = text.split(&stop).next().expect("a first part");
        let (_, stopped, pieces) = route.ask(&engine, &merged(&sampling, &json!({"stop": [stop]}))).await;
        assert_eq!(stopped, before, "{} stops at {stop:?} in {text:?}", route.path);
        assert_eq!(pieces.concat(), before, "{} stops at {stop:?} in {text:?}", route.path);
    }
}

/// The model says an emoji only by chance, so the tokens of its bytes are made so probable that it says nothing else. In
/// between come bytes in an order that is no character, and those must become U+FFFD.
#[tokio::test]
async fn an_emoji_of_several_tokens_arrives_in_one_piece() {
    let engine = engine(&[]).await;
    let request = json!({"content": "😀", "with_pieces": true});
    let reply = post(&format!("{}/tokenize", engine.url), request).await;
    let tokens = reply.body["tokens"].as_array().unwrap_or_else(|| panic!("{reply:?}"));
    assert!(tokens.len() > 1, "{tokens:?}");
    // A piece that is not UTF-8 by itself is a list of bytes.
    let bytes = |token: &Value| serde_json::from_value::<Vec<u8>>(token["piece"].clone()).expect("bytes");
    let bytes: HashMap<u64, Vec<u8>> = tokens.iter().map(|token| (id(&token["id"]), bytes(token))).collect();

    let mut emoji = 0;
    for seed in 0..4 {
        let options = json!({
            "logit_bias": bytes.keys().map(|token| json!([token, 1000])).collect::<Vec<_>>(),
            "temperature": 10,
            "top_k": 0,
            "top_p": 1,
            "min_p": 0,
            "seed": seed,
            "n_predict": 500,
            "return_tokens": true,
        });
        let (whole, text, pieces) = llama_cpp().ask(&engine, &options).await;
        let generated = whole["tokens"].as_array().expect("a list of tokens").iter();
        let generated: Vec<u8> = generated.flat_map(|token| bytes[&id(token)].clone()).collect();
        assert_eq!(text, String::from_utf8_lossy(&generated));
        assert_eq!(pieces.concat(), text);
        emoji += pieces.iter().filter(|piece| piece.contains('😀')).count();
    }
    assert!(emoji > 0, "other seeds are needed");
}

fn id(token: &Value) -> u64 {
    token.as_u64().unwrap_or_else(|| panic!("{token} is not a token"))
}
