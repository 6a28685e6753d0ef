//! What is counted in: numbers that any thread may add to while another one reads.
//!
//! The library's own histogram takes a lock for each value; these are added to by a thread that may not wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something that is counted: it only grows.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: usize) {
        self.0.fetch_add(number as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The largest number of all.
#[derive(Default)]
pub(super) struct Largest(AtomicU64);

impl Largest {
    pub(super) fn of(&self, number: usize) {
        self.0.fetch_max(number as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times by their length.
pub(super) struct Histogram {
    /// Seconds, ascending; each is the largest time of its bucket.
    bounds: &'static [f64],
    /// One for each bound, and one for what is longer than all of them.
    buckets: Box<[AtomicU64]>,
    /// Nanoseconds of all: enough for 584 years.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = self.bounds.partition_point(|&bound| bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The upper bound of each bucket and what is in it, the last one without an end.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect()
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Seconds of all.
    pub(super) fn seconds(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        for milliseconds in [0, 499, 500, 501, 1000, 1001, 1_000_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.buckets(), [(0.5, 3), (1.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((histogram.count(), histogram.seconds()), (7, 1003.501));
    }

    #[test]
    fn what_several_threads_count_is_all_there() {
        let (count, largest, histogram) = (Count::default(), Largest::default(), Histogram::new(&[1.0]));
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let (count, largest, histogram) = (&count, &largest, &histogram);
                scope.spawn(move || {
                    for number in 0..1_000 {
                        count.add(2);
                        largest.of(thread * number);
                        histogram.observe(Duration::from_secs(thread as u64));
                    }
                });
            }
        });
        assert_eq!((count.get(), largest.get()), (8_000, 4 * 999));
        assert_eq!(histogram.buckets(), [(1.0, 1_000), (f64::INFINITY, 3_000)]);
        assert_eq!(histogram.seconds(), 10_000.0);
    }
}
