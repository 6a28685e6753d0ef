//! Penalties on tokens that occurred a short while ago.

use std::collections::{HashMap, VecDeque};

use super::SamplingParameters;

/// Tokens of the window for which there is room from the beginning.
const RESERVED: usize = 1024;

/// The last tokens, and what they cost.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    last_n: usize,
    recent: VecDeque<u32>,
    /// How often each token is in `recent`.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(parameters: &SamplingParameters) -> Self {
        let mut penalties = Self {
            repeat: parameters.repeat_penalty,
            presence: parameters.presence_penalty,
            frequency: parameters.frequency_penalty,
            last_n: parameters.repeat_last_n,
            recent: VecDeque::new(),
            counts: HashMap::new(),
        };
        if penalties.are_on() {
            // Twice the tokens: then a map in which they come and go does not grow.
            let window = penalties.last_n.min(RESERVED);
            penalties.recent.reserve(window);
            penalties.counts.reserve(2 * window);
        }
        penalties
    }

    /// Whether any token could be penalised.
    #[expect(clippy::float_cmp, reason = "exactly these values do nothing")]
    pub(super) fn are_on(&self) -> bool {
        let neutral = self.repeat == 1.0 && self.presence == 0.0 && self.frequency == 0.0;
        self.last_n > 0 && !neutral
    }

    pub(super) fn accept(&mut self, token: u32) {
        if !self.are_on() {
            return;
        }
        if self.recent.len() == self.last_n
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.recent.push_back(token);
        *self.counts.entry(token).or_default() += 1;
    }

    /// Lowers the logits of recent tokens.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        if !self.are_on() {
            return;
        }
        for &token in self.counts.keys() {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = self.lowered(token, *logit);
            }
        }
    }

    /// The logit of a token after the penalties.
    pub(super) fn lowered(&self, token: u32, logit: f32) -> f32 {
        let Some(&count) = self.counts.get(&token) else { return logit };
        let logit = if logit > 0.0 { logit / self.repeat } else { logit * self.repeat };
        logit - (count as f32 * self.frequency + self.presence)
    }

    /// Tokens whose logits it lowers.
    pub(super) fn tokens(&self) -> impl Iterator<Item = u32> + Clone {
        self.counts.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn penalised(parameters: &SamplingParameters, tokens: &[u32]) -> Vec<f32> {
        let mut penalties = Penalties::new(parameters);
        for &token in tokens {
            penalties.accept(token);
        }
        let mut logits = vec![2.0, -2.0, 0.5, 1.0];
        penalties.apply(&mut logits);
        logits
    }

    #[test]
    fn a_repeat_penalty_lowers_positive_and_negative_logits() {
        let parameters = SamplingParameters { repeat_penalty: 2.0, ..SamplingParameters::default() };
        assert_eq!(penalised(&parameters, &[0, 1, 1]), [1.0, -4.0, 0.5, 1.0]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not() {
        let parameters = SamplingParameters {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..SamplingParameters::default()
        };
        assert_eq!(penalised(&parameters, &[3, 0, 3, 3]), [1.25, -2.0, 0.5, -0.25]);
    }

    #[test]
    fn only_the_last_tokens_count() {
        let parameters =
            SamplingParameters { frequency_penalty: 1.0, repeat_last_n: 2, ..SamplingParameters::default() };
        assert_eq!(penalised(&parameters, &[0, 0, 3, 2, 3]), [2.0, -2.0, -0.5, 0.0]);
    }

    #[test]
    fn a_window_of_nothing_and_tokens_outside_the_vocabulary_change_nothing() {
        let off =
            SamplingParameters { frequency_penalty: 1.0, repeat_last_n: 0, ..SamplingParameters::default() };
        let on = SamplingParameters { repeat_last_n: 3, ..off.clone() };
        let unchanged = [2.0, -2.0, 0.5, 1.0];
        assert_eq!(penalised(&off, &[0, 1, 2]), unchanged);
        assert_eq!(penalised(&on, &[0, 4, u32::MAX, 4]), unchanged);
        assert_eq!(penalised(&SamplingParameters::default(), &[0, 1]), unchanged);
    }
}
