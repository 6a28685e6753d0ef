//! Tokens and their log-probabilities on the wire.

use serde::{Serialize, Serializer};

use crate::generation::{Token, TokenLogprobs};

use crate::text::Utf8Stream;
use crate::tokenizer::Tokenizer;

/// JSON has no infinity; this is what OpenAI's API says for "never".
const NEVER: f32 = -9999.0;

/// As in `logprobs.content` of a chat answer and in llama.cpp's `completion_probabilities`.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    #[serde(flatten)]
    token: Alternative<'a>,
    top_logprobs: Vec<Alternative<'a>>,
}

#[derive(Debug, Serialize)]
struct Alternative<'a> {
    id: u32,
    token: String,
    bytes: Option<&'a [u8]>,
    logprob: f32,
}

/// Tokens without a probability are left out.
pub(super) fn entries<'a>(tokens: &[Token], tokenizer: &'a Tokenizer) -> Vec<Entry<'a>> {
    let alternative = |id, logprob: f32| Alternative {
        id,
        token: tokenizer.token_text(id),
        bytes: tokenizer.token_bytes(id),
        logprob: logprob.max(NEVER),
    };
    let entry = |token: &Token| {
        let TokenLogprobs { logprob, top } = token.logprobs.as_ref()?;
        Some(Entry {
            token: alternative(token.id, *logprob),
            top_logprobs: top.iter().map(|other| alternative(other.id, other.logprob)).collect(),
        })
    };
    tokens.iter().filter_map(entry).collect()
}

/// The older form of `/v1/completions`: parallel arrays.
#[derive(Debug, Serialize)]
pub(super) struct Columns {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<ByName>>,
    /// Where each token begins in the text, in characters; in the middle of a character, where that begins.
    text_offset: Vec<usize>,
}

#[derive(Debug)]
struct ByName(Vec<(String, f32)>);

impl Serialize for ByName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, logprob)| (name, logprob)))
    }
}

/// Where the next token begins.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    text: Utf8Stream,
    characters: usize,
}

impl Offsets {
    /// The arrays for these tokens, which follow those of the last call.
    pub(super) fn columns(&mut self, tokens: &[Token], tokenizer: &Tokenizer) -> Columns {
        let named = |id, logprob: f32| (name(id, tokenizer), logprob.max(NEVER));
        let top = |logprobs: &TokenLogprobs| {
            ByName(logprobs.top.iter().map(|other| named(other.id, other.logprob)).collect())
        };
        Columns {
            tokens: tokens.iter().map(|token| name(token.id, tokenizer)).collect(),
            token_logprobs: tokens
                .iter()
                .map(|token| token.logprobs.as_ref().map(|logprobs| logprobs.logprob.max(NEVER)))
                .collect(),
            top_logprobs: tokens.iter().map(|token| token.logprobs.as_ref().map(top)).collect(),
            text_offset: tokens.iter().map(|token| self.advance(token.id, tokenizer)).collect(),
        }
    }

    fn advance(&mut self, id: u32, tokenizer: &Tokenizer) -> usize {
        let start = self.characters;
        if !tokenizer.is_control(id) {
            let text = self.text.push(tokenizer.token_bytes(id).unwrap_or_default());
            self.characters += text.chars().count();
        }
        start
    }
}

/// A token's text, or its bytes where it is only a part of a character: two such tokens must not get the same name.
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
