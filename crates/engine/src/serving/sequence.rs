//! One answer: logits in, the next token and the text that becomes visible by it out. Pure: no model, no channel, no clock.

use crate::generation::{FinishReason, GenerationRequest, Token, TokenLogprobs};
use crate::logits::{Demand, Logits};
use crate::sampling::{NoTokenLeft, Sampler, log_probabilities};
use crate::text::{AnswerText, Visible};
use crate::tokenizer::Tokenizer;

/// Sampler and text of an answer.
pub(super) struct Sequence {
    sampler: Sampler,
    text: AnswerText<Token>,
    max_tokens: usize,
    logprobs: Option<usize>,
    sampled: usize,
}

/// What a token leads to.
#[derive(Debug, PartialEq)]
pub(super) struct Advance {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    pub(super) next: Next,
}

/// How an answer goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Token(u32),
    End(FinishReason),
}

impl Sequence {
    pub(super) fn new(request: &GenerationRequest) -> Self {
        let mut sampler = Sampler::new(&request.sampling);
        request.prompt.tokens().iter().for_each(|&token| sampler.accept(token));
        Self {
            sampler,
            text: AnswerText::new(request.stop.clone()),
            max_tokens: request.max_tokens,
            logprobs: request.report.logprobs,
            sampled: 0,
        }
    }

    /// Tokens sampled so far.
    pub(super) fn sampled(&self) -> usize {
        self.sampled
    }

    /// Which logits [`advance`](Self::advance) can do with; `None`: all, and so if no token is wanted none at all.
    pub(super) fn demand(&self) -> Option<Demand> {
        // Probabilities are of all tokens.
        self.sampler.demand().filter(|_| self.logprobs.is_none())
    }

    /// Tokens whose logits it needs besides.
    pub(super) fn touched(&self) -> impl Iterator<Item = u32> + Clone {
        self.sampler.touched()
    }

    /// Whether it may have no token any more.
    pub(super) fn is_full(&self) -> bool {
        self.sampled == self.max_tokens
    }

    /// How likely the token `id` of the prompt was. `logits: [vocabulary]` are those after the token before it.
    pub(super) fn prompt_token(&self, id: u32, logits: &[f32]) -> Token {
        Token { id, logprobs: self.logprobs.map(|top| logprobs(logits, id, top)) }
    }

    /// Chooses the next token. Must not be [full](Self::is_full).
    pub(super) fn advance(
        &mut self,
        logits: Logits<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Advance, NoTokenLeft> {
        let id = self.sampler.sample(logits)?;
        self.sampler.accept(id);
        self.sampled += 1;
        if tokenizer.end_of_generation().contains(&id) {
            return Ok(self.end(FinishReason::EndOfGeneration));
        }
        let logprobs = match (self.logprobs, logits) {
            (Some(top), Logits::All(logits)) => Some(logprobs(logits, id, top)),
            _ => None,
        };
        // Control tokens mean something to the model and nothing to a reader.
        let bytes =
            if tokenizer.is_control(id) { &[] } else { tokenizer.token_bytes(id).unwrap_or_default() };
        let Visible { text, tokens, stopped } = self.text.push(Token { id, logprobs }, bytes);
        let next = match stopped {
            Some(stop) => Next::End(FinishReason::StopString(stop)),
            None if self.is_full() => {
                let last = self.end(FinishReason::Length);
                return Ok(Advance {
                    text: text + &last.text,
                    tokens: [tokens, last.tokens].concat(),
                    ..last
                });
            }
            None => Next::Token(id),
        };
        Ok(Advance { text, tokens, next })
    }

    /// Ends the answer for this reason, unless what was held back completes a stop string.
    pub(super) fn end(&mut self, reason: FinishReason) -> Advance {
        let Visible { text, tokens, stopped } = self.text.finish();
        let reason = stopped.map_or(reason, FinishReason::StopString);
        Advance { text, tokens, next: Next::End(reason) }
    }
}

fn logprobs(logits: &[f32], id: u32, top: usize) -> TokenLogprobs {
    let (chosen, top) = log_probabilities(logits, id, top);
    TokenLogprobs { logprob: chosen.logprob, top }
}
