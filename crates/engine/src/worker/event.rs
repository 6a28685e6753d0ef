//! What the engine thread tells about a request.

use std::time::Duration;

use crate::sampling::TokenLogprob;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A token of the prompt and how likely it was, if that was asked for. In order; the first
    /// token of a prompt has no probability.
    Prompt(Token),
    /// More text of the answer.
    Piece(Piece),
    /// The answer is complete.
    Finish(Finish),
    /// Computing it failed.
    Failed(String),
}

/// Some text, and the tokens whose text begins in it. Not every token makes text visible at once:
/// some hold a part of a character, some might begin a stop string.
#[derive(Debug)]
pub struct Piece {
    /// Complete characters. May be empty at the end of an answer.
    pub text: String,
    /// The tokens.
    pub tokens: Vec<Token>,
    /// How far the request is.
    pub progress: Progress,
}

/// A token of the prompt or of the answer.
#[derive(Clone, Debug)]
pub struct Token {
    /// Which.
    pub id: u32,
    /// How likely it was, if that was asked for.
    pub logprobs: Option<Logprobs>,
}

/// How likely a token was, by the softmax of the model's own logits.
#[derive(Clone, Debug)]
pub struct Logprobs {
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place, best first.
    pub top: Vec<TokenLogprob>,
}

/// Counts and times of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Where it runs.
    pub slot: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// How many of them were in the KV cache already.
    pub reused: usize,
    /// Tokens sampled so far, the end-of-turn token included.
    pub generated: usize,
    /// Time to compute the prompt.
    pub prompt_time: Duration,
    /// Time since then.
    pub generation_time: Duration,
}

/// The end of an answer.
#[derive(Debug)]
pub struct Finish {
    /// Why here.
    pub reason: FinishReason,
    /// What it took.
    pub progress: Progress,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    EndOfGeneration,
    /// This stop string came up.
    StopString(String),
    /// The number of tokens asked for, or the context, is used up.
    Length,
}
