//! A sequence's way through the pages.

use crate::kernels::PageId;

/// Whose prompts may be recognized: what is stored in one scope is never told or used in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scope(pub(crate) u64);

impl Scope {
    /// The exception: what all may use. It is written only before there are sequences.
    pub(crate) const COMMON: Self = Self(u64::MAX);
}

/// The pages of a sequence, from position 0 on. Made by and given back to a [`Store`](super::Store).
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// `None`: it neither uses what is stored nor leaves anything.
    pub(super) scope: Option<Scope>,
    pub(super) pages: Vec<PageId>,
    /// Positions whose keys and values are in the pages.
    pub(super) stored: usize,
}

impl Table {
    /// Of a sequence that has not begun.
    pub(crate) fn new(scope: Option<Scope>) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Positions whose keys and values are in the pages.
    pub(crate) fn stored(&self) -> usize {
        self.stored
    }

    /// The pages, from position 0 on.
    pub(crate) fn pages(&self) -> &[PageId] {
        &self.pages
    }
}
