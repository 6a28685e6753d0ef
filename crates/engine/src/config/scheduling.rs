//! The flags for how many are served at once, and what they get.

use std::time::Duration;

use clap::Args;

use super::values::{Auto, milliseconds, or_minus_one, seconds_or_never, within};

/// The flags. Names that llama-server has as well mean the same here, except `--cache-ram`: there it is for prompts that are kept beside
/// the KV cache, here for both.
#[derive(Clone, Debug, Args)]
pub struct SchedulingFlags {
    /// Requests that are computed together, sharing each read of the weights; -1 is four for each CPU, at least 4 and at most 16
    #[arg(long, value_name = "N", help_heading = "Scheduling", default_value = "-1", allow_negative_numbers = true, value_parser = |text: &str| or_minus_one(text, 1..=256_usize))]
    pub parallel: Auto<usize>,
    /// MiB for the KV cache of all requests, running and remembered; -1 is what they need with full contexts, at most half of the
    /// memory that the weights leave
    #[arg(long, value_name = "MIB", help_heading = "Scheduling", default_value = "-1", allow_negative_numbers = true, value_parser = |text: &str| or_minus_one(text, 1..=67_108_864_u64))]
    pub cache_ram: Auto<u64>,
    /// Milliseconds that a running answer may wait for its next token while other prompts are computed
    #[arg(long, value_name = "MS", help_heading = "Scheduling", default_value = "250", allow_negative_numbers = true, value_parser = milliseconds)]
    pub max_token_gap: Duration,
    /// Seconds from a request's arrival to its end, after which it is ended with an error; -1 is never
    #[arg(long, value_name = "SECONDS", help_heading = "Scheduling", default_value = "3600", allow_negative_numbers = true, value_parser = seconds_or_never)]
    pub request_timeout: Auto<Duration>,
    /// Requests that may wait for the running ones; the next is answered with 429
    #[arg(long, value_name = "N", help_heading = "Scheduling", default_value = "32", allow_negative_numbers = true, value_parser = within(0..=10_000_usize))]
    pub queue: usize,
    /// Answer with canned text, so many tokens a second in each answer, without a model: for trying out what talks to this server
    #[arg(long, value_name = "RATE", help_heading = "Scheduling", allow_negative_numbers = true, value_parser = within(0.1..=100_000.0_f64))]
    pub simulate: Option<f64>,
}
