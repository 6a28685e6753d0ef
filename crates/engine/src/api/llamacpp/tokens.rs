//! `POST /tokenize`, `/detokenize` and `/apply-template`: what a prompt becomes.

use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::fields::Fields;
use super::super::{messages, prompt};
use crate::engine::Engine;
use crate::tokenizer::Tokenizer;

/// Text to tokens.
pub(crate) fn tokenize(fields: &Fields, engine: &Engine) -> Result<Value, ApiError> {
    let tokenizer = &engine.tokenizer;
    let missing = || ApiError::Missing { field: "content".to_owned() };
    let content = fields.string("content")?.ok_or_else(missing)?;
    let mut ids = prompt::encode("content", content, fields.flag("parse_special", true)?, tokenizer)?;
    if fields.flag("add_special", false)? && tokenizer.adds_bos() {
        ids.splice(0..0, tokenizer.bos());
    }
    let with_pieces = fields.flag("with_pieces", false)?;
    let tokens = ids.into_iter().map(|id| if with_pieces { piece(id, tokenizer) } else { id.into() });
    Ok(json!({ "tokens": tokens.collect::<Vec<_>>() }))
}

/// A token and its text, or its bytes where they are not text.
fn piece(id: u32, tokenizer: &Tokenizer) -> Value {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), Value::from);
    json!({ "id": id, "piece": piece })
}

/// Tokens to text.
pub(crate) fn detokenize(fields: &Fields, engine: &Engine) -> Result<Value, ApiError> {
    let tokens = fields.require("tokens")?;
    let ids =
        tokens.as_array().ok_or_else(|| ApiError::invalid("tokens", "an array of token ids", tokens))?;
    let id = |(index, id)| prompt::token_id(&format!("tokens[{index}]"), id, &engine.tokenizer);
    let ids: Vec<u32> = ids.iter().enumerate().map(id).collect::<Result<_, _>>()?;
    Ok(json!({ "content": engine.tokenizer.decode(&ids, true) }))
}

/// Messages to the text of a prompt.
pub(crate) fn apply_template(fields: &Fields, engine: &Engine) -> Result<Value, ApiError> {
    let messages = messages::read(fields)?;
    let prompt = engine.template.render(&messages, true);
    Ok(json!({ "prompt": prompt.map_err(|error| ApiError::Template(error.to_string()))? }))
}
