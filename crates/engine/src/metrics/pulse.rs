//! Whether the engine thread gets on: when the step began that runs now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Set by the thread, read by anybody.
pub(super) struct Pulse {
    start: Instant,
    /// Nanoseconds from `start` to the beginning of the step, plus one; 0 while none runs.
    began: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), began: AtomicU64::new(0) }
    }

    pub(super) fn begin(&self) {
        self.begin_at(self.start.elapsed());
    }

    pub(super) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> Option<Duration> {
        self.running_at(self.start.elapsed())
    }

    fn begin_at(&self, time: Duration) {
        self.began.store(time.as_nanos() as u64 + 1, Ordering::Relaxed);
    }

    fn running_at(&self, time: Duration) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed).checked_sub(1)?;
        // It may have begun just after the clock was read.
        Some(time.saturating_sub(Duration::from_nanos(began)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_from_its_beginning_to_its_end() {
        let (pulse, second) = (Pulse::new(), Duration::from_secs(1));
        assert_eq!(pulse.running_at(9 * second), None);
        for began in [0, 2] {
            pulse.begin_at(began * second);
            assert_eq!(pulse.running_at((began + 7) * second), Some(7 * second));
        }
        assert_eq!(pulse.running_at(second), Some(Duration::ZERO));
        pulse.end();
        assert_eq!(pulse.running_at(9 * second), None);
    }
}
