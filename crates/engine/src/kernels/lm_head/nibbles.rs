//! The tiles of the copies: half bytes, multiplied by activations in 16 bits.

use bytemuck::{Pod, Zeroable};

use crate::kernels::lanes::LANES;
use crate::kernels::ternary::Quad;

/// Columns of a nibble tile.
pub(in crate::kernels) const NIBBLE_COLUMNS: usize = 8;

/// Half a byte of each of 16 rows × 8 columns: unsigned 4-bit codes, or the high or the low halves of 8-bit codes.
///
/// Byte `4 * row + b` holds column `b` of the row in its low and column `4 + b` in its high half.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct NibbleTile(pub(in crate::kernels) [u8; 64]);

// SAFETY: an array of bytes without padding; every bit pattern is valid.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Zeroable for NibbleTile {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Pod for NibbleTile {}

impl NibbleTile {
    /// The half code at `row`, `column`.
    pub(in crate::kernels) fn nibble(&self, row: usize, column: usize) -> u8 {
        self.0[4 * row + column % 4] >> (4 * (column / 4)) & 15
    }
}

/// Activations of four columns in 16 bits: value `256 * high + low`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kernels) struct WideQuad {
    pub(in crate::kernels) high: Quad,
    pub(in crate::kernels) low: Quad,
}

impl WideQuad {
    /// The high half for 0, the low one for 1.
    #[inline(always)]
    pub(in crate::kernels) fn half(self, index: usize) -> Quad {
        if index == 0 { self.high } else { self.low }
    }
}

/// Sums over the columns of half codes times half activations, for 16 rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kernels) struct NibbleSums {
    pub(in crate::kernels) high: [i32; LANES],
    pub(in crate::kernels) low: [i32; LANES],
}

impl NibbleSums {
    /// Those with the high half for 0, with the low one for 1.
    #[inline(always)]
    pub(in crate::kernels) fn half_mut(&mut self, index: usize) -> &mut [i32; LANES] {
        if index == 0 { &mut self.high } else { &mut self.low }
    }
}
