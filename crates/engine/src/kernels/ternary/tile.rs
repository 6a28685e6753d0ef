//! A tile of ternary weights, packed or with one byte a code.

use bytemuck::{Pod, Zeroable};

/// Rows of a tile: two AVX-512 registers of sixteen 32-bit lanes.
pub(in crate::kernels) const TILE_ROWS: usize = 32;
/// Columns of a tile.
pub(in crate::kernels) const TILE_COLUMNS: usize = 16;
/// Groups of four columns in a tile; four int8 products go into one 32-bit lane.
pub(in crate::kernels) const QUADS: usize = 4;

/// Four adjacent activations: what one 32-bit lane multiplies.
pub(in crate::kernels) type Quad = [i8; 4];
/// Tokens whose activations lie side by side, quad by quad. With 64 rows of weights they make 24 registers of sums with
/// AVX-512, which leaves as many as are needed for weights and activations.
pub(in crate::kernels) const BLOCK_TOKENS: usize = 6;
/// Tokens that are multiplied straight from the packed tiles, at most: then all lie side by side. With AVX-512 they make sixteen
/// registers of sums, with AVX2 eight; more would be read again from memory.
pub(in crate::kernels) const FEW_TOKENS: usize = 8;

/// 32 rows × 16 columns of codes in 128 bytes, two cache lines.
///
/// Byte `4 * row + b` holds column `4 * quad + b` of that row in bits `2 * quad` and `2 * quad + 1`. So a register of packed
/// bytes, masked, is a register of codes whose 32-bit lanes are rows, and a lane's four bytes meet four adjacent activations.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Tile([u8; TILE_ROWS * 4]);

/// The same with one byte a code: `[quad][4 * row + b]`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct UnpackedTile([[u8; TILE_ROWS * 4]; QUADS]);

// SAFETY: an array of bytes without padding (its size is a multiple of its alignment); every bit pattern is valid.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Zeroable for Tile {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain bytes")]
unsafe impl Pod for Tile {}

impl Tile {
    /// The code (0, 1 or 2) of the weight at `row`, `column`.
    pub(in crate::kernels) fn code(&self, row: usize, column: usize) -> u8 {
        self.0[4 * row + column % 4] >> (2 * (column / 4)) & 3
    }

    /// Stores the codes of a row: `weights` are -1, 0 or +1.
    #[inline]
    pub(super) fn set_row(&mut self, row: usize, weights: &[i8; TILE_COLUMNS]) {
        // Four codes a word; adding 1 to each byte cannot carry.
        let word = |quad: usize| {
            let bytes = [0, 1, 2, 3].map(|b| (weights[4 * quad + b] + 1).cast_unsigned());
            u32::from_le_bytes(bytes) << (2 * quad)
        };
        let packed = word(0) | word(1) | word(2) | word(3);
        self.0[4 * row..4 * row + 4].copy_from_slice(&packed.to_le_bytes());
    }

    /// The four bytes of each row.
    #[inline(always)]
    pub(in crate::kernels) fn rows(&self) -> &[[u8; 4]] {
        self.0.as_chunks().0
    }

    /// Rows 0 to 15 and rows 16 to 31.
    #[inline(always)]
    pub(in crate::kernels) fn halves(&self) -> [&[u8; 64]; 2] {
        let [first, second] = self.0.as_chunks().0 else { unreachable!("a tile has two halves") };
        [first, second]
    }
}

impl UnpackedTile {
    pub(in crate::kernels) const ZERO: Self = Self([[0; TILE_ROWS * 4]; QUADS]);

    pub(in crate::kernels) fn code(&self, row: usize, column: usize) -> u8 {
        self.0[column / 4][4 * row + column % 4]
    }

    pub(in crate::kernels) fn set_code(&mut self, row: usize, column: usize, code: u8) {
        self.0[column / 4][4 * row + column % 4] = code;
    }

    #[inline(always)]
    pub(in crate::kernels) fn half(&self, quad: usize, half: usize) -> &[u8; 64] {
        &self.0[quad].as_chunks().0[half]
    }

    #[inline(always)]
    pub(in crate::kernels) fn half_mut(&mut self, quad: usize, half: usize) -> &mut [u8; 64] {
        &mut self.0[quad].as_chunks_mut().0[half]
    }
}
