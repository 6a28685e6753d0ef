//! The demo model inside the engine: what somebody gets who has no model yet.

use e2e::{Server, demo_engine, get, post, web};
use serde_json::{Value, json};

/// The likeliest answers to questions that are asked one after the other.
async fn conversation(engine: &Server, questions: &[&str]) -> Vec<String> {
    let mut messages = Vec::new();
    let mut answers = Vec::new();
    for question in questions {
        messages.push(json!({"role": "user", "content": question}));
        let url = format!("{}/v1/chat/completions", engine.url);
        let reply = post(&url, json!({"messages": messages, "temperature": 0})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.body["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
        messages.push(json!({"role": "assistant", "content": answer}));
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn it_answers_what_a_newcomer_asks_over_several_turns() {
    let engine = demo_engine().await;
    // Beside each question what its answer has to contain: one of the parts between `|`, where several answers are right.
    for turns in [
        &[("Hello!", "Hello|Hi there"), ("what is bitnet", "-1, 0"), ("why?", "memory")][..],
        &[("What is a sidecar?", "second container"), ("tell me more", "11434")],
        &[("How do I use a real model?", "cargo chat -m"), ("where can i download it?", "Hugging Face")],
        &[("My name is Anna.", "Anna"), ("What is 7 + 5?", "7 + 5 = 12."), ("what is my name?", "Anna")],
        &[("Why is it fast without a GPU?", "CPU"), ("thanks", "pleasure|welcome")],
        &[
            ("What is the capital of France?", "Paris"),
            ("Who will win the next election?", "no internet|never learned"),
        ],
        &[("what is 8 times 7", "8 x 7 = 56."), ("ok, thanks", "pleasure|welcome"), ("bye", "Bye|Goodbye")],
        &[("what is 12 x 12?", "= 144."), ("and 100 - 37?", "too big")],
        &[("I feel sad.", "better day"), ("thank you", "pleasure|welcome")],
    ] {
        let questions: Vec<_> = turns.iter().map(|turn| turn.0).collect();
        let answers = conversation(&engine, &questions).await;
        for ((question, expected), answer) in turns.iter().zip(&answers) {
            let is_right = expected.split('|').any(|part| answer.contains(part));
            assert!(is_right, "{question:?} got {answer:?}, not {expected:?}");
        }
    }
}

#[tokio::test]
async fn everything_says_that_it_is_the_demo() {
    let mut engine = demo_engine().await;
    let is_notice = |notice: &Value| {
        notice.as_str().is_some_and(|text| text.contains("demo model") && text.contains("BITNET_MODEL"))
    };
    let models = get(&format!("{}/v1/models", engine.url)).await.body;
    assert_eq!(models["data"][0]["id"], "bitnet-demo");
    assert!(is_notice(&models["data"][0]["meta"]["demo_notice"]), "{models}");
    let props = get(&format!("{}/props", engine.url)).await.body;
    assert_eq!(props["model_path"], "demo");
    assert!(is_notice(&props["demo_notice"]), "{props}");
    let page = web(&engine.url).await;
    let status = get(&format!("{}/status", page.url)).await.body;
    assert!(is_notice(&status["demo_notice"]), "{status}");
    for step in [
        "microsoft/bitnet-b1.58-2B-4T-gguf",
        "1,187,801,280",
        "bitnet-engine -m bitnet-2b",
        "bitnet-engine pull bitnet-2b",
    ] {
        engine.program.printed(step, |log| log.contains(step).then_some(())).await;
    }
}
