//! Logits in, one token out.
//!
//! The order is that of llama.cpp: logit bias, penalties, `top_k`, `top_p`, `min_p`, temperature. The stages up to `top_k` read all
//! logits and leave a short list of candidates; everything after works on that list.
//! The same seed gives the same tokens on every platform: the random numbers and the exponential function are defined here, from
//! operations that IEEE 754 fixes to the last bit, instead of being those of some system library.

mod exp;
mod filters;
mod logprobs;
mod parameters;
mod penalties;
mod random;
mod sampler;

pub(crate) use logprobs::{TokenLogprob, log_probabilities};
pub(crate) use parameters::SamplingParameters;
pub(crate) use sampler::{NoTokenLeft, Sampler};

#[cfg(test)]
mod tests;
