//! From the bytes of tokens to the text of an answer: characters that are complete, up to a stop string.

mod answer;
mod stop_strings;
mod utf8;

pub(crate) use answer::{AnswerText, Visible};
pub(crate) use stop_strings::StopStrings;
pub(crate) use utf8::Utf8Stream;
