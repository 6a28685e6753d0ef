//! The tiles of the copies: codes of 8 or 4 bits, multiplied by activations of 16.

use bytemuck::{Pod, Zeroable};

use crate::kernels::lanes::LANES;

/// Groups of four columns in a tile whose codes have so many half bytes.
pub(in crate::kernels) const fn tile_quads(nibbles: usize) -> usize {
    2 / nibbles
}

/// Codes of 16 rows × 4 columns of 8 bits, or × 8 columns of 4 bits; unsigned.
///
/// Byte `4 * row + b` holds column `b` of the row; with 4 bits column `b` in its low and column `4 + b` in its high half. So a
/// register of bytes, masked, is a register of 16-bit codes whose 32-bit lanes are rows: columns 0 and 2 of four, or shifted 1 and 3.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct CodeTile(pub(in crate::kernels) [u8; 64]);

// SAFETY: an array of bytes without padding; every bit pattern is valid.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Zeroable for CodeTile {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Pod for CodeTile {}

impl CodeTile {
    /// The code of so many half bytes at `row`, `column`.
    pub(in crate::kernels) fn code<const NIBBLES: usize>(&self, row: usize, column: usize) -> u8 {
        let byte = self.0[4 * row + column % 4];
        if NIBBLES == 2 { byte } else { byte >> (4 * (column / 4)) & 15 }
    }
}

/// Activations of four columns in 16 bits: those of columns 0 and 2, and those of columns 1 and 3.
pub(in crate::kernels) type WideQuad = [[i16; 2]; 2];

/// Sums over the columns of codes times activations, for 16 rows: integers below 2^53, so exact.
pub(in crate::kernels) type CodeSums = [f64; LANES];

/// Quads of columns whose products fit in 32 bits: each adds 4 · 255 · 32,768 at most, so the sum is below 2^31 - 2^23.
pub(in crate::kernels) const CODE_RUN: usize = 64;
