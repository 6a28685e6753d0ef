//! Answers without a model: the same server, wire, queue and errors, for people who build against it and for load tests.
//!
//! What comes next follows from the last token and its position alone, as with a model: so the same request has the same answer, however
//! it is divided into steps.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use super::compute::Compute;
use crate::kv::PageCopy;
use crate::logits::Logits;
use crate::model::{ForwardError, LogitRequest, Run, Wanted};
use crate::tokenizer::Tokenizer;

/// What all answers are made of, again and again.
const TEXT: &str = " This text is simulated: no model was asked. It comes word by word, as fast as you wished, and says nothing.";
/// The logit of whatever does not come next.
const UNLIKELY: f32 = -100.0;
/// How many tokens of a prompt take the time of one of an answer.
const PROMPT_TOKENS: f64 = 10.0;

/// See the module.
pub(crate) struct Simulation {
    /// Of a token of an answer, in seconds.
    token_time: f64,
    first: u32,
    /// What follows a token of the text.
    following: HashMap<u32, u32>,
    last: u32,
    end: u32,
    /// What comes next after each token of the last pass whose logits are wanted.
    next: Vec<u32>,
    logits: Vec<f32>,
}

impl Simulation {
    /// With so many tokens a second in each answer, and this vocabulary. `None` when no answer can be made of it.
    pub(crate) fn new(tokens_per_second: f64, tokenizer: &Tokenizer, vocab_size: usize) -> Option<Self> {
        let mut text = tokenizer.encode(TEXT, false).ok()?;
        // Each token has one that follows.
        let mut seen = HashSet::new();
        text.retain(|&token| seen.insert(token));
        Some(Self {
            token_time: 1.0 / tokens_per_second,
            first: *text.first()?,
            following: text.windows(2).map(|pair| (pair[0], pair[1])).collect(),
            last: *text.last()?,
            end: *tokenizer.end_of_generation().first()?,
            next: Vec::new(),
            logits: vec![UNLIKELY; vocab_size],
        })
    }

    fn after(&self, token: u32, position: usize) -> u32 {
        match self.following.get(&token) {
            Some(&next) => next,
            // Four rounds on average, and not the same for each prompt.
            None if token == self.last && (position.wrapping_mul(0x9e37_79b9) >> 8).is_multiple_of(4) => self.end,
            None => self.first,
        }
    }
}

impl Compute for Simulation {
    fn copy_page(&mut self, _: PageCopy) {}

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<(), ForwardError> {
        self.next.clear();
        let (mut prompts, mut answers) = (0, 0.0);
        for run in runs {
            match run.tokens.len() {
                1 => answers = 1.0,
                tokens => prompts += tokens,
            }
            let first = match run.logits {
                Wanted::None => run.tokens.len(),
                Wanted::Last => run.tokens.len() - 1,
                Wanted::All => 0,
            };
            for (index, &token) in run.tokens.iter().enumerate().skip(first) {
                let next = self.after(token, run.start + index);
                self.next.push(next);
            }
        }
        thread::sleep(Duration::from_secs_f64(self.token_time * (answers + prompts as f64 / PROMPT_TOKENS)));
        Ok(())
    }

    fn select<T: IntoIterator<Item = u32>>(
        &mut self,
        _: impl IntoIterator<Item = LogitRequest<T>>,
    ) -> Result<(), ForwardError> {
        Ok(())
    }

    fn found(&mut self, row: usize) -> Result<Logits<'_>, ForwardError> {
        self.logits.fill(UNLIKELY);
        if let Some(logit) = self.next.get(row).and_then(|&next| self.logits.get_mut(next as usize)) {
            *logit = 0.0;
        }
        Ok(Logits::All(&self.logits))
    }
}
