//! Decides what the model computes next. Requests and sampled tokens flow in, [`Step`]s flow out.
//!
//! A pure state machine: no threads, no clock, no channels, so that every decision can be tested.
//! The caller runs each step through the model and reports what was sampled:
//! [`submit`](Scheduler::submit), then [`next_step`](Scheduler::next_step) and
//! [`finish_step`](Scheduler::finish_step) in turn.
//!
//! A sequence is a list of tokens of which the first `stored` are in the KV cache. Every step
//! feeds some of the others. That is prefill when many are left and decoding when it is one: there
//! is no other difference, and so no mode to get wrong.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::generation::Prompt;
use crate::model::Wanted;
use slot::Slot;

/// Names a sequence for as long as the scheduler lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SequenceId(u64);

/// How much there may be of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sequences that are computed together; each has a part of the KV cache of its own.
    pub slots: usize,
    /// Sequences that wait for a slot.
    pub queue: usize,
    /// Tokens of a step. At least `slots`.
    pub rows: usize,
}

/// A sequence to be computed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub prompt: Prompt,
    /// Whether keys and values of an earlier sequence that began alike may be used.
    pub reuse_prefix: bool,
    /// Whether the logits after each token of the prompt are wanted, not only after the last.
    pub prompt_logits: bool,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests are waiting already")]
pub(crate) struct QueueFull {
    pub waiting: usize,
}

/// One run through the model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// What to compute: at most one chunk of a sequence.
    pub chunks: Vec<Chunk>,
    /// What the logits are for, in the order of the tokens after which they are wanted.
    pub outputs: Vec<Output>,
    /// Sequences that got their slot with this step.
    pub admitted: Vec<Admitted>,
}

/// Consecutive tokens of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub sequence: SequenceId,
    pub slot: usize,
    /// Position of the first token.
    pub start: usize,
    /// At least one.
    pub tokens: Vec<u32>,
    pub logits: Wanted,
}

/// What a vector of logits is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// To sample the next token of the sequence.
    Sample(SequenceId),
    /// To tell how likely this token of the prompt was.
    Prompt {
        sequence: SequenceId,
        /// The token that follows in the prompt.
        token: u32,
    },
}

/// A sequence got a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub sequence: SequenceId,
    pub slot: usize,
    /// Tokens of its prompt that need no computing, since the KV cache holds them.
    pub reused: usize,
}

/// How a sequence goes on after one of its tokens was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    /// With this token.
    Next(u32),
    End,
}

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotStatus {
    /// The sequence that is computed, if any.
    pub sequence: Option<SequenceId>,
    /// Tokens in the KV cache.
    pub stored: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    waiting: VecDeque<(SequenceId, Request)>,
    slots: Vec<Slot>,
    submitted: u64,
}

impl Scheduler {
    /// With nothing to do.
    #[must_use]
    pub(crate) fn new(limits: Limits) -> Self {
        debug_assert!(limits.slots > 0 && limits.rows >= limits.slots);
        let slots = (0..limits.slots).map(|_| Slot::default()).collect();
        Self { limits, waiting: VecDeque::new(), slots, submitted: 0 }
    }

    /// Queues a sequence. It is admitted by the next step that finds a free slot.
    pub(crate) fn submit(&mut self, request: Request) -> Result<SequenceId, QueueFull> {
        // A free slot is as good as a place in the queue: both are filled in order of arrival.
        let free = self.slots.iter().filter(|slot| slot.is_free()).count();
        if self.waiting.len() >= self.limits.queue + free {
            return Err(QueueFull { waiting: self.waiting.len() });
        }
        self.submitted += 1;
        let id = SequenceId(self.submitted);
        self.waiting.push_back((id, request));
        Ok(id)
    }

    /// Forgets a sequence, waiting or running. What its slot holds stays usable as a prefix.
    pub(crate) fn cancel(&mut self, id: SequenceId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if let Some(slot) = self.slot_of(id) {
            slot.end();
        }
    }

    /// What to compute now; `None` when there is nothing. Finish a step before asking for another.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        let mut step = Step { admitted: self.admit(), ..Step::default() };
        let mut room = self.limits.rows;
        // Those that generate go first, so that a long prompt never stops a running answer.
        for generating in [true, false] {
            for (index, slot) in self.slots.iter().enumerate() {
                if slot.is_generating() == generating {
                    room -= slot.push_chunk(index, room, &mut step);
                }
            }
        }
        // A sequence that was admitted has a token to compute, so that no admission is lost with a step that has none.
        debug_assert!(!step.chunks.is_empty() || step.admitted.is_empty());
        (!step.chunks.is_empty()).then_some(step)
    }

    /// Reports that the chunks were computed, and how the sequences of the step's
    /// [`Output::Sample`]s go on.
    pub(crate) fn finish_step(&mut self, step: &Step, sampled: &[(SequenceId, Sampled)]) {
        for chunk in &step.chunks {
            if let Some(slot) = self.slots.get_mut(chunk.slot) {
                slot.store(chunk.start + chunk.tokens.len());
            }
        }
        for &(id, sampled) in sampled {
            match (self.slot_of(id), sampled) {
                (Some(slot), Sampled::Next(token)) => slot.push(token),
                (Some(slot), Sampled::End) => slot.end(),
                (None, _) => {}
            }
        }
    }

    /// Reports that computing the chunks failed: their sequences end, and what their slots hold
    /// is not to be trusted.
    pub(crate) fn abort_step(&mut self, step: &Step) {
        for chunk in &step.chunks {
            if let Some(slot) = self.slots.get_mut(chunk.slot) {
                *slot = Slot::default();
            }
        }
    }

    /// Sequences that wait for a slot.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What each slot is doing.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotStatus> {
        self.slots.iter().map(Slot::status)
    }

    /// Moves sequences from the queue to free slots, first come, first served.
    fn admit(&mut self) -> Vec<Admitted> {
        let mut admitted = Vec::new();
        while let Some((_, request)) = self.waiting.front() {
            let Some(index) = best_free_slot(&self.slots, request.prompt.tokens()) else { break };
            let Some((id, request)) = self.waiting.pop_front() else { break };
            let reused = self.slots[index].begin(id, request);
            admitted.push(Admitted { sequence: id, slot: index, reused });
        }
        admitted
    }

    fn slot_of(&mut self, id: SequenceId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.status().sequence == Some(id))
    }
}

/// The free slot that holds most of the prompt already; among equals the one that loses least.
fn best_free_slot(slots: &[Slot], prompt: &[u32]) -> Option<usize> {
    let free = slots.iter().enumerate().filter(|(_, slot)| slot.is_free());
    free.max_by_key(|(_, slot)| (slot.common_prefix(prompt), std::cmp::Reverse(slot.status().stored)))
        .map(|(index, _)| index)
}
