//! What a forward pass is asked for: runs of consecutive tokens, at most one of each sequence.
//!
//! Their form says that positions follow each other, so that no position can come twice: rows are computed in parallel, and two of
//! the same position would write the same keys and values.

use crate::memory::OutOfMemory;
use crate::quant::QuantError;

/// Consecutive tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    pub slot: usize,
    /// Position of the first token; what the slot holds from there on is forgotten.
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

/// A forward pass that was asked for something impossible, or rows of the model that cannot be read. What slots hold is as
/// before.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForwardError {
    #[error("{rows} rows in a forward pass; between 1 and {limit} are possible")]
    Rows { rows: usize, limit: usize },
    #[error("a run without tokens for slot {slot}")]
    Empty { slot: usize },
    #[error("two runs for slot {slot}; a forward pass has one of a sequence")]
    SlotTwice { slot: usize },
    #[error("token {token} is not in the vocabulary of {vocab_size}")]
    Token { token: u32, vocab_size: usize },
    /// A position that the cache has no room for, or before which something is missing.
    #[error("position {position} of slot {slot}, which holds {held} of at most {context} positions")]
    Position { position: usize, slot: usize, held: usize, context: usize },
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
pub(super) struct Limits<'a> {
    /// Positions that each slot holds.
    pub(super) held: &'a [usize],
    /// Positions of a slot.
    pub(super) context: usize,
    /// Rows of a forward pass.
    pub(super) rows: usize,
    pub(super) vocab_size: usize,
}

/// Checks all runs before anything changes.
pub(super) fn check(runs: &[Run<'_>], limits: &Limits<'_>) -> Result<(), ForwardError> {
    let &Limits { held, context, rows: limit, vocab_size } = limits;
    let rows = runs.iter().fold(0, |rows: usize, run| rows.saturating_add(run.tokens.len()));
    if runs.is_empty() || rows > limit {
        return Err(ForwardError::Rows { rows, limit });
    }
    for (index, &Run { slot, start, tokens, .. }) in runs.iter().enumerate() {
        if tokens.is_empty() {
            return Err(ForwardError::Empty { slot });
        }
        if runs[..index].iter().any(|run| run.slot == slot) {
            return Err(ForwardError::SlotTwice { slot });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(ForwardError::Token { token, vocab_size });
        }
        let held = held.get(slot).copied();
        let position = |position| ForwardError::Position { position, slot, held: held.unwrap_or(0), context };
        if held.is_none_or(|held| start > held) {
            return Err(position(start));
        }
        if tokens.len() > context - start.min(context) {
            return Err(position(start.max(context)));
        }
    }
    Ok(())
}
