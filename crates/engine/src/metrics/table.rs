//! The table of all metrics: their names, what they mean, and where their values are.
//!
//! The names with a colon are llama-server's, for the scrapers and dashboards that know that server. Where it has a mean of all
//! time, so have we: speeds of the last minutes are the reader's to compute, from the counters.

use super::cells::Histogram;
use super::{Metrics, Outcome, Reason};
use crate::container::CpuThrottling;
use crate::kv::Usage;

/// What is not counted but holds when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Now {
    /// Whether a request would be taken.
    pub(crate) ready: bool,
    pub(crate) slots: usize,
    pub(crate) slots_busy: usize,
    /// Requests that wait for a slot.
    pub(crate) waiting: usize,
    /// How many of them may.
    pub(crate) queue_limit: usize,
    /// Of the KV cache, if it has any.
    pub(crate) pages: Option<Usage>,
    /// In a container with a limit.
    pub(crate) cpu: Option<CpuThrottling>,
    /// Once it is loaded.
    pub(crate) build: Option<Build>,
}

#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) version: &'static str,
    pub(crate) model: String,
    pub(crate) isa: String,
}

/// One metric. A name that ends in `_total` is a counter's.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Number(f64),
    /// A number for each value of a label.
    By(&'static str, Vec<(&'static str, u64)>),
    Times {
        buckets: Vec<(f64, u64)>,
        seconds: f64,
    },
    /// Nothing but labels.
    Labels(Vec<(&'static str, String)>),
}

/// All of them, as they are now.
#[rustfmt::skip]
pub(super) fn table(metrics: &Metrics, now: Now) -> Vec<Family> {
    let Metrics { first_token, gap, queue, prefill, request, prompt_tokens, cached_tokens, steps, busy_slots, longest, outcomes, refusals, .. } = metrics;
    let predicted = first_token.count() + gap.count();
    let mut table = vec![
        number("llamacpp:prompt_tokens_total", "Tokens of prompts that were computed", prompt_tokens.get() as f64),
        number("llamacpp:prompt_seconds_total", "Time from the first step of requests to the end of their prompts", prefill.seconds()),
        number("llamacpp:tokens_predicted_total", "Tokens that were generated", predicted as f64),
        number("llamacpp:tokens_predicted_seconds_total", "Time that answers took after their first tokens", gap.seconds()),
        number("llamacpp:n_decode_total", "Runs through the model", steps.get() as f64),
        number("llamacpp:n_tokens_max", "Tokens of the longest request so far, its answer included", longest.get() as f64),
        number("llamacpp:n_busy_slots_per_decode", "Requests in a run through the model, on average of all time", ratio(busy_slots.get() as f64, steps.get() as f64)),
        number("llamacpp:prompt_tokens_seconds", "Tokens of a prompt computed in a second, on average of all time", ratio(prompt_tokens.get() as f64, prefill.seconds())),
        number("llamacpp:predicted_tokens_seconds", "Tokens of an answer generated in a second, on average of all time", ratio(gap.count() as f64, gap.seconds())),
        number("llamacpp:requests_processing", "Requests that are computed", now.slots_busy as f64),
        number("llamacpp:requests_deferred", "Requests that wait for a slot", now.waiting as f64),
        times("bitnet_time_to_first_token_seconds", "From a request's arrival to its first token", first_token),
        times("bitnet_token_gap_seconds", "Between two tokens of an answer", gap),
        times("bitnet_queue_seconds", "From a request's arrival to its first step", queue),
        times("bitnet_prefill_seconds", "From a request's first step to the end of its prompt", prefill),
        times("bitnet_request_seconds", "From a request's arrival to its end, whatever the end", request),
        number("bitnet_cached_tokens_total", "Tokens of prompts that the cache held already", cached_tokens.get() as f64),
        by("bitnet_requests_total", "Requests that have ended, by how", "outcome", Outcome::ALL.map(|outcome| (outcome.label(), outcomes[outcome as usize].get())).to_vec()),
        by("bitnet_requests_refused_total", "Requests that were not taken, by why", "reason", Reason::ALL.map(|reason| (reason.label(), refusals[reason as usize].get())).to_vec()),
        number("bitnet_ready", "Whether a request would be taken", f64::from(u8::from(now.ready))),
        number("bitnet_slots", "Requests that can be computed together", now.slots as f64),
        number("bitnet_slots_busy", "Slots with a request", now.slots_busy as f64),
        number("bitnet_queue_limit", "Requests that may wait for a slot", now.queue_limit as f64),
    ];
    if let Some(Usage { pages, used, shared, kept }) = now.pages {
        table.extend([
            number("bitnet_pages", "Pages of the KV cache", pages as f64),
            number("bitnet_pages_used", "Pages of running requests", used as f64),
            number("bitnet_pages_shared", "Pages that several requests have together", shared as f64),
            number("bitnet_pages_kept", "Pages that no request uses now, and one that begins alike could", kept as f64),
        ]);
    }
    if let Some(CpuThrottling { periods, throttled_periods, throttled }) = now.cpu {
        table.extend([
            number("bitnet_cpu_periods_total", "Periods in which the container's limit of CPU time was applied", periods as f64),
            number("bitnet_cpu_throttled_periods_total", "Periods in which the container had used up its CPU time", throttled_periods as f64),
            number("bitnet_cpu_throttled_seconds_total", "Time for which the container's threads were stopped by its limit", throttled.as_secs_f64()),
        ]);
    }
    if let Some(Build { version, model, isa }) = now.build {
        let labels = vec![("version", version.to_owned()), ("model", model), ("isa", isa)];
        table.push(Family { name: "bitnet_build_info", help: "What runs", value: Value::Labels(labels) });
    }
    table
}

impl Outcome {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Places => "places",
            Self::Text => "text",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::TooLong => "too_long",
            Self::Incomplete => "incomplete",
            Self::NotFound => "not_found",
            Self::NotReady => "not_ready",
            Self::Invalid => "invalid",
        }
    }
}

fn number(name: &'static str, help: &'static str, value: f64) -> Family {
    Family { name, help, value: Value::Number(value) }
}

fn by(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    numbers: Vec<(&'static str, u64)>,
) -> Family {
    Family { name, help, value: Value::By(label, numbers) }
}

fn times(name: &'static str, help: &'static str, times: &Histogram) -> Family {
    Family { name, help, value: Value::Times { buckets: times.buckets(), seconds: times.seconds() } }
}

/// Zero where there is nothing to divide by.
fn ratio(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_explains_every_metric() {
        let manual = include_str!("../../../../docs/operating.md");
        let now = Now {
            pages: Some(Usage::default()),
            cpu: Some(CpuThrottling::default()),
            build: Some(Build { version: "", model: String::new(), isa: String::new() }),
            ..Now::default()
        };
        for Family { name, .. } in table(&Metrics::new(), now) {
            assert!(
                manual.contains(&format!("`{name}`")) || manual.contains(&format!("`{name}{{")),
                "{name}"
            );
        }
        for label in Outcome::ALL.map(Outcome::label).iter().chain(&Reason::ALL.map(Reason::label)) {
            assert!(manual.contains(&format!("`{label}`")), "{label}");
        }
    }
}
