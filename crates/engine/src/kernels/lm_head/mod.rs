//! Finding the rows of the output head that can have the greatest products, without reading all of it.
//!
//! The output head is the largest single read of decoding. A shorter copy of it says, with a bound for each row, between
//! which two numbers the row's logit lies. Whatever cannot be among the greatest is left out; logits are computed for the few
//! rows that remain, from the exact rows. So each logit that is returned has the bits that computing all would give it.
//!
//! With w the exact row, ŵ its copy, x the activations and x̂ their 16-bit copy,
//! `w·x = ŵ·x̂ + (w - ŵ)·x + ŵ·(x - x̂)`, so `|w·x - ŵ·x̂| ≤ ‖w - ŵ‖‖x‖ + ‖ŵ‖‖x - x̂‖`. The float product of the exact row, as
//! `head` computes it, differs from `w·x` by at most γ‖w‖‖x‖, where γ is the number of its roundings times 2⁻²⁴.
//!
//! With a copy in 8 bits this bound is used as it is, and none that was asked for is missing. With 4 bits it would keep nearly
//! all rows, so this bound is only likely: rounding errors are as good as random, and the standard deviation of `(w - ŵ)·x` is
//! then `‖w - ŵ‖‖x‖/√columns`. The bound has [some](bounds::DEVIATIONS) of these. A row whose errors lie along x may be missed.

mod bounds;
mod copies;
mod float_matrix;
mod float_rows;
mod nibbles;
mod products;
mod round;
mod select;
mod wide;

pub use copies::{Int4Matrix, Int8Matrix, IntMatrix, IntMatrixError};
pub use float_matrix::{FloatMatrix, FloatMatrixError};
pub use float_rows::logits;
pub(super) use nibbles::{NIBBLE_COLUMNS, NibbleSums, NibbleTile, WideQuad};
pub use products::int8_logits;
pub use select::{Candidate, Demand, Search};
pub use wide::Wide;

/// A head that can be searched; both are of the same matrix.
#[derive(Clone, Copy, Debug)]
pub struct Searchable<'a> {
    /// Logits are computed from its rows.
    pub exact: &'a FloatMatrix,
    /// What is searched.
    pub copy: ShortCopy<'a>,
}

/// What bounds are computed from.
#[derive(Clone, Copy, Debug)]
pub enum ShortCopy<'a> {
    /// The bounds are proven.
    Int8(&'a Int8Matrix),
    /// The bounds are likely.
    Int4(&'a Int4Matrix),
}

#[cfg(test)]
mod tests;
