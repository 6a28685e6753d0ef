//! Variants of the same work, measured in turns: what slows the machine down for a while slows all of them.

use std::time::{Duration, Instant};

/// One turn of a variant lasts at least so long, so that reading the clock does not count.
const TURN: Duration = Duration::from_millis(2);
/// When to stop: after so much time or so many rounds, but not before there are a few.
const TIME: Duration = Duration::from_millis(1200);
const MOST_ROUNDS: usize = 25;
const LEAST_ROUNDS: usize = 5;

/// What was found out about a variant.
pub(crate) struct Measured {
    /// Of one run; the median of all turns.
    pub(crate) seconds: f64,
    /// How many times faster than the first variant: the median of all rounds.
    pub(crate) ratio: f64,
}

/// Measures `run(variant)` for each of so many variants.
pub(crate) fn in_turns(variants: usize, mut run: impl FnMut(usize)) -> Vec<Measured> {
    let repeat: Vec<usize> = (0..variants).map(|variant| runs_of_a_turn(|| run(variant))).collect();
    let mut times = vec![Vec::new(); variants];
    let start = Instant::now();
    for round in 0..MOST_ROUNDS {
        if round >= LEAST_ROUNDS && start.elapsed() > TIME {
            break;
        }
        for (variant, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            (0..repeat[variant]).for_each(|_| run(variant));
            times.push(start.elapsed().as_secs_f64() / repeat[variant] as f64);
        }
    }
    let ratios = |times_of: &[f64]| times[0].iter().zip(times_of).map(|(first, time)| first / time).collect();
    times
        .iter()
        .map(|times| Measured { seconds: median(times.clone()), ratio: median(ratios(times)) })
        .collect()
}

/// Warms up, and estimates how often to run.
fn runs_of_a_turn(mut run: impl FnMut()) -> usize {
    run();
    let mut runs = 1;
    loop {
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        if start.elapsed() >= TURN {
            return runs;
        }
        runs *= 2;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
