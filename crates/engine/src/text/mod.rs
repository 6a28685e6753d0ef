//! From the bytes of tokens to the text of an answer: characters that are complete, up to a stop string.

mod answer;
mod stop_strings;
mod utf8;

pub use answer::{AnswerText, Visible};
pub use stop_strings::{StopOutput, StopStrings};
pub use utf8::Utf8Stream;
