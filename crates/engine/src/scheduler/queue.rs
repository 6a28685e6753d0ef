//! Sequences that wait, and whose turn it is.
//!
//! Whoever has fewest sequences running is first, and among equals who came first: so many requests of one client delay only that
//! client's own. And a full queue is full for those who filled it: a client that has nothing in it finds a place in reserve.

use super::SequenceId;
use super::sequence::Sequence;
use crate::generation::Client;

/// In order of arrival.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    waiting: Vec<Sequence>,
}

/// There is no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests are waiting already")]
pub(crate) struct QueueFull {
    pub waiting: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, waiting: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is a place for a new sequence, when so many slots are free.
    pub(super) fn check(&self, client: Client, free: usize) -> Result<(), QueueFull> {
        // Those that were suspended had a place before.
        let new = self.waiting.iter().filter(|sequence| !sequence.has_begun());
        let (mut waiting, mut own) = (0, 0);
        for sequence in new {
            waiting += 1;
            own += usize::from(sequence.client() == client);
        }
        let reserve = if own == 0 { self.limit.div_ceil(4) } else { 0 };
        if waiting < self.limit + reserve + free { Ok(()) } else { Err(QueueFull { waiting }) }
    }

    pub(super) fn push(&mut self, sequence: Sequence) {
        let place = self.before(sequence.id());
        self.waiting.insert(place, sequence);
    }

    pub(super) fn remove(&mut self, id: SequenceId) {
        self.waiting.retain(|sequence| sequence.id() != id);
    }

    /// Removes what was never computed.
    pub(super) fn remove_new(&mut self) -> Vec<SequenceId> {
        self.waiting.extract_if(.., |sequence| !sequence.has_begun()).map(|sequence| sequence.id()).collect()
    }

    /// How many came before this one.
    pub(super) fn before(&self, id: SequenceId) -> usize {
        self.waiting.partition_point(|sequence| sequence.id() < id)
    }

    /// Whose turn it is, when each client has so many running.
    pub(super) fn next(&self, running: impl Fn(Client) -> usize) -> Option<&Sequence> {
        // The first of equals.
        self.waiting.iter().min_by_key(|sequence| running(sequence.client()))
    }

    pub(super) fn take(&mut self, id: SequenceId) -> Option<Sequence> {
        let index = self.waiting.iter().position(|sequence| sequence.id() == id)?;
        Some(self.waiting.remove(index))
    }
}
