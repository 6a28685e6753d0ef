//! What a request gets that says nothing.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::{Client, GenerationRequest, Prompt, Report};
use crate::sampling::SamplingParameters;

/// What a request that says nothing gets.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// Tokens to generate at most; `None` is until the context is full.
    pub n_predict: Option<usize>,
    /// Divides the logits; 0 always takes the likeliest token.
    pub temp: f32,
    /// Tokens to sample from, the likeliest ones; 0 is all.
    pub top_k: usize,
    /// Sample from the likeliest tokens that together have this probability.
    pub top_p: f32,
    /// Leave out tokens less likely than this times the likeliest.
    pub min_p: f32,
    /// Divides the logits of recent tokens.
    pub repeat_penalty: f32,
    /// Tokens that count as recent; `None` is the whole context.
    pub repeat_last_n: Option<usize>,
    /// Subtracted from the logits of tokens that occurred.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens for each time they occurred.
    pub frequency_penalty: f32,
    /// Start of the random numbers; `None` is another one for each request.
    pub seed: Option<u64>,
}

impl Defaults {
    /// A client's request that has nothing but a prompt.
    pub(crate) fn request(&self, client: Client, prompt: Prompt, context: usize) -> GenerationRequest {
        let most = context - prompt.tokens().len();
        GenerationRequest {
            max_tokens: self.n_predict.unwrap_or(usize::MAX).min(most),
            prompt,
            sampling: self.sampling(context),
            stop: Vec::new(),
            report: Report::default(),
            cache_prompt: true,
            client,
        }
    }

    /// How its tokens are chosen.
    pub(crate) fn sampling(&self, context: usize) -> SamplingParameters {
        SamplingParameters {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n.unwrap_or(context).min(context),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: BTreeMap::new(),
            seed: self.seed.unwrap_or_else(random_seed),
        }
    }
}

/// 32 bits, so that every client can read it back without loss.
fn random_seed() -> u64 {
    // The standard library seeds its hash tables from the operating system.
    RandomState::new().build_hasher().finish() >> 32
}
