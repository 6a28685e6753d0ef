//! The demo model as a real one: what it says is the same however it is computed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bitnet_engine::chat_template::Message;
use bitnet_engine::config::Config;
use bitnet_engine::engine::{checkpoint, inference, language};
use bitnet_engine::hub::LocalModel;
use bitnet_engine::kernels::Isa;
use bitnet_engine::model::Row;

/// The likeliest answer to the last message, with these flags.
fn answer(messages: &[&str], flags: &[&str]) -> String {
    let config = Config::parse([&["x", "--model", "demo"], flags].concat()).unwrap();
    let checkpoint = checkpoint(&LocalModel::Demo).unwrap();
    let (tokenizer, template) = language(&config, &checkpoint).unwrap();
    let mut inference = inference(&config, &checkpoint).unwrap();
    let messages: Vec<_> = messages
        .iter()
        .zip(["user", "assistant"].iter().cycle())
        .map(|(content, role)| Message { role: (*role).to_owned(), content: (*content).to_owned() })
        .collect();
    let mut tokens = template.prompt(&messages, true, &tokenizer).unwrap();
    let prompt = tokens.len();
    let mut read = 0;
    loop {
        while read < tokens.len() {
            let end = tokens.len().min(read + inference.max_rows());
            let row = |position| Row {
                token: tokens[position],
                slot: 0,
                position,
                logits: position + 1 == tokens.len(),
            };
            inference.forward(&(read..end).map(row).collect::<Vec<_>>()).unwrap();
            read = end;
        }
        let logits = inference.logits(0).unwrap();
        let next = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        if tokenizer.end_of_generation().contains(&next) || tokens.len() == prompt + 100 {
            return tokenizer.decode(&tokens[prompt..], false);
        }
        tokens.push(next);
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
    let bytes =
        std::fs::metadata(concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/bitnet-demo.gguf")).unwrap().len();
    assert!(bytes <= 8 << 20, "{bytes} bytes");
}
