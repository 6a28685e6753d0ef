//! `logit_bias`: OpenAI's `{"id": bias}`; llama.cpp's `[[id, bias], …]` too, `false` for "never", and text in place of an id for
//! all tokens of that text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::prompt::{encode, token_id};
use super::value::{Scalar, must_be};
use crate::api::Admitted;
use crate::api::error::ApiError;

/// Tokens with a bias: each is paid for at every token of an answer.
const TOKENS: usize = 1024;
/// Bytes of a text that stands for its tokens.
const TEXT_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct LogitBias(Vec<(Target, f32)>);

/// What a bias is for.
#[derive(Debug)]
enum Target {
    Id(i64),
    Text(String),
}

impl LogitBias {
    /// One number for each token: that of a token that is named several times is the sum.
    pub(super) fn resolve(
        self,
        &Admitted { engine, wanted, .. }: &Admitted,
    ) -> Result<BTreeMap<u32, f32>, ApiError> {
        let tokenizer = &engine.tokenizer;
        let mut biases = BTreeMap::new();
        for (target, bias) in self.0 {
            let ids = match target {
                Target::Id(id) => vec![token_id("logit_bias", id, tokenizer)?],
                Target::Text(text) => encode("logit_bias", &text, true, tokenizer, wanted)?,
            };
            for id in ids {
                *biases.entry(id).or_insert(0.0) += bias;
            }
            if biases.len() > TOKENS {
                return Err(ApiError::invalid(
                    "logit_bias",
                    format_args!("for at most {TOKENS} tokens"),
                    "for more",
                ));
            }
        }
        Ok(biases)
    }
}

impl<'de> Deserialize<'de> for LogitBias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Entries)
    }
}

struct Entries;

impl Entries {
    fn add<E: Error>(biases: &mut Vec<(Target, f32)>, target: Target, bias: f32) -> Result<(), E> {
        if biases.len() == TOKENS {
            return Err(must_be(format_args!("for at most {TOKENS} tokens"), "for more"));
        }
        biases.push((target, bias));
        Ok(())
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = LogitBias;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of pairs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<LogitBias, A::Error> {
        let mut biases = Vec::new();
        while let Some(key) = entries.next_key::<Scalar>()? {
            let target = Target::of(key)?;
            let Bias(bias) = entries.next_value()?;
            Self::add(&mut biases, target, bias)?;
        }
        Ok(LogitBias(biases))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<LogitBias, A::Error> {
        let mut biases = Vec::new();
        while let Some(Pair(target, Bias(bias))) = pairs.next_element()? {
            Self::add(&mut biases, target, bias)?;
        }
        Ok(LogitBias(biases))
    }
}

impl Target {
    fn of<E: Error>(value: Scalar) -> Result<Self, E> {
        if let Some(id) = value.integer() {
            return Ok(Self::Id(id));
        }
        match value {
            // Keys of an object are strings; one that is a number is an id, however long it is.
            Scalar::Text(text) if is_number(&text) => match text.parse() {
                Ok(id) => Ok(Self::Id(id)),
                Err(_) => Err(must_be("for token ids", text)),
            },
            Scalar::Text(text) if text.len() > TEXT_BYTES => {
                let expected = format_args!("for texts of at most {TEXT_BYTES} bytes");
                Err(must_be(expected, format_args!("for one of {}", text.len())))
            }
            Scalar::Text(text) => Ok(Self::Text(text.into_owned())),
            other => Err(must_be("for token ids or texts", other)),
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is added to a logit.
struct Bias(f32);

impl<'de> Deserialize<'de> for Bias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Bool(false) => Ok(Self(f32::NEG_INFINITY)),
            value => value.number().map(Self).ok_or_else(|| must_be("made of numbers or false", value)),
        }
    }
}

struct Pair(Target, Bias);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Two;

        impl<'de> Visitor<'de> for Two {
            type Value = Pair;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pairs of a token and a number")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Pair, A::Error> {
                let found = (items.next_element::<Scalar>()?, items.next_element()?);
                let more = items.next_element::<serde::de::IgnoredAny>()?;
                match (found, more) {
                    ((Some(token), Some(bias)), None) => Ok(Pair(Target::of(token)?, bias)),
                    _ => Err(must_be("made of pairs", Cow::Borrowed("an array of another length"))),
                }
            }
        }

        deserializer.deserialize_any(Two)
    }
}
