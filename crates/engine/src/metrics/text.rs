//! The text in which Prometheus reads metrics, by the library of its own project.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::table::{Family, Now, Value, table};

/// What the body of the answer is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// All metrics in the text format.
pub(crate) fn render(metrics: &Metrics, now: Now) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Table(table(metrics, now))));
    let mut text = String::new();
    // Cannot fail: memory takes all that is written.
    prometheus_text::encode(&mut text, &registry).ok();
    text
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

/// The value as the whole number that it is: some readers take a count for one only without a point.
fn whole(value: f64) -> Option<u64> {
    (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::container::CpuThrottling;
    use crate::kv::Usage;
    use crate::metrics::{Build, Outcome, Reason};

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
    fn what_is_not_known_is_left_out() {
        let text = render(&Metrics::new(), Now::default());
        check(&text, &["bitnet_ready 0", "llamacpp:n_busy_slots_per_decode 0"]);
        for part in ["bitnet_pages", "bitnet_cpu", "bitnet_build_info", "NaN"] {
            assert!(!text.contains(part), "{part} in\n{text}");
        }
        let now = Now {
            pages: Some(Usage { pages: 9, used: 5, shared: 2, kept: 3 }),
            cpu: Some(CpuThrottling { periods: 70, throttled_periods: 7, throttled: SECOND / 2 }),
            build: Some(Build { version: "1", model: "a\"b\\c\nd".to_owned(), isa: "scalar".to_owned() }),
            ..Now::default()
        };
        let build = r#"bitnet_build_info{version="1",model="a\"b\\c\nd",isa="scalar"} 1"#;
        let pages = ["bitnet_pages 9", "bitnet_pages_used 5", "bitnet_pages_shared 2", "bitnet_pages_kept 3"];
        let text = render(&Metrics::new(), now);
        check(&text, &[&pages[..], &["bitnet_cpu_throttled_seconds_total 0.5", build]].concat());
    }
}
