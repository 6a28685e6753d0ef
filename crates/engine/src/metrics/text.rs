//! The table of all metrics, and the text in which Prometheus reads them.
//!
//! The names with a colon are llama-server's, for the scrapers and dashboards that know that server. Where it has a mean of all
//! time, so have we: speeds of the last minutes are the reader's to compute, from the counters.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::cells::Histogram;
use super::{Metrics, Outcome, Reason};
use crate::container::CpuThrottling;

/// What the body of the answer is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

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
    pub(crate) pages: Option<Pages>,
    /// In a container with a limit.
    pub(crate) cpu: Option<CpuThrottling>,
    /// Once it is loaded.
    pub(crate) build: Option<Build>,
}

/// Pages of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) all: usize,
    /// That hold something, be it for a running request or for a later one.
    pub(crate) used: usize,
    /// That several have together.
    pub(crate) shared: usize,
}

/// What runs.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) version: &'static str,
    pub(crate) model: String,
    pub(crate) isa: String,
}

/// One metric. A name that ends in `_total` is a counter's.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    value: Value,
}

#[derive(Debug)]
enum Value {
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

/// All metrics in the text format.
pub(crate) fn render(metrics: &Metrics, now: Now) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Table(table(metrics, now))));
    let mut text = String::new();
    // Cannot fail: memory takes all that is written.
    prometheus_text::encode(&mut text, &registry).ok();
    text
}

#[rustfmt::skip]
fn table(metrics: &Metrics, now: Now) -> Vec<Family> {
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
    if let Some(Pages { all, used, shared }) = now.pages {
        table.extend([
            number("bitnet_pages", "Pages of the KV cache", all as f64),
            number("bitnet_pages_used", "Pages that hold something, be it for a later request", used as f64),
            number("bitnet_pages_shared", "Pages that several requests have together", shared as f64),
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
    fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
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

/// The value as the whole number that it is: some readers take a count for one only without a point.
fn whole(value: f64) -> Option<u64> {
    (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
}

/// Zero where there is nothing to divide by.
fn ratio(amount: f64, by: f64) -> f64 {
    if by > 0.0 { amount / by } else { 0.0 }
}

#[derive(Debug)]
struct Table(Vec<Family>);

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> std::fmt::Result {
        const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;
        // The library writes the suffixes of counters and infos itself.
        let counter = self.name.strip_suffix("_total");
        let (name, metric_type) = match (&self.value, counter) {
            (Value::Labels(_), _) => (self.name.trim_end_matches("_info"), MetricType::Info),
            (Value::Times { .. }, _) => (self.name, MetricType::Histogram),
            (_, Some(name)) => (name, MetricType::Counter),
            (_, None) => (self.name, MetricType::Gauge),
        };
        let mut metric: MetricEncoder = encoder.encode_descriptor(name, self.help, None, metric_type)?;
        match &self.value {
            Value::Number(value) => match (counter, whole(*value)) {
                (Some(_), Some(value)) => metric.encode_counter(&value, NONE),
                (Some(_), None) => metric.encode_counter(value, NONE),
                (None, Some(value)) => metric.encode_gauge(&value),
                (None, None) => metric.encode_gauge(value),
            },
            Value::By(label, numbers) => numbers.iter().try_for_each(|(value, number)| {
                metric.encode_family(&[(*label, *value)])?.encode_counter(number, NONE)
            }),
            Value::Times { buckets, seconds } => {
                let count = buckets.iter().map(|(_, number)| number).sum();
                metric.encode_histogram::<NoLabelSet>(*seconds, count, buckets, None)
            }
            Value::Labels(labels) => metric.encode_info(labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn what_was_counted_is_what_is_read() {
        let metrics = Metrics::new();
        for sequences in [1, 3] {
            metrics.step_begins(sequences);
            metrics.step_ends();
        }
        metrics.queued(SECOND / 4);
        metrics.prefilled(30, 12, 2 * SECOND);
        metrics.first_token(3 * SECOND);
        metrics.gap(SECOND / 10);
        metrics.gap(SECOND / 2);
        metrics.reached(45);
        metrics.reached(40);
        metrics.ended(Outcome::Length, 5 * SECOND);
        metrics.ended(Outcome::Cancelled, 700 * SECOND);
        metrics.refused(Reason::QueueFull);
        let now = Now { ready: true, slots: 4, slots_busy: 2, waiting: 3, queue_limit: 32, ..Now::default() };
        check(
            &render(&metrics, now),
            &[
                "# TYPE llamacpp:prompt_tokens_total counter",
                "llamacpp:prompt_tokens_total 30",
                "llamacpp:prompt_seconds_total 2",
                "llamacpp:tokens_predicted_total 3",
                "llamacpp:tokens_predicted_seconds_total 0.6",
                "llamacpp:n_decode_total 2",
                "# TYPE llamacpp:n_tokens_max gauge",
                "llamacpp:n_tokens_max 45",
                "llamacpp:n_busy_slots_per_decode 2",
                "llamacpp:prompt_tokens_seconds 15",
                "llamacpp:requests_processing 2",
                "llamacpp:requests_deferred 3",
                "# TYPE bitnet_token_gap_seconds histogram",
                r#"bitnet_token_gap_seconds_bucket{le="0.075"} 0"#,
                r#"bitnet_token_gap_seconds_bucket{le="0.1"} 1"#,
                r#"bitnet_token_gap_seconds_bucket{le="+Inf"} 2"#,
                "bitnet_token_gap_seconds_count 2",
                "bitnet_token_gap_seconds_sum 0.6",
                r#"bitnet_request_seconds_bucket{le="600"} 1"#,
                r#"bitnet_request_seconds_bucket{le="+Inf"} 2"#,
                "bitnet_cached_tokens_total 12",
                r#"bitnet_requests_total{outcome="cancelled"} 1"#,
                r#"bitnet_requests_total{outcome="stop"} 0"#,
                r#"bitnet_requests_refused_total{reason="queue_full"} 1"#,
                "bitnet_ready 1",
                "bitnet_slots 4",
                "bitnet_queue_limit 32",
            ],
        );
    }

    #[test]
    fn the_manual_explains_every_metric() {
        let manual = include_str!("../../../../docs/operating.md");
        let now = Now {
            pages: Some(Pages::default()),
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

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = render(&Metrics::new(), Now::default());
        check(&text, &["bitnet_ready 0", "llamacpp:n_busy_slots_per_decode 0"]);
        for part in ["bitnet_pages", "bitnet_cpu", "bitnet_build_info", "NaN"] {
            assert!(!text.contains(part), "{part} in\n{text}");
        }
        let now = Now {
            pages: Some(Pages { all: 9, used: 5, shared: 2 }),
            cpu: Some(CpuThrottling { periods: 70, throttled_periods: 7, throttled: SECOND / 2 }),
            build: Some(Build { version: "1", model: "a\"b\\c\nd".to_owned(), isa: "scalar".to_owned() }),
            ..Now::default()
        };
        let build = r#"bitnet_build_info{version="1",model="a\"b\\c\nd",isa="scalar"} 1"#;
        let pages = ["bitnet_pages 9", "bitnet_pages_used 5", "bitnet_pages_shared 2"];
        let text = render(&Metrics::new(), now);
        check(&text, &[&pages[..], &["bitnet_cpu_throttled_seconds_total 0.5", build]].concat());
    }
}
