//! A few rows of activations, straight from the packed tiles: each is unpacked in registers once for all of them.

use std::ops::Range;

use super::epilogue::Product;
use super::tile::{FEW_TOKENS, TILE_ROWS};
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::Simd;

/// Some rows of tiles times two to [`FEW_TOKENS`] rows of activations.
pub(super) struct FewTokens<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) tile_rows: Range<usize>,
}

impl Kernel for FewTokens<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product, tile_rows } = self;
        let mut space = [[0; TILE_ROWS]; FEW_TOKENS];
        let sums = &mut space[..product.x.rows()];
        for tile_row in tile_rows {
            for (token, sums) in sums.iter_mut().enumerate() {
                *sums = product.start(token);
            }
            simd.dot_few(product.w.tile_row(tile_row), product.x.block(0), sums);
            for (token, sums) in sums.iter().enumerate() {
                product.finish(simd, tile_row, token, sums);
            }
        }
    }
}
