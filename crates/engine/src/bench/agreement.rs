//! How often a lossy `lm_head` changes a token.

use serde::Serialize;

use super::any_token;
use crate::model::{ForwardError, Inference, Run, Wanted};
use crate::sampling::{Sampler, SamplingParameters};

/// Tokens that are given, so that there is something to go on from.
const PROMPT: usize = 16;

/// Positions that [`agreement`] takes in a context.
#[must_use]
pub fn positions(tokens: usize) -> usize {
    PROMPT + tokens
}

/// Shares of greedy tokens that a lossy `lm_head` leaves as they are.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Agreement {
    /// The same token as from the exact model, after the same text: embedding and `lm_head` differ.
    pub with_model: f64,
    /// The same token as from the exact `lm_head`, after the same state: `lm_head` alone differs.
    pub with_head: f64,
}

/// Compares `inference` with `exact`, which has the same model with an exact `lm_head` and writes a text of `tokens` greedy tokens,
/// from a few given ones on. What both have in their caches is forgotten.
pub fn agreement(
    inference: &mut Inference,
    exact: &mut Inference,
    tokens: usize,
) -> Result<Agreement, ForwardError> {
    let (mut with_model, mut with_head, mut token) = (0, 0, 0);
    let pages = inference.pages_of_one();
    for position in 0..positions(tokens) - 1 {
        if position < PROMPT {
            token = any_token(position, exact.hyperparameters().vocab_size);
        }
        let run = [Run { pages: &pages, start: position, tokens: &[token], logits: Wanted::Last }];
        inference.forward(&run)?;
        exact.forward(&run)?;
        let (found, expected) = (greedy(inference)?, greedy(exact)?);
        if position + 1 >= PROMPT {
            exact.take_states(inference);
            with_model += usize::from(found == expected);
            with_head += usize::from(found == greedy(exact)?);
        }
        // Where nothing can be chosen, any token is as good.
        token = expected.unwrap_or(0);
    }
    let share = |same| same as f64 / tokens as f64;
    Ok(Agreement { with_model: share(with_model), with_head: share(with_head) })
}

/// The likeliest next token, found as for a request without randomness.
fn greedy(inference: &mut Inference) -> Result<Option<u32>, ForwardError> {
    let mut sampler = Sampler::new(&SamplingParameters { temperature: 0.0, ..SamplingParameters::default() });
    Ok(sampler.sample(inference.select(0, sampler.demand(), sampler.touched())?).ok())
}
