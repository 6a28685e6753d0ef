//! `GET /metrics`: what was counted, and what holds now, in Prometheus's text format.

use crate::container;
use crate::engine::Engine;
use crate::http::reply::{self, Reply};
use crate::metrics::{self, Build, CONTENT_TYPE, Metrics, Now};

/// Whether there is a model or not: before, nothing is served and a queue is empty.
pub(super) fn metrics(
    metrics: &Metrics,
    engine: Option<&Engine>,
    ready: bool,
    queue_limit: usize,
    isa: &str,
) -> Reply {
    let mut now = Now { ready, queue_limit, cpu: container::cpu_throttling(), ..Now::default() };
    if let Some(engine) = engine {
        let status = engine.handle.status();
        now.slots = status.slots.len();
        now.slots_busy = status.slots.iter().filter(|slot| slot.sequence.is_some()).count();
        now.waiting = status.waiting;
        now.pages = Some(status.pages);
        let model = engine.about.name.clone();
        now.build = Some(Build { version: env!("CARGO_PKG_VERSION"), model, isa: isa.to_owned() });
    }
    reply::text_as(CONTENT_TYPE, metrics::render(metrics, now))
}
