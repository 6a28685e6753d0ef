//! Decides what the model computes next. Requests and sampled tokens flow in, [`Step`]s flow out.
//!
//! A pure state machine: no threads, no clock, no channels, so that every decision can be tested.
//! The caller runs each step through the model and reports what was sampled:
//! [`submit`](Scheduler::submit), then [`next_step`](Scheduler::next_step) and
//! [`finish_step`](Scheduler::finish_step) in turn.
//!
//! A sequence is a list of tokens of which the first ones are in pages of the KV cache. Every step feeds some of the others. That is
//! prefill when many are left and decoding when it is one: there is no other difference, and so no mode to get wrong. And so a sequence
//! can be suspended at any time, when there are no pages or it is somebody else's turn: it waits, as it did at first, and goes on with
//! the tokens that it has.

mod plan;
mod queue;
mod sequence;
#[cfg(test)]
mod tests;

use crate::generation::{Client, Prompt};
use crate::kernels::PageId;
use crate::kv::{PageCopy, Scope, Store, Usage};
use crate::model::Wanted;
use queue::Queue;
pub(crate) use queue::QueueFull;
use sequence::Sequence;

/// Names a sequence for as long as the scheduler lives. Those of later requests are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SequenceId(u64);

/// How much there may be of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sequences that are computed together.
    pub sequences: usize,
    /// Sequences that wait.
    pub queue: usize,
    /// Tokens of a step. At least `sequences`.
    pub rows: usize,
}

/// A sequence to be computed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub prompt: Prompt,
    pub client: Client,
    /// In which scope pages may be shared with other sequences that begin alike; `None`: with none.
    pub scope: Option<Scope>,
    /// Whether the logits after each token of the prompt are wanted, not only after the last.
    pub prompt_logits: bool,
}

/// One run through the model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Pages to copy before anything is computed, in this order.
    pub copies: Vec<PageCopy>,
    /// What to compute: at most one chunk of a sequence.
    pub chunks: Vec<Chunk>,
    /// How many of them, the first ones, are of sequences that generate; the others are of prompts.
    pub generating: usize,
    /// What the logits are for, in the order of the tokens after which they are wanted.
    pub outputs: Vec<Output>,
    /// Sequences that are computed for the first time.
    pub admitted: Vec<Admitted>,
}

/// Consecutive tokens of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub sequence: SequenceId,
    /// The pages of the sequence, from position 0 on.
    pub pages: Vec<PageId>,
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

/// A sequence begins to be computed.
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
    /// Its tokens in the KV cache.
    pub stored: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    store: Store,
    queue: Queue,
    /// Those that are computed, each in a slot of its own.
    slots: Vec<Option<Sequence>>,
    submitted: u64,
}

impl Scheduler {
    /// With nothing to do. The store holds a sequence of any length that will be submitted.
    #[must_use]
    pub(crate) fn new(limits: Limits, store: Store) -> Self {
        debug_assert!(limits.sequences > 0 && limits.rows >= limits.sequences);
        let slots = (0..limits.sequences).map(|_| None).collect();
        Self { limits, store, queue: Queue::new(limits.queue), slots, submitted: 0 }
    }

    /// Queues a sequence.
    pub(crate) fn submit(&mut self, request: Request) -> Result<SequenceId, QueueFull> {
        // A free slot is as good as a place in the queue: both are filled from it.
        let free = self.slots.iter().filter(|slot| slot.is_none()).count();
        self.queue.check(request.client, free)?;
        self.submitted += 1;
        let id = SequenceId(self.submitted);
        self.queue.push(Sequence::new(id, request));
        Ok(id)
    }

    /// Forgets a sequence, waiting or running. What is stored of it stays usable as a prefix.
    pub(crate) fn cancel(&mut self, id: SequenceId) {
        self.queue.remove(id);
        self.end(id);
    }

    /// Forgets a sequence if it waits.
    pub(crate) fn leave_queue(&mut self, id: SequenceId) {
        self.queue.remove(id);
    }

    /// Forgets all that wait and were never computed; returns which.
    pub(crate) fn cancel_waiting(&mut self) -> Vec<SequenceId> {
        self.queue.remove_new()
    }

    /// What to compute now; `None` when there is nothing. Finish a step before asking for another. `beside` is how many tokens of
    /// prompts may be computed with sequences that generate.
    pub(crate) fn next_step(&mut self, beside: usize) -> Option<Step> {
        self.admit();
        loop {
            let step = self.plan(beside);
            if !step.chunks.is_empty() {
                return Some(step);
            }
            // All that run need pages and none has any: the last one makes room.
            let last = self.youngest()?;
            self.suspend(last);
        }
    }

    /// Reports that the chunks were computed, and how the sequences of the step's [`Output::Sample`]s go on.
    pub(crate) fn finish_step(&mut self, step: &Step, sampled: &[(SequenceId, Sampled)]) {
        for chunk in &step.chunks {
            if let Some(sequence) = sequence_of(&mut self.slots, chunk.sequence) {
                sequence.computed(&chunk.tokens, &mut self.store);
            }
        }
        for &(id, sampled) in sampled {
            match sampled {
                Sampled::Next(token) => {
                    if let Some(sequence) = sequence_of(&mut self.slots, id) {
                        sequence.push(token);
                    }
                }
                Sampled::End => self.end(id),
            }
        }
    }

    /// Reports that computing the chunks failed: their sequences end.
    pub(crate) fn abort_step(&mut self, step: &Step) {
        step.chunks.iter().for_each(|chunk| self.end(chunk.sequence));
    }

    /// Sequences that wait.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many of those that wait came before this one.
    #[must_use]
    pub(crate) fn waiting_before(&self, id: SequenceId) -> usize {
        self.queue.before(id)
    }

    /// What each slot is doing.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotStatus> {
        self.slots.iter().map(|slot| SlotStatus {
            sequence: slot.as_ref().map(Sequence::id),
            stored: slot.as_ref().map_or(0, Sequence::stored),
        })
    }

    /// How the pages are used.
    #[must_use]
    pub(crate) fn pages(&self) -> Usage {
        self.store.usage()
    }

    fn end(&mut self, id: SequenceId) {
        let slot = self.slots.iter_mut().find(|slot| slot.as_ref().is_some_and(|running| running.id() == id));
        if let Some(mut sequence) = slot.and_then(Option::take) {
            sequence.release(&mut self.store);
        }
    }

    /// Has a running sequence wait again. Its pages can be taken by others; what is left of them when it goes on need not be computed.
    fn suspend(&mut self, slot: usize) {
        if let Some(mut sequence) = self.slots[slot].take() {
            sequence.release(&mut self.store);
            self.queue.push(sequence);
        }
    }

    /// The slot of the running sequence that came last.
    fn youngest(&self) -> Option<usize> {
        let running = self.slots.iter().enumerate();
        let ids = running.filter_map(|(slot, sequence)| Some((sequence.as_ref()?.id(), slot)));
        ids.max().map(|(_, slot)| slot)
    }
}

fn sequence_of(slots: &mut [Option<Sequence>], id: SequenceId) -> Option<&mut Sequence> {
    slots.iter_mut().flatten().find(|sequence| sequence.id() == id)
}
