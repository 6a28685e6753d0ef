//! What a request took, as JSON: OpenAI's `usage` and llama.cpp's `timings`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::worker::Progress;

/// Counts of tokens.
pub(super) fn usage(progress: &Progress) -> Value {
    json!({
        "prompt_tokens": progress.prompt,
        "completion_tokens": progress.generated,
        "total_tokens": progress.prompt + progress.generated,
        "prompt_tokens_details": { "cached_tokens": progress.reused },
    })
}

/// Counts and milliseconds.
pub(super) fn timings(progress: &Progress) -> Value {
    let computed = progress.prompt - progress.reused;
    json!({
        "cache_n": progress.reused,
        "prompt_n": computed,
        "prompt_ms": milliseconds(progress.prompt_time),
        "prompt_per_token_ms": ratio(milliseconds(progress.prompt_time), computed as f64),
        "prompt_per_second": ratio(computed as f64, progress.prompt_time.as_secs_f64()),
        "predicted_n": progress.generated,
        "predicted_ms": milliseconds(progress.generation_time),
        "predicted_per_token_ms": ratio(milliseconds(progress.generation_time), progress.generated as f64),
        "predicted_per_second": ratio(progress.generated as f64, progress.generation_time.as_secs_f64()),
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Zero where there is nothing to divide by: JSON has no infinity.
fn ratio(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}
