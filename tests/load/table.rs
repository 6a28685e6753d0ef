//! Figures as a person reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::arguments::{Asked, Throughput};
use crate::statistics::Spread;
use crate::throughput::Figures;

/// A table for each server.
pub(crate) fn throughput(arguments: &Throughput, results: &[Vec<Figures>]) -> String {
    let Throughput { requests, rounds, .. } = arguments;
    let mut text =
        format!("{}, {requests} requests a client, medians of {rounds} rounds\n", asked(&arguments.asked));
    let several = arguments.url.len() > 1;
    for (url, figures) in arguments.url.iter().zip(results) {
        let _ = write!(text, "\n{url}\n{:>7} {:>8} {:>8}", "clients", "tokens/s", "of first");
        if several {
            let _ = write!(text, " {:>10}", "of 1st url");
        }
        let _ = writeln!(text, " {:>8}  {:<31}  {:<31}  errors", "a stream", first_token(), gap());
        for figures in figures {
            let _ = write!(
                text,
                "{:>7} {:>8.2} {:>8.2}",
                figures.clients, figures.tokens_per_second, figures.of_first
            );
            if several {
                let _ = write!(text, " {:>10.3}", figures.of_first_server);
            }
            let _ = writeln!(
                text,
                " {:>8.2}  {}  {}  {}",
                figures.tokens_per_second_of_a_stream,
                spread(figures.first_token_ms),
                spread(figures.gap_ms),
                errors(&figures.errors)
            );
        }
    }
    text.trim_end().to_owned()
}

pub(crate) fn asked(asked: &Asked) -> String {
    format!("prompts of {} tokens, answers of {}", asked.prompt_tokens, asked.max_tokens)
}

fn first_token() -> &'static str {
    "first token ms p50 p95 p99 max"
}

fn gap() -> &'static str {
    "gap ms p50 p95 p99 max"
}

pub(crate) fn spread(Spread { p50, p95, p99, max }: Spread) -> String {
    format!("{p50:>7.1} {p95:>7.1} {p99:>7.1} {max:>7.1}")
}

/// `none`, or how many of which.
pub(crate) fn errors(errors: &BTreeMap<String, usize>) -> String {
    if errors.is_empty() {
        return "none".to_owned();
    }
    let parts: Vec<_> = errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
    parts.join(", ")
}
