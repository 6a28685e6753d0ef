//! What becomes of a request.

use std::time::Duration;

use crate::sampling::TokenLogprob;

/// Some text, and the tokens whose text begins in it. Not every token makes text visible at once: some hold a part of a
/// character, some might begin a stop string.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Complete characters. May be empty at the end of an answer.
    pub text: String,
    pub tokens: Vec<Token>,
    pub progress: Progress,
}

/// A token of the prompt or of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub id: u32,
    /// How likely it was, if that was asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// How likely a token was, by the softmax of the model's own logits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprobs {
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place, best first.
    pub top: Vec<TokenLogprob>,
}

/// Counts and times of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub slot: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// How many of them were in the KV cache already.
    pub reused: usize,
    /// Tokens sampled so far, those that end the answer included.
    pub sampled: usize,
    /// How many of them are part of the answer: neither the end of a turn, nor what begins in a stop string.
    pub completion: usize,
    /// Time from its arrival to its first step.
    pub queue_time: Duration,
    /// Time to compute the prompt.
    pub prompt_time: Duration,
    /// Time since then.
    pub generation_time: Duration,
    /// Time in which the container's limit kept the engine from computing, known at the end of an answer, where it can be.
    pub throttled_time: Option<Duration>,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finish {
    pub reason: FinishReason,
    pub progress: Progress,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended it.
    EndOfGeneration,
    /// This stop string came up.
    StopString(String),
    /// The number of tokens asked for, or the context, is used up.
    Length,
}
