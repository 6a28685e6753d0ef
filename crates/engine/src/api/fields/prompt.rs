//! The `prompt` of a completion request: text, tokens, or both in turn.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::{Scalar, must_be};
use crate::api::Admitted;
use crate::api::error::ApiError;
use crate::generation::InvalidPrompt;
use crate::http::admission::Wanted;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// As on the wire, as small as can be: all texts in one string, all ids in one list.
#[derive(Debug, Default)]
pub(in crate::api) struct PromptField {
    parts: Vec<Part>,
    text: String,
    ids: Vec<i64>,
}

/// What comes next in a prompt.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// So many bytes of text.
    Text(usize),
    /// So many ids.
    Ids(usize),
}

/// A prompt as tokens, and as the text that it stands for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct TokenizedPrompt {
    pub(in crate::api) tokens: Vec<u32>,
    pub(in crate::api) text: String,
}

impl PromptField {
    /// That of a field which must be there.
    pub(in crate::api) fn required(field: Option<Self>) -> Result<Self, ApiError> {
        field.ok_or_else(|| ApiError::missing("prompt"))
    }

    /// Text gets the token that begins a document if it comes first and the model wants it; tokens are taken as they are. Names of
    /// special tokens in the text count as these tokens. A text that cannot fit the context is not looked at.
    pub(in crate::api) fn tokenize(
        self,
        &Admitted { engine, wanted, .. }: &Admitted,
    ) -> Result<TokenizedPrompt, ApiError> {
        let (tokenizer, context) = (&engine.tokenizer, engine.about.context);
        let least = self.ids.len() + tokenizer.fewest_tokens(self.text.len());
        if least >= context {
            let at_least = !self.text.is_empty();
            return Err(InvalidPrompt::TooLong { tokens: least, at_least, context }.into());
        }
        let mut tokens = Vec::new();
        let (mut text, mut ids) = (self.text.as_str(), self.ids.iter());
        let mut index = 0;
        for part in &self.parts {
            match *part {
                Part::Text(bytes) => {
                    if index == 0 && tokenizer.adds_bos() {
                        tokens.extend(tokenizer.bos());
                    }
                    let (part, rest) = text.split_at(bytes);
                    tokens.extend(encode("prompt", part, true, tokenizer, wanted)?);
                    text = rest;
                    index += 1;
                }
                Part::Ids(count) => {
                    for &id in ids.by_ref().take(count) {
                        tokens.push(token_id(&format!("prompt[{index}]"), id, tokenizer)?);
                        index += 1;
                    }
                }
            }
        }
        let text = if self.ids.is_empty() { self.text } else { tokenizer.decode(&tokens, true) };
        Ok(TokenizedPrompt { tokens, text })
    }
}

/// A token id of this vocabulary.
pub(in crate::api) fn token_id(field: &str, id: i64, tokenizer: &Tokenizer) -> Result<u32, ApiError> {
    let known = u32::try_from(id).ok().filter(|id| (*id as usize) < tokenizer.vocab_size());
    known.ok_or_else(|| {
        ApiError::invalid(field, format_args!("a token id from 0 to {}", tokenizer.vocab_size() - 1), id)
    })
}

/// The tokens of a text.
pub(in crate::api) fn encode(
    field: &str,
    text: &str,
    parse_special: bool,
    tokenizer: &Tokenizer,
    wanted: &Wanted,
) -> Result<Vec<u32>, ApiError> {
    let fault = |error: TokenizerError| ApiError::Invalid {
        field: field.to_owned(),
        problem: format!("cannot be tokenized: {error}"),
    };
    tokenizer.encode_while(text, parse_special, &|| wanted.is()).map_err(fault)
}

impl PromptField {
    fn push_text(&mut self, text: &str) {
        self.text.push_str(text);
        self.parts.push(Part::Text(text.len()));
    }

    fn push_id(&mut self, id: i64) {
        self.ids.push(id);
        match self.parts.last_mut() {
            Some(Part::Ids(count)) => *count += 1,
            _ => self.parts.push(Part::Ids(1)),
        }
    }
}

impl<'de> Deserialize<'de> for PromptField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Items::<false>)
    }
}

/// A string, or an array of token ids and strings; outermost also an array with one of these.
struct Items<const NESTED: bool>;

impl<'de, const NESTED: bool> Visitor<'de> for Items<NESTED> {
    type Value = PromptField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PromptField, E> {
        let mut prompt = PromptField::default();
        prompt.push_text(text);
        Ok(prompt)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<PromptField, A::Error> {
        let several = || must_be("one prompt (send a request for each)", "an array of several");
        let mut prompt = PromptField::default();
        // A prompt in an array must be alone there.
        let mut inner = None;
        while let Some(item) = items.next_element::<Item<NESTED>>()? {
            match item {
                _ if inner.is_some() => return Err(several()),
                Item::Text(text) => prompt.push_text(&text),
                Item::Id(id) => prompt.push_id(id),
                Item::Prompt(_) if !prompt.parts.is_empty() => return Err(several()),
                Item::Prompt(nested) => inner = Some(nested),
            }
        }
        let prompt = inner.unwrap_or(prompt);
        if prompt.ids.is_empty() && prompt.parts.len() > 1 {
            return Err(several());
        }
        Ok(prompt)
    }
}

enum Item<'a, const NESTED: bool> {
    Text(Cow<'a, str>),
    Id(i64),
    Prompt(PromptField),
}

impl<'de, const NESTED: bool> Deserialize<'de> for Item<'de, NESTED> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any<const NESTED: bool>;

        impl<'de, const NESTED: bool> Visitor<'de> for Any<NESTED> {
            type Value = Item<'de, NESTED>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id or a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Item::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Item::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_i64<E>(self, id: i64) -> Result<Self::Value, E> {
                Ok(Item::Id(id))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Self::Value, E> {
                self.visit_f64(id as f64)
            }

            fn visit_f64<E: Error>(self, id: f64) -> Result<Self::Value, E> {
                let id = Scalar::Float(id);
                id.integer().map(Item::Id).ok_or_else(|| must_be("a token id or a string", id))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                if NESTED {
                    return Err(must_be("a token id or a string", "an array"));
                }
                Items::<true>.visit_seq(items).map(Item::Prompt)
            }
        }

        deserializer.deserialize_any(Any::<NESTED>)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(json: &Value) -> Result<PromptField, String> {
        serde_json::from_str(&json.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_prompt_is_text_ids_or_both_or_one_of_these_in_an_array() {
        for (json, text, ids) in [
            (json!("ab"), "ab", vec![]),
            (json!(["ab"]), "ab", vec![]),
            (json!([1, 2.0]), "", vec![1, 2]),
            (json!([[1, 2]]), "", vec![1, 2]),
            (json!([1, "a", 2, "b"]), "ab", vec![1, 2]),
            (json!([]), "", vec![]),
        ] {
            let prompt = read(&json).unwrap();
            assert_eq!((prompt.text.as_str(), &prompt.ids), (text, &ids), "{json}");
        }
        for json in [json!(["a", "b"]), json!([[1], [2]]), json!([[1], 2]), json!([1, [2]])] {
            assert!(read(&json).unwrap_err().contains("one prompt"), "{json}");
        }
        for json in [json!({}), json!(1), json!([true]), json!([1.5]), json!([null]), json!([[[1]]])] {
            assert!(read(&json).is_err(), "{json}");
        }
    }
}
