//! Finding the rows of the output head that can have the greatest products, without reading all of it.
//!
//! The output head is the largest single read of decoding. A shorter copy of it says, with a bound for each row, between
//! which two numbers the row's logit lies. Whatever cannot be among the greatest is left out; logits are computed for the few
//! rows that remain. So each logit that is returned has the bits that computing all would give it.
//!
//! There are two forms. The exact head is searched in 8 bits with a proven bound: none that was asked for is missing. With
//! w the exact row, ŵ its copy, x the activations and x̂ their 16-bit copy, `w·x = ŵ·x̂ + (w - ŵ)·x + ŵ·(x - x̂)`, so
//! `|w·x - ŵ·x̂| ≤ ‖w - ŵ‖‖x‖ + ‖ŵ‖‖x - x̂‖`. The float product of the exact row, as `head` computes it, differs from `w·x` by
//! at most γ‖w‖‖x‖, where γ is the number of its roundings times 2⁻²⁴.
//!
//! An 8-bit head is searched in its upper halves ŵ₄. A proven bound would keep nearly all rows, so this one is only likely:
//! rounding errors are as good as random, and the standard deviation of `(ŵ - ŵ₄)·x̂` is then `‖ŵ - ŵ₄‖‖x̂‖/√columns`. The
//! bound is [many](bounds::DEVIATIONS) of these. A row whose errors lie along x may be missed.

mod bounds;
mod search;

pub use search::{Candidate, Demand, Search};

use super::head::FloatMatrix;
use super::int8::Int8Matrix;

/// A head that can be searched.
#[derive(Clone, Copy, Debug)]
pub enum Searchable<'a> {
    /// Proven bounds from a copy in 8 bits, logits from the matrix itself.
    Exact(&'a FloatMatrix, &'a Int8Matrix),
    /// Likely bounds from the upper four of 8 bits, logits from all eight.
    Int8(&'a Int8Matrix),
}

impl<'a> Searchable<'a> {
    /// What bounds are computed from.
    fn screen(self) -> &'a Int8Matrix {
        let (Self::Exact(_, screen) | Self::Int8(screen)) = self;
        screen
    }
}

#[cfg(test)]
mod tests;
