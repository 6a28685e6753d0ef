//! The flags for what a request gets that says nothing.

use clap::Args;

use super::values::{Auto, seed, unlimited, within};
use crate::generation::Defaults;

/// The flags. Their own defaults are llama-server's.
#[derive(Clone, Debug, Args)]
pub(super) struct GenerationFlags {
    /// Tokens to generate at most; -1 is until the context is full
    #[arg(long, visible_alias = "predict", short = 'n', value_name = "N", help_heading = "Defaults of a request", default_value = "-1", allow_negative_numbers = true, value_parser = unlimited)]
    n_predict: Auto<usize>,
    /// Randomness; 0 always takes the likeliest token
    #[arg(long, visible_alias = "temperature", value_name = "X", help_heading = "Defaults of a request", default_value = "0.8", value_parser = within(0.0..=100.0_f32))]
    temp: f32,
    /// Sample from the K likeliest tokens; 0 is all
    #[arg(long, value_name = "K", help_heading = "Defaults of a request", default_value = "40", value_parser = within(0..=1_048_576_usize))]
    top_k: usize,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", help_heading = "Defaults of a request", default_value = "0.95", value_parser = within(0.0..=1.0_f32))]
    top_p: f32,
    /// Leave out tokens less likely than this times the likeliest
    #[arg(long, value_name = "P", help_heading = "Defaults of a request", default_value = "0.05", value_parser = within(0.0..=1.0_f32))]
    min_p: f32,
    /// Divide the logits of recent tokens by this
    #[arg(long, value_name = "X", help_heading = "Defaults of a request", default_value = "1.0", value_parser = within(0.01..=100.0_f32))]
    repeat_penalty: f32,
    /// Tokens that count as recent; -1 is the whole context
    #[arg(long, value_name = "N", help_heading = "Defaults of a request", default_value = "64", allow_negative_numbers = true, value_parser = unlimited)]
    repeat_last_n: Auto<usize>,
    /// Lower the logits of tokens that occurred
    #[arg(long, value_name = "X", help_heading = "Defaults of a request", default_value = "0.0", allow_negative_numbers = true, value_parser = within(-100.0..=100.0_f32))]
    presence_penalty: f32,
    /// Lower the logits of tokens for each time they occurred
    #[arg(long, value_name = "X", help_heading = "Defaults of a request", default_value = "0.0", allow_negative_numbers = true, value_parser = within(-100.0..=100.0_f32))]
    frequency_penalty: f32,
    /// Start of the random numbers; -1 is another one for each request
    #[arg(long, short = 's', value_name = "N", help_heading = "Defaults of a request", default_value = "-1", allow_negative_numbers = true, value_parser = seed)]
    seed: Auto<u64>,
}

impl GenerationFlags {
    pub(super) fn defaults(&self) -> Defaults {
        let Self {
            n_predict,
            temp,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            repeat_last_n,
            presence_penalty,
            frequency_penalty,
            seed,
        } = *self;
        Defaults {
            n_predict,
            temp,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            repeat_last_n,
            presence_penalty,
            frequency_penalty,
            seed,
        }
    }
}
