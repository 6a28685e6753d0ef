//! Finding the rows of a large float matrix that can have the greatest products, without reading all of it.
//!
//! The output head is the largest single read of decoding. An 8-bit copy of it is half as large and says, with a proven
//! bound for each row, between which two numbers the row's exact logit lies. Whatever cannot be among the greatest is left
//! out; the exact rows are read for the few that remain. So the logits that are returned are those of the exact matrix, bit
//! for bit, and none that was asked for is missing.
//!
//! The bound. With w the exact row, ŵ its copy, x the activations and x̂ their 16-bit copy,
//! `w·x = ŵ·x̂ + (w - ŵ)·x + ŵ·(x - x̂)`, so `|w·x - ŵ·x̂| ≤ ‖w - ŵ‖‖x‖ + ‖ŵ‖‖x - x̂‖`. The float product of the exact
//! row, as `head` computes it, differs from `w·x` by at most γ‖w‖‖x‖, where γ is the number of its roundings times 2⁻²⁴.

mod build;
mod search;

use bytemuck::{Pod, Zeroable};

pub use build::{Screen, ScreenError};
pub use search::{Candidate, Demand, Search};

use super::simd::LANES;
use super::ternary::Quad;

/// Columns of a nibble tile.
pub(super) const NIBBLE_COLUMNS: usize = 8;

/// Half a byte of each of 16 rows × 8 columns: the high or the low halves of unsigned 8-bit codes.
///
/// Byte `4 * row + b` holds column `b` of the row in its low and column `4 + b` in its high half.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct NibbleTile(pub(super) [u8; 64]);

// SAFETY: an array of bytes without padding; every bit pattern is valid.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Zeroable for NibbleTile {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Pod for NibbleTile {}

impl NibbleTile {
    /// The half code at `row`, `column`.
    pub(super) fn nibble(&self, row: usize, column: usize) -> u8 {
        self.0[4 * row + column % 4] >> (4 * (column / 4)) & 15
    }
}

/// Activations of four columns in 16 bits: value `256 * high + low`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WideQuad {
    pub(super) high: Quad,
    pub(super) low: Quad,
}

/// Sums over the columns of half codes times half activations, for 16 rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NibbleSums {
    pub(super) high: [i32; LANES],
    pub(super) low: [i32; LANES],
}

#[cfg(test)]
mod tests;
