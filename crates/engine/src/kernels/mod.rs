//! Everything that computes: ternary products, norms, attention and the output head, for each instruction set.
//!
//! An operation is written once over the lanes of [`simd`] or, where instruction sets differ too much (ternary products),
//! once for each; the scalar version is the definition. The public functions are safe, spread their work over the pool and
//! have the same bits on every instruction set and any number of threads. Files come in bytes, models in hyperparameters;
//! here there are only matrices, rows and heads.

#![expect(
    clippy::inline_always,
    reason = "only inlined code is compiled with the instructions of its kernel"
)]

mod activations;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod disjoint;
mod elementary;
mod floats;
mod head;
mod isa;
pub mod limits;
mod nibbles;
#[cfg(target_arch = "x86_64")]
mod operations;
mod rope;
mod rows;
mod screen;
mod self_test;
mod simd;
#[cfg(target_arch = "x86_64")]
mod stream;
mod ternary;
#[cfg(test)]
mod tests;

pub use activations::{Activations, PaddedVector, norm, norm_quantize};
pub use attention::{Attention, CacheType, HeadShape, MAX_HEAD_DIM, Place};
pub use floats::{FloatMatrix, FloatMatrixError};
pub use head::logits;
pub use isa::{Isa, UnavailableIsa};
pub use nibbles::{Int4Matrix, Int8Matrix, IntMatrix, IntMatrixError, Wide, int8_logits};
pub use rope::Angles;
pub use rows::Rows;
pub use screen::{Candidate, Demand, Search, Searchable, ShortCopy};
pub use self_test::{SelfTestError, self_test};
pub use ternary::{MAX_COLUMNS, PackError, TernaryMatrix, matmul, matmul_add, matmul_gated};
