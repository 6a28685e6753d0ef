//! The `prompt` of a completion request: text, tokens, or both in turn.

use serde_json::Value;

use super::error::ApiError;
use super::fields::as_integer;
use crate::tokenizer::Tokenizer;

/// A prompt as tokens, and as the text that it stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Not empty.
    pub(super) tokens: Vec<u32>,
    pub(super) text: String,
}

/// Reads a string, an array of token ids and strings, or an array with one of these. Text gets
/// the token that begins a document if it comes first and the model wants it; tokens are taken as
/// they are. Names of special tokens in the text count as these tokens.
pub(super) fn read(prompt: &Value, tokenizer: &Tokenizer) -> Result<Prompt, ApiError> {
    let prompt = match prompt.as_array().map(Vec::as_slice) {
        Some([only]) if only.is_string() || only.is_array() => only,
        Some([first, ..]) if first.is_array() => return Err(several(prompt)),
        Some(items) if items.len() > 1 && items.iter().all(Value::is_string) => return Err(several(prompt)),
        _ => prompt,
    };
    let parts = match prompt {
        Value::String(_) => std::slice::from_ref(prompt),
        Value::Array(parts) => parts,
        other => return Err(ApiError::invalid("prompt", "a string or an array of token ids", other)),
    };
    let mut tokens = Vec::new();
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        if let Some(part) = part.as_str() {
            if index == 0 && tokenizer.adds_bos() {
                tokens.extend(tokenizer.bos());
            }
            tokens.extend(encode("prompt", part, true, tokenizer)?);
            text.push_str(part);
        } else {
            let id = token_id(&format!("prompt[{index}]"), part, tokenizer)?;
            tokens.push(id);
        }
    }
    if tokens.is_empty() {
        return Err(ApiError::invalid("prompt", "at least one token", prompt));
    }
    if !parts.iter().all(Value::is_string) {
        text = tokenizer.decode(&tokens, true);
    }
    Ok(Prompt { tokens, text })
}

/// A token id of this vocabulary.
pub(super) fn token_id(place: &str, value: &Value, tokenizer: &Tokenizer) -> Result<u32, ApiError> {
    let id = as_integer(value).and_then(|id| u32::try_from(id).ok());
    id.filter(|id| (*id as usize) < tokenizer.vocab_size()).ok_or_else(|| {
        ApiError::invalid(place, format!("a token id from 0 to {}", tokenizer.vocab_size() - 1), value)
    })
}

/// The tokens of a text.
pub(super) fn encode(
    place: &str,
    text: &str,
    parse_special: bool,
    tokenizer: &Tokenizer,
) -> Result<Vec<u32>, ApiError> {
    let invalid = |error: crate::tokenizer::TokenizerError| {
        ApiError::invalid(place, format!("text that can be tokenized ({error})"), &Value::from(text))
    };
    tokenizer.encode(text, parse_special).map_err(invalid)
}

fn several(prompt: &Value) -> ApiError {
    ApiError::invalid("prompt", "one prompt; send a request for each", prompt)
}
