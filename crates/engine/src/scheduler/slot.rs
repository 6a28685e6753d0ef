//! One sequence's part of the KV cache, and the tokens that it stands for.

use super::{Chunk, Output, Request, SequenceId, SlotStatus, Step};
use crate::model::Wanted;

/// `tokens[..stored]` are in the KV cache. While a sequence runs, the others are still to be
/// computed; when it has ended, there are no others, and what is stored may serve the next one.
#[derive(Debug, Default)]
pub(super) struct Slot {
    running: Option<Running>,
    tokens: Vec<u32>,
    stored: usize,
}

#[derive(Debug)]
struct Running {
    id: SequenceId,
    prompt_logits: bool,
}

impl Slot {
    pub(super) fn status(&self) -> SlotStatus {
        SlotStatus { sequence: self.running.as_ref().map(|running| running.id), stored: self.stored }
    }

    pub(super) fn is_free(&self) -> bool {
        self.running.is_none()
    }

    /// Whether one token is left to compute: the one that was sampled last.
    pub(super) fn is_generating(&self) -> bool {
        self.running.is_some() && self.tokens.len() - self.stored == 1
    }

    /// How many tokens of `prompt` are stored.
    pub(super) fn common_prefix(&self, prompt: &[u32]) -> usize {
        self.tokens[..self.stored].iter().zip(prompt).take_while(|(stored, token)| stored == token).count()
    }

    /// Starts a sequence; returns how many tokens of its prompt need no computing.
    pub(super) fn begin(&mut self, id: SequenceId, request: Request) -> usize {
        // The last token is always computed: its logits decide the first token of the answer.
        let prompt = request.prompt.into_tokens();
        self.stored = if request.reuse_prefix && !request.prompt_logits {
            self.common_prefix(&prompt).min(prompt.len() - 1)
        } else {
            0
        };
        self.running = Some(Running { id, prompt_logits: request.prompt_logits });
        self.tokens = prompt;
        self.stored
    }

    /// Ends the sequence and keeps what is stored.
    pub(super) fn end(&mut self) {
        self.running = None;
        self.tokens.truncate(self.stored);
    }

    /// Adds up to `room` of the tokens that are left to compute to `step`; returns how many.
    pub(super) fn push_chunk(&self, slot: usize, room: usize, step: &mut Step) -> usize {
        let Some(running) = &self.running else { return 0 };
        let (start, end) = (self.stored, self.tokens.len().min(self.stored.saturating_add(room)));
        if start == end {
            return 0;
        }
        let logits = match running.prompt_logits {
            true => Wanted::All,
            false if end == self.tokens.len() => Wanted::Last,
            false => Wanted::None,
        };
        let first = match logits {
            Wanted::All => start,
            Wanted::Last => end - 1,
            Wanted::None => end,
        };
        step.outputs.extend((first..end).map(|position| running.output(self.tokens.get(position + 1))));
        let tokens = self.tokens[start..end].to_vec();
        step.chunks.push(Chunk { sequence: running.id, slot, start, tokens, logits });
        end - start
    }

    /// The first `tokens` are in the KV cache now.
    pub(super) fn store(&mut self, tokens: usize) {
        self.stored = self.stored.max(tokens).min(self.tokens.len());
    }

    /// The sequence goes on with `token`.
    pub(super) fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }
}

impl Running {
    /// What the logits of a token are for, given the token that follows it.
    fn output(&self, next: Option<&u32>) -> Output {
        next.map_or(Output::Sample(self.id), |&token| Output::Prompt { sequence: self.id, token })
    }
}
