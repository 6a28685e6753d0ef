//! Float matrices in 8 or 4 bits: copies of the output head, at half or a quarter of the size of F16.
//!
//! Rows of floats flow in, each gets a scale and codes; products with activations of 16 bits come out. Codes lie in memory as
//! half bytes, one or two for each element, so that one kernel multiplies both. Products are exact integers, scaled in a fixed
//! order. What a copy leaves out is measured for each row, for the [search](super::screen) that wants to know how far a
//! product can be from the row's own.

mod matrix;
mod products;
mod quantize;
mod wide;

use bytemuck::{Pod, Zeroable};

pub(super) use matrix::Group;
pub use matrix::{Int4Matrix, Int8Matrix, IntMatrix, IntMatrixError};
pub(super) use products::estimates;
pub use products::int8_logits;
pub use wide::Wide;

use super::simd::LANES;
use super::ternary::Quad;

/// Columns of a nibble tile.
pub(super) const NIBBLE_COLUMNS: usize = 8;

/// Half a byte of each of 16 rows × 8 columns: unsigned 4-bit codes, or the high or the low halves of 8-bit codes.
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
pub(super) mod tests;
