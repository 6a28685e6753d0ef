//! How fast steps are, measured, and so how many tokens of prompts fit between two tokens of a running answer.

use std::time::Duration;

/// Before anything is known.
const FIRST: usize = 16;
/// How many times longer than others a step is believed to take.
const UNUSUAL: f64 = 4.0;
/// The part of the time that is planned with: steps differ.
const PLANNED: f64 = 0.65;

#[derive(Debug)]
pub(super) struct Pace {
    /// What a running answer may wait for its next token, in seconds.
    gap: f64,
    /// Sequences that generate, and what a step of them alone takes, in seconds.
    generating: Option<(usize, f64)>,
    /// What a token of a prompt adds to it, in seconds.
    prompt_token: Option<f64>,
    /// Tokens of prompts that were computed last beside sequences that generate.
    part: usize,
}

impl Pace {
    pub(super) fn new(gap: Duration) -> Self {
        Self { gap: gap.as_secs_f64(), generating: None, prompt_token: None, part: 0 }
    }

    /// A step of so many sequences that generate and so many tokens of prompts took so long.
    pub(super) fn observe(&mut self, sequences: usize, prompt_tokens: usize, time: Duration) {
        let time = time.as_secs_f64();
        if prompt_tokens == 0 {
            let before = self.generating.filter(|&(before, _)| before == sequences);
            let time = before.map_or(time, |(_, before)| smooth(before, time));
            self.generating = Some((sequences, time));
            return;
        }
        if sequences == 0 && prompt_tokens < FIRST {
            // It took as long as the weights that were read for it, which says nothing of what they add to others.
            return;
        }
        // Fewer of them take less, in the best case in proportion.
        let share = |before: usize| (sequences as f64 / before.max(1) as f64).min(1.0);
        let generating = self.generating.map_or(0.0, |(before, time)| share(before) * time);
        let added = (time - generating).max(0.0) / prompt_tokens as f64;
        self.prompt_token = Some(self.prompt_token.map_or(added, |before| smooth(before, added)));
        if sequences > 0 {
            self.part = prompt_tokens;
        }
    }

    /// How many tokens of prompts may be computed beside sequences that generate: at least one, so that they get on.
    pub(super) fn beside(&self) -> usize {
        let Some(each) = self.prompt_token else { return FIRST };
        let left = self.gap * PLANNED - self.generating.map_or(0.0, |(_, time)| time);
        // Saturates, also when nothing takes any time. A few tokens say little about many, so that it grows in steps.
        ((left / each).max(1.0) as usize).min(FIRST + 2 * self.part)
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

    #[test]
    fn what_fits_beside_running_answers_follows_what_was_measured() {
        let mut pace = Pace::new(Duration::from_millis(250));
        assert_eq!(pace.beside(), FIRST);
        for _ in 0..40 {
            pace.observe(3, 0, Duration::from_millis(50));
            pace.observe(3, 20, Duration::from_millis(250));
        }
        // 162 ms are planned with, 50 of which are taken, and a token takes 10.
        assert_eq!(pace.beside(), 11);
        for _ in 0..40 {
            let part = pace.beside() as u64;
            pace.observe(3, part as usize, Duration::from_millis(50 + 2 * part));
        }
        assert!((50..=57).contains(&pace.beside()), "{}", pace.beside());
    }

    #[test]
    fn what_was_computed_without_running_answers_and_in_small_parts_does_not_make_it_bold() {
        let mut pace = Pace::new(Duration::from_millis(250));
        pace.observe(8, 0, Duration::from_millis(100));
        pace.observe(8, 20, Duration::from_millis(200));
        assert_eq!(pace.beside(), 12);
        // Nobody generates any more.
        for _ in 0..40 {
            pace.observe(0, 2, Duration::from_millis(60));
        }
        assert_eq!(pace.beside(), 12);
        // One of eight does not take as long as all.
        for _ in 0..40 {
            pace.observe(1, 20, Duration::from_millis(120));
        }
        assert!((8..=15).contains(&pace.beside()), "{}", pace.beside());
    }

    #[test]
    fn a_step_in_which_the_machine_stood_still_is_soon_forgotten() {
        let mut pace = Pace::new(Duration::from_millis(250));
        pace.observe(2, 0, Duration::from_millis(50));
        let mut step = |time: Option<u64>| {
            let part = pace.beside().min(200);
            pace.observe(2, part, Duration::from_millis(time.unwrap_or(50 + 5 * part as u64)));
            part
        };
        pace_settles(&mut step);
        step(Some(8_000));
        pace_settles(&mut step);
    }

    fn pace_settles(step: &mut impl FnMut(Option<u64>) -> usize) {
        let parts: Vec<usize> = (0..40).map(|_| step(None)).collect();
        assert!((15..=23).contains(&parts[39]), "{parts:?}");
        // From the first on they grow, and no step took longer than a running answer may wait.
        assert!(parts.iter().all(|&part| part <= 41), "{parts:?}");
    }

    #[test]
    fn prompts_get_on_when_there_is_no_time_and_time_may_be_none() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.observe(1, 5, Duration::from_secs(1));
        assert_eq!(pace.beside(), 1);
        let mut pace = Pace::new(Duration::from_secs(1));
        pace.observe(1, 0, Duration::ZERO);
        assert_eq!(pace.beside(), FIRST);
        pace.observe(1, 100, Duration::ZERO);
        assert_eq!(pace.beside(), FIRST + 200);
    }
}
