//! What would change the answer and is not there: an error, never ignored.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::parse;
use super::value::Scalar;
use crate::api::error::ApiError;

/// Values of a field that ask for nothing.
enum Off {
    /// Only this number.
    Number(f64),
    /// `false`, 0, "", [] or {}.
    Empty,
    /// One of these strings.
    Text(&'static [&'static str]),
    /// An array of nothing but the string `text`.
    OnlyText,
    /// An object whose `type` is `text`.
    TypeText,
}

/// Fields, what is fine nevertheless, and why they are not supported.
const UNSUPPORTED: &[(&str, Off, &str)] = &[
    ("n", Off::Number(1.0), "one answer for each request; send it again for another"),
    ("n_cmpl", Off::Number(1.0), "one answer for each request; send it again for another"),
    ("best_of", Off::Number(1.0), "one answer for each request"),
    ("suffix", Off::Empty, "this model cannot fill in"),
    ("tools", Off::Empty, "this model cannot call tools"),
    ("functions", Off::Empty, "this model cannot call functions"),
    ("tool_choice", Off::Text(&["none", "auto"]), "this model cannot call tools"),
    ("function_call", Off::Text(&["none", "auto"]), "this model cannot call functions"),
    ("response_format", Off::TypeText, "answers cannot be constrained"),
    ("modalities", Off::OnlyText, "this model writes text only"),
    ("audio", Off::Empty, "this model writes text only"),
    ("web_search_options", Off::Empty, "there is no web search"),
    ("moderation", Off::Empty, "there is no moderation"),
    ("grammar", Off::Empty, "answers cannot be constrained"),
    ("json_schema", Off::Empty, "answers cannot be constrained"),
    ("lora", Off::Empty, "there are no adapters"),
    ("mirostat", Off::Number(0.0), "this sampler is not available"),
    ("dynatemp_range", Off::Number(0.0), "this sampler is not available"),
    ("typical_p", Off::Number(1.0), "this sampler is not available"),
    ("xtc_probability", Off::Number(0.0), "this sampler is not available"),
    ("dry_multiplier", Off::Number(0.0), "this sampler is not available"),
    ("top_n_sigma", Off::Number(-1.0), "this sampler is not available"),
    ("adaptive_target", Off::Number(-1.0), "this sampler is not available"),
    ("samplers", Off::Empty, "the order of the samplers is fixed"),
    ("post_sampling_probs", Off::Empty, "probabilities are those before sampling"),
    ("n_indent", Off::Number(0.0), "answers cannot be constrained"),
    ("t_max_predict_ms", Off::Number(0.0), "there is no limit of time; close the connection to stop"),
];

/// Refuses the first of these fields that asks for something.
pub(in crate::api) fn refuse_unsupported(body: &[u8]) -> Result<(), ApiError> {
    match parse(body)? {
        Fields(Some((field, reason))) => Err(ApiError::Unsupported { field: field.to_owned(), reason }),
        Fields(None) => Ok(()),
    }
}

struct Fields(Option<(&'static str, &'static str)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut first = None;
                while let Some(key) = map.next_key::<Scalar>()? {
                    let known = UNSUPPORTED.iter().find(|(name, ..)| key.text() == Some(name));
                    let Some((name, off, reason)) = known else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if !off.matches(&mut map)? {
                        first = first.or(Some((*name, *reason)));
                    }
                }
                Ok(Fields(first))
            }
        }

        deserializer.deserialize_map(All)
    }
}

impl Off {
    /// Whether the next value asks for nothing.
    fn matches<'de, A: MapAccess<'de>>(&self, map: &mut A) -> Result<bool, A::Error> {
        Ok(match self {
            Self::OnlyText => map.next_value::<Option<OnlyText>>()?.is_none_or(|OnlyText(only)| only),
            Self::TypeText => {
                let typed: Option<Typed> = map.next_value()?;
                typed.is_none_or(|typed| typed.kind.as_ref().and_then(Scalar::text) == Some("text"))
            }
            _ => match map.next_value()? {
                Scalar::Null => true,
                value => match self {
                    Self::Number(off) => value.float() == Some(*off),
                    Self::Text(off) => value.text().is_some_and(|text| off.contains(&text)),
                    _ => is_empty(&value),
                },
            },
        })
    }
}

fn is_empty(value: &Scalar) -> bool {
    match value {
        Scalar::Null | Scalar::Bool(false) => true,
        Scalar::Text(text) => text.is_empty(),
        Scalar::Array { empty } | Scalar::Object { empty } => *empty,
        number => number.float() == Some(0.0),
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with a `type`")]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Scalar<'a>>,
}

/// Whether an array has nothing but the string `text`.
struct OnlyText(bool);

impl<'de> Deserialize<'de> for OnlyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = OnlyText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OnlyText, A::Error> {
                let mut only = true;
                while let Some(item) = items.next_element::<Scalar>()? {
                    only &= item.text() == Some("text");
                }
                Ok(OnlyText(only))
            }
        }

        deserializer.deserialize_any(Items)
    }
}
