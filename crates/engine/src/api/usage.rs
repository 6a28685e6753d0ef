//! What a request took: OpenAI's `usage` and llama.cpp's `timings`.

use std::time::Duration;

use serde::Serialize;

use crate::generation::Progress;

/// Counts of tokens. Those of the answer are the ones that a request for log-probabilities gets.
#[derive(Debug, Serialize)]
pub(super) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Debug, Serialize)]
struct PromptTokensDetails {
    cached_tokens: usize,
}

impl Usage {
    pub(super) fn of(progress: &Progress) -> Self {
        Self {
            prompt_tokens: progress.prompt,
            completion_tokens: progress.completion,
            total_tokens: progress.prompt + progress.completion,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: progress.reused },
        }
    }
}

/// Counts and milliseconds. Every token that was sampled took its time, the one that ends the answer too.
#[derive(Debug, Serialize)]
pub(super) struct Timings {
    queue_ms: f64,
    cache_n: usize,
    prompt_n: usize,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: usize,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_ms: Option<f64>,
}

impl Timings {
    pub(super) fn of(progress: &Progress) -> Self {
        let Progress {
            prompt,
            reused,
            sampled,
            queue_time,
            prompt_time,
            generation_time,
            throttled_time,
            ..
        } = *progress;
        let computed = prompt - reused;
        Self {
            queue_ms: milliseconds(queue_time),
            cache_n: reused,
            prompt_n: computed,
            prompt_ms: milliseconds(prompt_time),
            prompt_per_token_ms: ratio(milliseconds(prompt_time), computed as f64),
            prompt_per_second: ratio(computed as f64, prompt_time.as_secs_f64()),
            predicted_n: sampled,
            predicted_ms: milliseconds(generation_time),
            predicted_per_token_ms: ratio(milliseconds(generation_time), sampled as f64),
            predicted_per_second: ratio(sampled as f64, generation_time.as_secs_f64()),
            throttled_ms: throttled_time.map(milliseconds),
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Zero where there is nothing to divide by: JSON has no infinity.
fn ratio(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}
