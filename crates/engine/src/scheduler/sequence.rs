//! One sequence: its tokens, and the pages that hold the first of them.

use super::{Admitted, Chunk, Output, Request, SequenceId, Step};
use crate::generation::Client;
use crate::kv::{Store, Table};
use crate::model::Wanted;

#[derive(Debug)]
pub(super) struct Sequence {
    id: SequenceId,
    client: Client,
    prompt_logits: bool,
    /// Of the prompt, then those that were sampled.
    tokens: Vec<u32>,
    table: Table,
    /// Tokens after which logits have been asked for, or need not be.
    reported: usize,
    begun: bool,
    /// Whether it has computed something since it got its slot; before, it can go on with what others have computed meanwhile.
    computes: bool,
}

impl Sequence {
    pub(super) fn new(id: SequenceId, request: Request) -> Self {
        let Request { prompt, client, scope, prompt_logits } = request;
        let (tokens, table) = (prompt.into_tokens(), Table::new(scope));
        Self { id, client, prompt_logits, tokens, table, reported: 0, begun: false, computes: false }
    }

    pub(super) fn id(&self) -> SequenceId {
        self.id
    }

    pub(super) fn client(&self) -> Client {
        self.client
    }

    /// Whether it was computed before, and so is no new request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn stored(&self) -> usize {
        self.table.stored()
    }

    /// Tokens to compute.
    pub(super) fn remaining(&self) -> usize {
        self.tokens.len() - self.stored()
    }

    /// Whether one token is left to compute: the one that was sampled last.
    pub(super) fn is_generating(&self) -> bool {
        self.remaining() == 1
    }

    /// Pages that it does not have and needs, up to its next token. Those that others use already it can share.
    pub(super) fn missing_pages(&self, store: &Store) -> usize {
        let needed = store.pages_for(self.tokens.len() + 1);
        let had = match self.table.pages().len() {
            0 => store.shareable(&self.table, &self.tokens[..self.reusable()]),
            had => had,
        };
        needed.saturating_sub(had)
    }

    /// Pages that nobody else uses.
    pub(super) fn own_pages(&self, store: &Store) -> usize {
        store.own(&self.table)
    }

    /// Takes over what others have computed of it by now, before it computes anything itself.
    pub(super) fn attach(&mut self, store: &mut Store) {
        if !self.computes {
            let reusable = self.reusable();
            store.attach(&mut self.table, &self.tokens[..reusable]);
        }
    }

    /// Adds up to `room` of the tokens that are left to compute to `step`; returns how many. None when there are no pages.
    pub(super) fn push_chunk(
        &mut self,
        slot: usize,
        room: usize,
        store: &mut Store,
        step: &mut Step,
    ) -> usize {
        if !self.computes {
            let reusable = self.reusable();
            step.copies.extend(store.attach_all(&mut self.table, &self.tokens[..reusable]));
        }
        let start = self.table.stored();
        let mut end = self.tokens.len().min(start.saturating_add(room));
        if start < self.reported && self.prompt_logits {
            // Computed again after it was suspended: nobody is to be told twice.
            end = end.min(self.reported);
        }
        if !store.reserve(&mut self.table, end) {
            end = end.min(store.positions_of(&self.table));
        }
        if start >= end {
            return 0;
        }
        self.computes = true;
        if !self.begun {
            self.begun = true;
            step.admitted.push(Admitted { sequence: self.id, slot, reused: start });
        }
        let logits = match self.prompt_logits {
            true if start >= self.reported => Wanted::All,
            _ if end == self.tokens.len() => Wanted::Last,
            _ => Wanted::None,
        };
        let first = match logits {
            Wanted::All => start,
            Wanted::Last => end - 1,
            Wanted::None => end,
        };
        step.outputs.extend((first..end).map(|position| self.output(position)));
        step.chunks.push(Chunk {
            sequence: self.id,
            pages: self.table.pages().to_vec(),
            start,
            tokens: self.tokens[start..end].to_vec(),
            logits,
        });
        end - start
    }

    /// Keys and values of its next tokens, which are these, are in its pages now.
    pub(super) fn computed(&mut self, tokens: &[u32], store: &mut Store) {
        store.append(&mut self.table, tokens);
        self.reported = self.reported.max(self.table.stored());
    }

    /// The sequence goes on with `token`.
    pub(super) fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Gives its pages back.
    pub(super) fn release(&mut self, store: &mut Store) {
        store.release(&mut self.table);
        self.computes = false;
    }

    /// How many of its tokens may come from other sequences. The last one is always computed: its logits decide how it goes on.
    fn reusable(&self) -> usize {
        let most = self.tokens.len() - 1;
        if self.prompt_logits { self.reported.min(most) } else { most }
    }

    /// What the logits after a token are for.
    fn output(&self, position: usize) -> Output {
        let next = self.tokens.get(position + 1);
        next.map_or(Output::Sample(self.id), |&token| Output::Prompt { sequence: self.id, token })
    }
}
