//! How fast steps are, measured, and so how many tokens of prompts fit between two tokens of a running answer.

use std::time::Duration;

/// Before anything is known.
const FIRST: usize = 16;
/// The part of the time that is planned with: steps differ.
const PLANNED: f64 = 0.8;

#[derive(Debug)]
pub(super) struct Pace {
    /// What a running answer may wait for its next token, in seconds.
    gap: f64,
    /// Of a step without prompts, in seconds.
    generating: Option<f64>,
    /// What a token of a prompt adds to it, in seconds.
    prompt_token: Option<f64>,
}

impl Pace {
    pub(super) fn new(gap: Duration) -> Self {
        Self { gap: gap.as_secs_f64(), generating: None, prompt_token: None }
    }

    /// A step of so many tokens of prompts, beside others or not, took so long.
    pub(super) fn observe(&mut self, prompt_tokens: usize, time: Duration) {
        let time = time.as_secs_f64();
        if prompt_tokens == 0 {
            self.generating = Some(smooth(self.generating, time));
        } else {
            let added = (time - self.generating.unwrap_or(0.0)).max(0.0) / prompt_tokens as f64;
            self.prompt_token = Some(smooth(self.prompt_token, added));
        }
    }

    /// How many tokens of prompts may be computed beside sequences that generate: at least one, so that they get on.
    pub(super) fn beside(&self) -> usize {
        let Some(each) = self.prompt_token else { return FIRST };
        let left = self.gap * PLANNED - self.generating.unwrap_or(0.0);
        // Saturates, also when nothing takes any time.
        (left / each).max(1.0) as usize
    }
}

/// Slower counts at once, faster only by and by: a plan must not be too bold.
fn smooth(before: Option<f64>, now: f64) -> f64 {
    match before {
        Some(before) if now < before => 0.8 * before + 0.2 * now,
        Some(before) => 0.5 * before + 0.5 * now,
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_beside_running_answers_follows_what_was_measured() {
        let mut pace = Pace::new(Duration::from_millis(250));
        assert_eq!(pace.beside(), FIRST);
        for _ in 0..40 {
            pace.observe(0, Duration::from_millis(50));
            pace.observe(20, Duration::from_millis(250));
        }
        // 200 ms are planned with, 50 of which are taken, and a token takes 10.
        assert_eq!(pace.beside(), 15);
        for _ in 0..40 {
            pace.observe(20, Duration::from_millis(90));
        }
        assert!((70..=80).contains(&pace.beside()), "{}", pace.beside());
    }

    #[test]
    fn prompts_get_on_when_there_is_no_time_and_time_may_be_none() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.observe(5, Duration::from_secs(1));
        assert_eq!(pace.beside(), 1);
        let mut pace = Pace::new(Duration::from_secs(1));
        pace.observe(5, Duration::ZERO);
        assert_eq!(pace.beside(), usize::MAX);
    }
}
