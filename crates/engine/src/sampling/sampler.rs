//! The stages from logits to a token.

use super::SamplingParameters;
use super::candidates::{Candidate, keep_mass, select_all, select_best};
use super::exponential::{below, exp};
use super::penalties::Penalties;
use super::random::Random;

/// Every logit is minus infinity or not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token is left to choose from: each is forbidden or its logit is not a number")]
pub struct NoTokenLeft;

/// Chooses the tokens of one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    parameters: SamplingParameters,
    penalties: Penalties,
    random: Random,
    /// Logits after bias and penalties; kept for its memory.
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler with parameters that are [valid](SamplingParameters::validate).
    #[must_use]
    pub fn new(parameters: &SamplingParameters) -> Self {
        Self {
            parameters: parameters.clone(),
            penalties: Penalties::new(parameters),
            random: Random::new(parameters.seed),
            adjusted: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Notes a token of the prompt or of the answer, for the penalties.
    pub fn accept(&mut self, token: u32) {
        self.penalties.accept(token);
    }

    /// The next token; `logits: [vocabulary]`. Does not [`accept`](Self::accept) it.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, NoTokenLeft> {
        let mut logits = logits;
        if self.penalties.are_on() || !self.parameters.logit_bias.is_empty() {
            self.adjusted.clear();
            self.adjusted.extend_from_slice(logits);
            for &(token, bias) in &self.parameters.logit_bias {
                if let Some(logit) = self.adjusted.get_mut(token as usize) {
                    *logit += bias;
                }
            }
            self.penalties.apply(&mut self.adjusted);
            logits = &self.adjusted;
        }
        match self.parameters.top_k {
            _ if self.parameters.temperature == 0.0 => select_best(logits, 1, &mut self.candidates),
            0 => select_all(logits, &mut self.candidates),
            top_k => select_best(logits, top_k, &mut self.candidates),
        }
        self.draw()
    }

    /// Chooses from `candidates`, which are sorted or all tokens by id.
    fn draw(&mut self) -> Result<u32, NoTokenLeft> {
        let SamplingParameters { temperature, top_p, min_p, .. } = self.parameters;
        let candidates = &mut self.candidates;
        let best = candidates.iter().copied().reduce(|a, b| if b.logit > a.logit { b } else { a });
        let best = best.ok_or(NoTokenLeft)?;
        // Probability relative to that of the best, if logits are divided by `temperature`.
        let weight = |candidate: &Candidate, temperature: f32| {
            exp(below(candidate.logit, best.logit) / f64::from(temperature))
        };
        if top_p < 1.0 {
            let total: f64 = candidates.iter().map(|candidate| weight(candidate, 1.0)).sum();
            keep_mass(candidates, f64::from(top_p) * total, |candidate| weight(candidate, 1.0));
        }
        if min_p > 0.0 {
            candidates.retain(|candidate| weight(candidate, 1.0) >= f64::from(min_p));
        }
        if candidates.len() <= 1 {
            return Ok(best.id);
        }
        let total: f64 = candidates.iter().map(|candidate| weight(candidate, temperature)).sum();
        let mut left = self.random.unit() * total;
        let chosen = candidates.iter().find(|candidate| {
            left -= weight(candidate, temperature);
            left < 0.0
        });
        Ok(chosen.unwrap_or(&best).id)
    }
}
