//! What every protocol asks for and what it gets, without a word of any protocol.
//!
//! A wire format becomes a [`GenerationRequest`], checked once: nothing downstream checks these values again. What comes back are
//! pieces of text with their tokens, and why the answer ended.

mod answer;
mod defaults;
mod request;

pub(crate) use answer::{Finish, FinishReason, Piece, Progress, Token, TokenLogprobs};
pub(crate) use defaults::Defaults;
pub(crate) use request::{Client, GenerationRequest, InvalidPrompt, Prompt, Report};
