//! How fast steps are, measured, and so how many tokens of prompts fit between two tokens of a running answer.
//!
//! What a step takes for each of its rows becomes less as it has more of them, as long as reading the weights bounds it, and is then the
//! same: so a larger step never takes more for each than a smaller one did.

use std::time::Duration;

/// Before anything is known. Of fewer tokens most of the time is that of reading the weights.
const FIRST: usize = 16;
/// How many times longer than others a step is believed to take.
const UNUSUAL: f64 = 4.0;
/// The part of the time that is planned with: steps differ.
const PLANNED: f64 = 0.7;

#[derive(Debug)]
pub(super) struct Pace {
    /// What a running answer may wait for its next token, in seconds.
    gap: f64,
    /// What a step with prompts takes for each row, in seconds.
    row: Option<f64>,
    /// How many sequences generated in the last step.
    sequences: usize,
}

impl Pace {
    pub(super) fn new(gap: Duration) -> Self {
        Self { gap: gap.as_secs_f64(), row: None, sequences: 0 }
    }

    /// A step of so many sequences that generate and so many tokens of prompts took so long.
    pub(super) fn observe(&mut self, sequences: usize, prompt_tokens: usize, time: Duration) {
        self.sequences = sequences;
        if prompt_tokens == 0 || sequences == 0 && prompt_tokens < FIRST {
            return;
        }
        let row = time.as_secs_f64() / (sequences + prompt_tokens) as f64;
        self.row = Some(self.row.map_or(row, |before| smooth(before, row)));
    }

    /// How many tokens of prompts may be computed beside sequences that generate: at least one, so that they get on.
    pub(super) fn beside(&self) -> usize {
        let Some(row) = self.row else { return FIRST };
        // Saturates when nothing takes any time.
        let rows = (self.gap * PLANNED / row.max(f64::MIN_POSITIVE)) as usize;
        rows.saturating_sub(self.sequences).max(1)
    }
}

/// Slower counts soon, faster only by and by: a plan must not be too bold. A single step in which the machine did something else, or
/// nothing at all, does not count for all that it took.
fn smooth(before: f64, now: f64) -> f64 {
    let part = if now < before { 0.2 } else { 0.5 };
    before + part * (now.min(UNUSUAL * before) - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is planned with, of a gap of 250 ms, where a token takes 5 ms and reading the weights 25.
    const MOST: usize = 35;

    fn time(sequences: usize, part: usize) -> Duration {
        Duration::from_millis((5 * (sequences + part) as u64).max(25))
    }

    /// Parts of a long prompt beside two answers, as they follow from what was measured.
    fn parts(pace: &mut Pace) -> Vec<usize> {
        let part = |pace: &mut Pace| {
            let part = pace.beside().min(190);
            pace.observe(2, part, time(2, part));
            part
        };
        (0..40).map(|_| part(pace)).collect()
    }

    fn check(parts: &[usize]) {
        assert!(parts.iter().all(|&part| part <= MOST) && parts[39] >= MOST - 3, "{parts:?}");
    }

    #[test]
    fn what_fits_beside_running_answers_follows_what_was_measured() {
        let mut pace = Pace::new(Duration::from_millis(250));
        assert_eq!(pace.beside(), FIRST);
        check(&parts(&mut pace));
    }

    #[test]
    fn many_short_prompts_do_not_make_it_bold_and_do_not_stop_a_long_one() {
        let mut pace = Pace::new(Duration::from_millis(250));
        for sequences in [0, 1, 8] {
            for _ in 0..40 {
                pace.observe(sequences, 2, time(sequences, 2));
                pace.observe(sequences, 0, time(sequences, 0));
            }
            check(&parts(&mut pace));
        }
    }

    #[test]
    fn a_step_in_which_the_machine_stood_still_is_soon_forgotten() {
        let mut pace = Pace::new(Duration::from_millis(250));
        parts(&mut pace);
        pace.observe(2, 30, Duration::from_secs(8));
        assert!(pace.beside() < MOST);
        check(&parts(&mut pace));
    }

    #[test]
    fn prompts_get_on_when_there_is_no_time_and_time_may_be_none() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.observe(1, 5, Duration::from_secs(1));
        assert_eq!(pace.beside(), 1);
        let mut pace = Pace::new(Duration::from_secs(1));
        pace.observe(1, 5, Duration::ZERO);
        assert_eq!(pace.beside(), usize::MAX - 1);
    }
}
