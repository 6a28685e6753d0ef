//! Single values, each with what it may be.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Any JSON value, as far as it has to be looked at: of arrays and objects only that they are there.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
    Array { empty: bool },
    Object { empty: bool },
}

impl Scalar<'_> {
    /// A whole number that JavaScript has as well; `5.0` counts as one.
    pub(super) fn integer(&self) -> Option<i64> {
        match *self {
            Self::Signed(number) => Some(number),
            Self::Unsigned(number) => i64::try_from(number).ok(),
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 2_f64.powi(53) => {
                Some(number as i64)
            }
            _ => None,
        }
    }

    pub(super) fn float(&self) -> Option<f64> {
        match *self {
            Self::Signed(number) => Some(number as f64),
            Self::Unsigned(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            _ => None,
        }
    }

    /// A number that is finite as an `f32`.
    pub(super) fn number(&self) -> Option<f32> {
        self.float().map(|number| number as f32).filter(|number| number.is_finite())
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// As an error shows it: as JSON, but short.
impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 100;
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => match text.char_indices().nth(SHOWN) {
                Some((end, _)) => write!(f, "{:?}…", &text[..end]),
                None => write!(f, "{text:?}"),
            },
            Self::Array { .. } => f.write_str("an array"),
            Self::Object { .. } => f.write_str("an object"),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Signed(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Unsigned(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut empty = true;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    empty = false;
                }
                Ok(Scalar::Array { empty })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut empty = true;
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    empty = false;
                }
                Ok(Scalar::Object { empty })
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// What `read` makes of the value, or the error that it must be something else.
pub(super) fn expect<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: impl fmt::Display,
    read: impl FnOnce(&Scalar<'de>) -> Option<T>,
) -> Result<T, D::Error> {
    let value = Scalar::deserialize(deserializer)?;
    read(&value).ok_or_else(|| must_be(expected, value))
}

/// The problem with a value.
pub(super) fn must_be<E: Error>(expected: impl fmt::Display, value: impl fmt::Display) -> E {
    E::custom(format_args!("must be {expected}, but it is {value}"))
}

#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Flag(pub(in crate::api) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        expect(deserializer, "true or false", |value| match value {
            Scalar::Bool(flag) => Some(Self(*flag)),
            _ => None,
        })
    }
}

/// Whether it is there and true.
pub(in crate::api) fn is_set(flag: Option<Flag>) -> bool {
    flag.is_some_and(|Flag(flag)| flag)
}

#[derive(Debug)]
pub(in crate::api) struct Text(pub(in crate::api) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Self(text.into_owned())),
            other => Err(must_be("a string", other)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Number(pub(in crate::api) f32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        expect(deserializer, "a number", Scalar::number).map(Self)
    }
}

/// A whole number within limits.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Integer<const LEAST: i64, const MOST: i64>(pub(in crate::api) i64);

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Integer<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = if MOST == i64::MAX {
            format!("a whole number, at least {LEAST}")
        } else {
            format!("a whole number from {LEAST} to {MOST}")
        };
        expect(deserializer, expected, |value| {
            value.integer().filter(|number| (LEAST..=MOST).contains(number)).map(Self)
        })
    }
}

/// The id of a token of some vocabulary.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct TokenId(pub(in crate::api) u32);

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        expect(deserializer, "a token id", |value| {
            value.integer().and_then(|id| u32::try_from(id).ok()).map(Self)
        })
    }
}
