//! Many rows of activations: strips of tiles are unpacked once and used for all of them.

use std::ops::Range;

use super::epilogue::Product;
use super::tile::{BLOCK_TOKENS, QUADS, TILE_ROWS, Tile, UnpackedTile};
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::Simd;
use crate::kernels::prefetch::LINE;

/// Token rows whose sums are kept at a time: for 64 rows of weights 66 KiB on the stack.
const TOKENS: usize = 44 * BLOCK_TOKENS;
/// Tiles of a row of tiles that are unpacked at a time: with those of a second row 32 KiB, which stay in the first-level
/// cache while all tokens pass.
const STRIP: usize = 32;
/// Cache lines of the next strip that are fetched with each block of tokens: all, by the end of a full chunk of them.
const LINES_A_BLOCK: usize = (STRIP * size_of::<Tile>() / LINE).div_ceil(TOKENS / BLOCK_TOKENS);

/// What a piece works in, on the stack, because a region must not allocate. It begins on a cache line, so that no register
/// of sums lies on two.
#[repr(align(64))]
struct Space<const N: usize> {
    sums: [[[i32; TILE_ROWS]; N]; TOKENS],
    unpacked: [[UnpackedTile; STRIP]; N],
}

impl<const N: usize> Space<N> {
    const ZERO: Self =
        Self { sums: [[[0; TILE_ROWS]; N]; TOKENS], unpacked: [[UnpackedTile::ZERO; STRIP]; N] };
}

/// Some rows of tiles times all rows of activations.
pub(super) struct ManyTokens<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) tile_rows: Range<usize>,
}

impl Kernel for ManyTokens<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product, tile_rows } = self;
        let mut space = Space::<2>::ZERO;
        for tile_row in (tile_rows.start + 1..tile_rows.end).step_by(2) {
            product.unpacked(simd, tile_row - 1, &mut space);
        }
        if tile_rows.len() % 2 == 1 {
            let mut space = Space::<1>::ZERO;
            product.unpacked(simd, tile_rows.end - 1, &mut space);
        }
    }
}

impl Product<'_> {
    /// `N` rows of tiles from `tile_row` on, unpacked strip by strip, times all tokens.
    #[inline(always)]
    fn unpacked<S: Simd, const N: usize>(&self, simd: S, tile_row: usize, space: &mut Space<N>) {
        for first in (0..self.x.rows()).step_by(TOKENS) {
            self.some_tokens(simd, tile_row, first..self.x.rows().min(first + TOKENS), space);
        }
    }

    #[inline(always)]
    fn some_tokens<S: Simd, const N: usize>(
        &self,
        simd: S,
        tile_row: usize,
        tokens: Range<usize>,
        Space { sums, unpacked }: &mut Space<N>,
    ) {
        let sums = &mut sums[..tokens.len()];
        for (token, sums) in tokens.clone().zip(&mut *sums) {
            *sums = [self.start(token); N];
        }
        let row_tiles = self.w.tile_row(tile_row).len();
        for strip in (0..row_tiles).step_by(STRIP) {
            let end = row_tiles.min(strip + STRIP);
            let mut ahead = [std::ptr::null(); N];
            for n in 0..N {
                let tiles = self.w.tile_row(tile_row + n);
                for (tile, unpacked) in tiles[strip..end].iter().zip(&mut unpacked[n]) {
                    simd.unpack(tile, unpacked);
                }
                // The next strip, or the first one of the next rows of tiles.
                let next = if end < row_tiles { end } else { N * row_tiles };
                ahead[n] = tiles.as_ptr().wrapping_add(next).cast::<u8>();
            }
            let weights = unpacked.each_ref().map(|tiles| &tiles[..end - strip]);
            for (block, sums) in sums.chunks_mut(BLOCK_TOKENS).enumerate() {
                let first = tokens.start + block * BLOCK_TOKENS;
                for ahead in &mut ahead {
                    for _ in 0..LINES_A_BLOCK {
                        simd.prefetch(*ahead);
                        *ahead = ahead.wrapping_add(LINE);
                    }
                }
                if end == row_tiles {
                    // Another core may have the lines of the outputs, and they lie on as many pages as there are tokens.
                    for token in first..first + sums.len() {
                        for n in 0..N {
                            let out = self.out(tile_row + n, token).as_ptr_range();
                            simd.prefetch_for_writing(out.start);
                            simd.prefetch_for_writing(out.end.wrapping_sub(1));
                        }
                    }
                }
                let x = &self.x.block(first / BLOCK_TOKENS)[strip * QUADS * sums.len()..];
                simd.dot_unpacked(weights, x, sums);
                if end == row_tiles {
                    for n in 0..N {
                        for (token, sums) in (first..).zip(&*sums) {
                            self.finish(simd, tile_row + n, token, &sums[n]);
                        }
                    }
                }
            }
        }
    }
}
