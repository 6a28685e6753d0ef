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

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod disjoint;
mod exp;
mod isa;
mod lanes;
mod lm_head;
#[cfg(target_arch = "x86_64")]
mod operations;
pub mod peak;
#[cfg(target_arch = "x86_64")]
mod prefetch;
mod quantize;
mod rope;
mod rows;
mod scalar;
mod self_test;
mod ternary;
#[cfg(test)]
mod tests;

pub use attention::{Attention, CacheType, HeadShape, MAX_HEAD_DIM, Place};
pub use isa::{Isa, UnavailableIsa};
pub use lm_head::{
    Candidate, Demand, FloatMatrix, FloatMatrixError, Int4Matrix, Int8Matrix, IntMatrix, IntMatrixError,
    Search, Searchable, ShortCopy, Wide, int8_logits, logits,
};
pub use quantize::{Activations, PaddedVector, norm, norm_quantize};
pub use rope::Angles;
pub use rows::Rows;
pub use self_test::{SelfTestError, self_test};
pub use ternary::{MAX_COLUMNS, PackError, TernaryMatrix, matmul, matmul_add, matmul_gated};
