//! Many measured values → the few that are printed.

use serde::Serialize;

/// Half, 95 and 99 of a hundred values are at most these, and all are at most the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// All zero when there is no value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |share| percentile(&values, share).unwrap_or_default();
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }

    /// The median of each figure.
    pub(crate) fn median(spreads: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(spreads.iter().map(figure));
        Self { p50: of(|s| s.p50), p95: of(|s| s.p95), p99: of(|s| s.p99), max: of(|s| s.max) }
    }
}

/// The smallest value that at least this share of them does not exceed ("nearest rank": always one that was measured).
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The middle, or the mean of the two in the middle; zero when there is no value.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let Some(&upper) = values.get(values.len() / 2) else { return 0.0 };
    if values.len() % 2 == 1 { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_values_the_percentiles_are_their_ranks() {
        let spread = Spread::of((1..=100).rev().map(f64::from));
        assert_eq!(spread, Spread { p50: 50.0, p95: 95.0, p99: 99.0, max: 100.0 });
    }

    #[test]
    fn a_percentile_of_few_values_is_one_of_them() {
        assert_eq!(Spread::of([7.0]), Spread { p50: 7.0, p95: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Spread::of([1.0, 9.0]), Spread { p50: 1.0, p95: 9.0, p99: 9.0, max: 9.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
