//! The copies and the search against computing everything.

pub(super) mod copies;
mod select;
