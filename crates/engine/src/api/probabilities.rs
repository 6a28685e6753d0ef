//! Tokens and their log-probabilities as JSON.

use serde_json::{Value, json};

use crate::tokenizer::Tokenizer;
use crate::worker::{Logprobs, Token};

/// JSON has no infinity; this is what OpenAI's API says for "never".
const NEVER: f32 = -9999.0;

/// Entries as in `logprobs.content` of a chat answer and in llama.cpp's `completion_probabilities`.
/// Tokens without a probability are left out.
pub(super) fn entries(tokens: &[Token], tokenizer: &Tokenizer) -> Vec<Value> {
    let entry = |token: &Token| {
        let logprobs = token.logprobs.as_ref()?;
        let mut entry = alternative(token.id, logprobs.logprob, tokenizer);
        let top = logprobs.top.iter().map(|other| alternative(other.id, other.logprob, tokenizer));
        entry["top_logprobs"] = top.collect();
        Some(entry)
    };
    tokens.iter().filter_map(entry).collect()
}

fn alternative(id: u32, logprob: f32, tokenizer: &Tokenizer) -> Value {
    json!({
        "id": id,
        "token": tokenizer.token_text(id),
        "bytes": tokenizer.token_bytes(id),
        "logprob": logprob.max(NEVER),
    })
}

/// The older form of `/v1/completions`: parallel arrays.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// Characters before the next token.
    offset: usize,
}

impl Columns {
    /// The arrays for these tokens, which follow those of the last call.
    pub(super) fn next(&mut self, tokens: &[Token], tokenizer: &Tokenizer) -> Value {
        let offsets: Vec<_> = tokens.iter().map(|token| self.advance(token.id, tokenizer)).collect();
        let logprob = |token: &Token| token.logprobs.as_ref().map(|logprobs| logprobs.logprob.max(NEVER));
        let top = |token: &Token| token.logprobs.as_ref().map(|logprobs| by_text(logprobs, tokenizer));
        json!({
            "tokens": tokens.iter().map(|token| name(token.id, tokenizer)).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(logprob).collect::<Vec<_>>(),
            "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }

    /// Where the token begins in the text, in characters.
    fn advance(&mut self, id: u32, tokenizer: &Tokenizer) -> usize {
        let start = self.offset;
        if !tokenizer.is_control(id) {
            self.offset += tokenizer.token_text(id).chars().count();
        }
        start
    }
}

fn by_text(logprobs: &Logprobs, tokenizer: &Tokenizer) -> Value {
    let pair = |id, logprob: f32| (name(id, tokenizer), Value::from(logprob.max(NEVER)));
    logprobs.top.iter().map(|other| pair(other.id, other.logprob)).collect::<serde_json::Map<_, _>>().into()
}

/// A token's text, or its bytes where it is only a part of a character: two such tokens must not
/// get the same name.
fn name(id: u32, tokenizer: &Tokenizer) -> String {
    use std::fmt::Write;
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut name, byte| {
            // Writing to a string cannot fail.
            write!(name, "\\x{byte:02x}").ok();
            name
        }),
    }
}
