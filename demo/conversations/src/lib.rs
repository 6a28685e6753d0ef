//! Text files in, training conversations out: all that the demo model ever reads, and the judge of what it learned.
//!
//! The files in `text/` have *families*: many ways to ask one thing and the few short answers to it. A family may be a table
//! (one answer for each row) or a follow-up (asked only after certain other families). [`Corpus::sample`] draws conversations
//! of one to four turns from them; [`Corpus::held_out`] has questions in phrasings that no conversation contains, and [`Judge`]
//! tells which family an answer belongs to.
//!
//! The stream of conversations depends on the seed and the text files alone. Absent on purpose: tokens and chat templates,
//! which are the trainer's.

mod conversation;
mod corpus;
mod family;
mod held_out;
mod judge;
mod loose;
mod pattern;
mod random;
mod rows;
mod source;
mod surface;
mod synonyms;
mod words;

pub use conversation::{Conversation, Turn};
pub use corpus::Corpus;
pub use family::Family;
pub use held_out::HeldOut;
pub use judge::Judge;
pub use random::Random;
pub use source::LoadError;
pub use words::normalized;
