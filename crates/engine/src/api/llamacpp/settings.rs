//! What an answer is made with, as `/completion` and `/props` tell it.

use serde::{Serialize, Serializer};

use crate::engine::{About, Engine};
use crate::generation::GenerationRequest;
use crate::sampling::SamplingParameters;

#[derive(Serialize)]
pub(super) struct Settings {
    n_ctx: usize,
    model: String,
    #[serde(serialize_with = "or_minus_one")]
    n_predict: Option<u64>,
    #[serde(serialize_with = "or_minus_one")]
    max_tokens: Option<u64>,
    #[serde(serialize_with = "or_minus_one")]
    seed: Option<u64>,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    repeat_last_n: usize,
    presence_penalty: f32,
    frequency_penalty: f32,
    logit_bias: Vec<(u32, Bias)>,
    n_probs: usize,
    stop: Vec<String>,
    stream: bool,
    cache_prompt: bool,
}

/// Minus infinity, "never", is `false`, as in a request.
#[derive(Serialize)]
#[serde(untagged)]
enum Bias {
    Amount(f32),
    Never(bool),
}

impl Settings {
    pub(super) fn of_request(request: &GenerationRequest, about: &About, stream: bool) -> Self {
        let max_tokens = Some(request.max_tokens as u64);
        Self {
            n_probs: request.report.logprobs.unwrap_or(0),
            stop: request.stop.clone(),
            stream,
            cache_prompt: request.cache_prompt,
            ..Self::new(&request.sampling, Some(request.sampling.seed), max_tokens, about)
        }
    }

    /// Of a request that says nothing. What is chosen anew for each request is -1.
    pub(super) fn of_defaults(engine: &Engine) -> Self {
        let defaults = &engine.defaults;
        let max_tokens = defaults.n_predict.map(|n| n as u64);
        Self::new(&defaults.sampling(engine.about.context), defaults.seed, max_tokens, &engine.about)
    }

    fn new(sampling: &SamplingParameters, seed: Option<u64>, max_tokens: Option<u64>, about: &About) -> Self {
        let bias = |(&id, &bias): (&u32, &f32)| {
            (id, if bias.is_finite() { Bias::Amount(bias) } else { Bias::Never(false) })
        };
        Self {
            n_ctx: about.context,
            model: about.name.clone(),
            n_predict: max_tokens,
            max_tokens,
            seed,
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            repeat_last_n: sampling.repeat_last_n,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            logit_bias: sampling.logit_bias.iter().map(bias).collect(),
            n_probs: 0,
            stop: Vec::new(),
            stream: false,
            cache_prompt: true,
        }
    }
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn or_minus_one<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_u64(*value),
        None => serializer.serialize_i64(-1),
    }
}
