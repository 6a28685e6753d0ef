//! What the KV cache holds, as pages: sequences in, the pages that hold their positions out. Pure: page numbers and tokens, no keys and
//! no values.
//!
//! A [`Table`] is a sequence's way through the pages. What was computed stays after its sequence has ended, and any later sequence that
//! begins with the same tokens uses the same pages, however many at once; a page that is only alike in its first positions is copied
//! before it is written to. When there is no page left, the one that was least recently used by anybody is taken, from the ends of
//! prompts towards their beginnings.
//!
//! Pages can be kept beyond the life of a process: [`disk`] is the format of such a file.

pub(crate) mod disk;
mod pages;
mod prefix;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use store::{PageCopy, Store, Usage};
pub(crate) use table::{Scope, Table};
