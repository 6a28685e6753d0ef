//! What a forward pass is asked for: runs of consecutive tokens, each of another sequence.
//!
//! Their form says that positions follow each other, so that no position can come twice: rows are computed in parallel, and two of
//! the same position would write the same keys and values.

use crate::kernels::{BLOCK, PageId};
use crate::memory::OutOfMemory;
use crate::quant::QuantError;

/// Consecutive tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The pages of the sequence, from position 0 on. What they hold up to `start` is what an earlier pass, with the same tokens, has
    /// left there: that is for the caller to know. Those from there on are of no other run.
    pub pages: &'a [PageId],
    /// Position of the first token.
    pub start: usize,
    /// At least one.
    pub tokens: &'a [u32],
    pub logits: Wanted,
}

/// After which tokens of a run the logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    None,
    Last,
    All,
}

/// A forward pass that was asked for something impossible, or rows of the model that cannot be read. What pages hold is as before.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForwardError {
    #[error("{rows} rows in a forward pass; between 1 and {limit} are possible")]
    Rows { rows: usize, limit: usize },
    #[error("a run without tokens")]
    Empty,
    #[error("two runs write to page {page}")]
    PageTwice { page: PageId },
    #[error("there is no page {page}; the cache has {pages}")]
    NoPage { page: PageId, pages: usize },
    #[error("token {token} is not in the vocabulary of {vocab_size}")]
    Token { token: u32, vocab_size: usize },
    #[error("position {position} of a sequence that has room for {room}")]
    Position { position: usize, room: usize },
    #[error("the embedding of token {token}: {reason}")]
    Embedding { token: u32, reason: String },
    /// Rows that are left in the file could not be read or decoded.
    #[error("lm_head: {reason}")]
    LmHead { reason: String },
    /// There is no memory for the logits that were asked for.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

impl ForwardError {
    pub(super) fn lm_head(error: &QuantError) -> Self {
        Self::LmHead { reason: error.to_string() }
    }

    pub(super) fn embedding(token: u32, error: &QuantError) -> Self {
        Self::Embedding { token, reason: error.to_string() }
    }
}

/// What runs are held against.
pub(super) struct Limits {
    /// Positions of a sequence.
    pub(super) context: usize,
    /// Of the cache.
    pub(super) pages: usize,
    /// Rows of a forward pass.
    pub(super) rows: usize,
    pub(super) vocab_size: usize,
}

/// Checks all runs before anything changes.
pub(super) fn check(runs: &[Run<'_>], limits: &Limits) -> Result<(), ForwardError> {
    let &Limits { context, pages: all, rows: limit, vocab_size } = limits;
    let rows = runs.iter().fold(0, |rows: usize, run| rows.saturating_add(run.tokens.len()));
    if runs.is_empty() || rows > limit {
        return Err(ForwardError::Rows { rows, limit });
    }
    for (index, &Run { pages, start, tokens, .. }) in runs.iter().enumerate() {
        if tokens.is_empty() {
            return Err(ForwardError::Empty);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(ForwardError::Token { token, vocab_size });
        }
        let room = context.min(pages.len() * BLOCK);
        if tokens.len() > room - start.min(room) {
            return Err(ForwardError::Position { position: start.max(room), room });
        }
        if let Some(&page) = pages.iter().find(|&&page| page as usize >= all) {
            return Err(ForwardError::NoPage { page, pages: all });
        }
        let twice = |page| runs[..index].iter().any(|run| run.written().contains(page));
        if let Some(&page) = runs[index].written().iter().find(|page| twice(page)) {
            return Err(ForwardError::PageTwice { page });
        }
    }
    Ok(())
}

impl Run<'_> {
    /// The pages into which it stores keys and values, once its positions are checked.
    fn written(&self) -> &[PageId] {
        &self.pages[self.start / BLOCK..(self.start + self.tokens.len()).div_ceil(BLOCK)]
    }
}
