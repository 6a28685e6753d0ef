//! `POST /tokenize`, `/detokenize` and `/apply-template`: what a prompt becomes.
//!
//! A body of some megabytes can have as many tokens, and its answer some hundred megabytes: it is written as it is sent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Admitted;
use super::super::error::ApiError;
use super::super::fields::{self, Flag, Messages, Text, TokenId, encode, is_set, token_id};
use crate::http::reply::{self, Reply};
use crate::text::Utf8Stream;
use crate::tokenizer::Tokenizer;

/// Bytes that are written before they are sent.
const PART_BYTES: usize = 64 * 1024;
/// Tokens of a part of a text: even the longest tokens make no more than some megabytes.
const PART_TOKENS: usize = 4096;

#[derive(Deserialize)]
struct TokenizeRequest {
    content: Option<Text>,
    parse_special: Option<Flag>,
    add_special: Option<Flag>,
    with_pieces: Option<Flag>,
}

/// A token and its text, or its bytes where they are not text.
#[derive(Serialize)]
struct TokenPiece<'a> {
    id: u32,
    piece: PieceText<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PieceText<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Text to tokens.
pub(crate) fn tokenize(&Admitted { body, engine, wanted, .. }: &Admitted) -> Result<Reply, ApiError> {
    let fields: TokenizeRequest = fields::parse(body)?;
    let tokenizer = Arc::clone(&engine.tokenizer);
    let Text(content) = fields.content.ok_or_else(|| ApiError::missing("content"))?;
    let parse_special = fields.parse_special.is_none_or(|Flag(flag)| flag);
    let mut ids = encode("content", &content, parse_special, &tokenizer, wanted)?;
    if is_set(fields.add_special) && tokenizer.adds_bos() {
        ids.splice(0..0, tokenizer.bos());
    }
    let write: fn(u32, &Tokenizer, &mut Vec<u8>) = if is_set(fields.with_pieces) {
        |id, tokenizer, out| reply::write_json(&piece(id, tokenizer), out)
    } else {
        |id, _, out| reply::write_json(&id, out)
    };
    let mut ids = ids.into_iter().enumerate().peekable();
    let (mut before, mut after) = (Some("{\"tokens\":["), Some("]}"));
    Ok(reply::json_parts(std::iter::from_fn(move || {
        let mut part = before.take().unwrap_or_default().as_bytes().to_vec();
        while part.len() < PART_BYTES
            && let Some((index, id)) = ids.next()
        {
            if index > 0 {
                part.push(b',');
            }
            write(id, &tokenizer, &mut part);
        }
        if ids.peek().is_none() {
            part.extend(after.take()?.bytes());
        }
        Some(part)
    })))
}

fn piece(id: u32, tokenizer: &Tokenizer) -> TokenPiece<'_> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    TokenPiece { id, piece: std::str::from_utf8(bytes).map_or(PieceText::Bytes(bytes), PieceText::Text) }
}

#[derive(Deserialize)]
struct DetokenizeRequest {
    tokens: Option<Vec<TokenId>>,
}

/// Tokens to text.
pub(crate) fn detokenize(&Admitted { body, engine, .. }: &Admitted) -> Result<Reply, ApiError> {
    let fields: DetokenizeRequest = fields::parse(body)?;
    let ids = fields.tokens.ok_or_else(|| ApiError::missing("tokens"))?;
    let tokenizer = Arc::clone(&engine.tokenizer);
    for (index, TokenId(id)) in ids.iter().enumerate() {
        token_id(&format!("tokens[{index}]"), i64::from(*id), &tokenizer)?;
    }
    let mut ids = ids.into_iter();
    let mut text = Utf8Stream::default();
    let (mut before, mut after) = (Some("{\"content\":\""), Some("\"}"));
    Ok(reply::json_parts(std::iter::from_fn(move || {
        let mut part = before.take().unwrap_or_default().as_bytes().to_vec();
        let mut more = String::new();
        for TokenId(id) in ids.by_ref().take(PART_TOKENS) {
            more.push_str(&text.push(tokenizer.token_bytes(id).unwrap_or_default()));
        }
        if ids.len() == 0 {
            after?;
            more.push_str(&text.finish());
        }
        // As JSON, without the quotation marks around it.
        let mut quoted = Vec::new();
        reply::write_json(&more, &mut quoted);
        part.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
        if ids.len() == 0 {
            part.extend(after.take()?.bytes());
        }
        Some(part)
    })))
}

#[derive(Deserialize)]
struct TemplateRequest {
    messages: Option<Messages>,
}

#[derive(Serialize)]
struct TemplateAnswer {
    prompt: String,
}

/// Messages to the text of a prompt.
pub(crate) fn apply_template(&Admitted { body, engine, .. }: &Admitted) -> Result<Reply, ApiError> {
    let fields: TemplateRequest = fields::parse(body)?;
    let messages = Messages::required(fields.messages)?;
    let prompt = engine.template.render(&messages, true);
    let prompt = prompt.map_err(|error| ApiError::of_template(error, engine.about.context))?;
    Ok(reply::ok(&TemplateAnswer { prompt }))
}
