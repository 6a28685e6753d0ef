//! Everything that computes: ternary products, norms, attention and `lm_head`, for each instruction set.
//!
//! An operation is written once over [`lanes`] or, where instruction sets differ too much (ternary products),
//! once for each; the scalar version is the definition. The public functions are safe, spread their work over the pool and
//! have the same bits on every instruction set and any number of threads. Here are only matrices, rows and pages in memory: no
//! file, no tensor type and no hyperparameter, so that no product can fail.

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
mod norm;
#[cfg(target_arch = "x86_64")]
mod operations;
pub(crate) mod peak;
mod prefetch;
mod quantize;
mod rope;
mod rows;
mod scalar;
mod self_test;
mod ternary;
#[cfg(test)]
mod tests;

pub(crate) use attention::{Attention, BLOCK, CacheType, HeadShape, MAX_HEAD_DIM, PageId, Places};
pub(crate) use disjoint::fill_in_parallel;
pub use isa::Isa;
pub(crate) use lm_head::{
    EncodedRows, Encoding, Int4Matrix, Int8Matrix, Request, RowOf, Select, ShortCopy, Unknown, Wide,
    candidate_logits, int8_logits, logits,
};
pub(crate) use norm::{PaddedVector, norm};
pub(crate) use quantize::{Activations, norm_quantize};
pub(crate) use rope::Angles;
pub(crate) use rows::Rows;
pub(crate) use self_test::self_test;
pub(crate) use ternary::{
    Activation, MAX_COLUMNS, TernaryMatrix, TernarySource, matmul, matmul_add, matmul_gated,
};
