//! `stop`: one string or some.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::Scalar;

/// Stop strings of a request, and bytes of each: every piece of text is compared with all of them.
const STRINGS: usize = 64;
const BYTES: usize = 1024;

/// None is empty.
#[derive(Debug)]
pub(super) struct Stop(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strings)
    }
}

struct Strings;

impl Strings {
    fn wrong<E: Error>(found: impl fmt::Display) -> E {
        E::custom(format_args!(
            "must be a string or up to {STRINGS} strings of at most {BYTES} bytes, but it is {found}"
        ))
    }

    /// An empty string would stop everything; clients send it for "none".
    fn add<E: Error>(strings: &mut Vec<String>, string: &str) -> Result<(), E> {
        if string.len() > BYTES || strings.len() == STRINGS {
            return Err(Self::wrong(format_args!("one of {} bytes after {}", string.len(), strings.len())));
        }
        strings.extend((!string.is_empty()).then(|| string.to_owned()));
        Ok(())
    }
}

impl<'de> Visitor<'de> for Strings {
    type Value = Stop;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string or up to {STRINGS} strings of at most {BYTES} bytes")
    }

    fn visit_str<E: Error>(self, string: &str) -> Result<Stop, E> {
        let mut strings = Vec::new();
        Self::add(&mut strings, string)?;
        Ok(Stop(strings))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Stop, A::Error> {
        let mut strings = Vec::new();
        while let Some(item) = items.next_element::<Scalar>()? {
            match item {
                Scalar::Text(string) => Self::add(&mut strings, &string)?,
                other => return Err(Self::wrong(other)),
            }
        }
        Ok(Stop(strings))
    }
}
