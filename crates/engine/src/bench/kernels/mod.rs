//! What `benches/kernels` measures: each kernel on each instruction set, and the handoff to the threads. The harness is there.

mod cases;
mod fork_join;
mod search;

pub use cases::{ALL, Case, Floors};
pub use fork_join::ForkJoin;
pub use search::LmHeadSearch;

pub use crate::kernels::Isa;
pub use crate::pool::Pool;
