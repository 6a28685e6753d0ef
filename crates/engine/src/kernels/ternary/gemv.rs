//! One row of activations, straight from the packed tiles.

use std::ops::Range;

use super::epilogue::Product;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::Simd;

/// Some rows of tiles times the only row of activations.
pub(super) struct OneToken<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) tile_rows: Range<usize>,
}

impl Kernel for OneToken<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product, tile_rows } = self;
        for tile_row in tile_rows {
            let mut sums = product.start(0);
            simd.dot_tiles(product.w.tile_row(tile_row), product.x.block(0), &mut sums);
            product.finish(simd, tile_row, 0, &sums);
        }
    }
}
