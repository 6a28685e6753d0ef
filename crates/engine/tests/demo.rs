//! The demo model as a real one: what it says is the same however it is computed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use bitnet_engine::bench::Decoder;
use bitnet_engine::bench::kernels::Isa;
use bitnet_engine::chat_template::Message;
use bitnet_engine::config::Config;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/bitnet-demo.gguf");

/// The likeliest answer to the last message, with these flags.
fn answer(messages: &[&str], flags: &[&str]) -> String {
    let config = Config::parse([&["x"], flags].concat()).unwrap();
    let mut decoder = Decoder::open(&config, Path::new(DEMO)).unwrap();
    let messages: Vec<_> = messages
        .iter()
        .zip(["user", "assistant"].iter().cycle())
        .map(|(content, role)| Message { role: (*role).to_owned(), content: (*content).to_owned() })
        .collect();
    decoder.prefill(&decoder.prompt(&messages).unwrap()).unwrap();
    let mut answer = Vec::new();
    loop {
        let next = decoder.likeliest().unwrap();
        if decoder.tokenizer().end_of_generation().contains(&next) || answer.len() == 100 {
            return decoder.tokenizer().decode(&answer, false);
        }
        answer.push(next);
        decoder.push(next).unwrap();
    }
}

/// Conversations, and what the model says next: as they were when it was published.
const PUBLISHED: [(&[&str], &str); 3] = [
    (
        &["What is BitNet?"],
        "BitNet b1.58 is a kind of language model with ternary weights: each is -1, 0 or +1. So it needs little memory and no \
         GPU.",
    ),
    (
        &["hi", "Hello! How can I help you?", "how do i use my own model"],
        "Download the official model file and start me with it: cargo chat -m models/ggml-model-i2_s.gguf",
    ),
    (
        &[
            "my name is Maria",
            "Nice to meet you, Maria!",
            "What is 6 times 7?",
            "6 x 7 = 42.",
            "what is my name?",
        ],
        "Your name is Maria.",
    ),
];

#[test]
fn its_likeliest_answers_are_the_published_ones_on_every_instruction_set_with_any_threads_and_chunks() {
    for isa in Isa::available() {
        for (threads, chunk) in [("1", "1"), ("2", "192"), ("3", "7")] {
            let flags = ["--isa", isa.name(), "--threads", threads, "--ubatch-size", chunk];
            for (messages, expected) in PUBLISHED {
                assert_eq!(answer(messages, &flags), expected, "{messages:?}, {flags:?}");
            }
        }
    }
}

#[test]
fn it_is_small() {
    let bytes = std::fs::metadata(DEMO).unwrap().len();
    assert!(bytes <= 8 << 20, "{bytes} bytes");
}
