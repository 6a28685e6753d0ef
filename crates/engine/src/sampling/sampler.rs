//! The stages from logits to a token.

use super::SamplingParameters;
use super::exp::{below, exp};
use super::filters::{all_of, best_first, min_p, top_k, top_k_of, top_p};
use super::penalties::Penalties;
use super::random::Random;
use crate::logits::{Candidate, Demand, Logits};

/// More candidates than a search of the head usually finds: for them there is room from the beginning.
const ROOM: usize = 4096;

/// Every logit is minus infinity or not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token is left to choose from: each is forbidden or its logit is not a number")]
pub(crate) struct NoTokenLeft;

/// Chooses the tokens of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
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
    pub(crate) fn new(parameters: &SamplingParameters) -> Self {
        Self {
            parameters: parameters.clone(),
            penalties: Penalties::new(parameters),
            random: Random::new(parameters.seed),
            adjusted: Vec::new(),
            candidates: Vec::with_capacity(ROOM),
        }
    }

    /// Notes a token of the prompt or of the answer, for the penalties.
    pub(crate) fn accept(&mut self, token: u32) {
        self.penalties.accept(token);
    }

    /// Which logits [`sample`](Self::sample) can do with; `None`: all.
    #[must_use]
    pub(crate) fn demand(&self) -> Option<Demand> {
        /// More than the error of the exponential.
        const MARGIN: f32 = 0.01;
        let SamplingParameters { temperature, top_k, top_p, min_p, .. } = self.parameters;
        match top_k {
            _ if temperature == 0.0 => Some(Demand::Top(1)),
            0 if top_p >= 1.0 && min_p > 0.0 => Some(Demand::Within(MARGIN - min_p.ln())),
            0 => None,
            top_k => Some(Demand::Top(top_k)),
        }
    }

    /// Tokens whose logits are changed before the choice: these are needed besides what [`demand`](Self::demand) says.
    pub(crate) fn touched(&self) -> impl Iterator<Item = u32> + Clone {
        self.parameters.logit_bias.keys().copied().chain(self.penalties.tokens())
    }

    /// The next token. Does not [`accept`](Self::accept) it.
    pub(crate) fn sample(&mut self, logits: Logits<'_>) -> Result<u32, NoTokenLeft> {
        match logits {
            Logits::All(logits) => self.select(logits),
            Logits::Some(found) => self.select_found(found),
        }
        self.draw()
    }

    /// The tokens that remain of all.
    fn select(&mut self, logits: &[f32]) {
        let mut logits = logits;
        if self.penalties.are_on() || !self.parameters.logit_bias.is_empty() {
            self.adjusted.clear();
            self.adjusted.extend_from_slice(logits);
            for (&token, &bias) in &self.parameters.logit_bias {
                if let Some(logit) = self.adjusted.get_mut(token as usize) {
                    *logit += bias;
                }
            }
            self.penalties.apply(&mut self.adjusted);
            logits = &self.adjusted;
        }
        match self.kept() {
            Some(count) => top_k_of(logits, count, &mut self.candidates),
            None => all_of(logits, &mut self.candidates),
        }
    }

    /// The tokens that remain of those found, which are the same as of all.
    fn select_found(&mut self, found: &[Candidate]) {
        self.candidates.clear();
        for &Candidate { id, mut logit } in found {
            if let Some(bias) = self.parameters.logit_bias.get(&id) {
                logit += bias;
            }
            logit = self.penalties.lowered(id, logit);
            if logit > f32::NEG_INFINITY {
                self.candidates.push(Candidate { id, logit });
            }
        }
        if let Some(count) = self.kept() {
            top_k(&mut self.candidates, count);
            self.candidates.sort_unstable_by(best_first);
        }
    }

    /// How many of the best tokens remain; `None`: all.
    fn kept(&self) -> Option<usize> {
        match self.parameters.top_k {
            _ if self.parameters.temperature == 0.0 => Some(1),
            0 => None,
            top_k => Some(top_k),
        }
    }

    /// Chooses from `candidates`, which are sorted or all tokens by id.
    fn draw(&mut self) -> Result<u32, NoTokenLeft> {
        let Self { parameters, candidates, random, .. } = self;
        let best = candidates.iter().copied().reduce(|a, b| if b.logit > a.logit { b } else { a });
        let best = best.ok_or(NoTokenLeft)?;
        // Probability relative to that of the best, if logits are divided by `temperature`.
        let weight = |candidate: &Candidate, temperature: f32| {
            exp(below(candidate.logit, best.logit) / f64::from(temperature))
        };
        if parameters.top_p < 1.0 {
            top_p(candidates, parameters.top_p, |candidate| weight(candidate, 1.0));
        }
        if parameters.min_p > 0.0 {
            min_p(candidates, parameters.min_p, |candidate| weight(candidate, 1.0));
        }
        if candidates.len() <= 1 {
            return Ok(best.id);
        }
        let weight = |candidate: &Candidate| weight(candidate, parameters.temperature);
        let total: f64 = candidates.iter().map(weight).sum();
        let mut left = random.unit() * total;
        let chosen = candidates.iter().find(|candidate| {
            left -= weight(candidate);
            left < 0.0
        });
        Ok(chosen.unwrap_or(&best).id)
    }
}
