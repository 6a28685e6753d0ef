//! Products of a ternary matrix with one or many rows of int8 activations.
//!
//! One row (decode) is multiplied straight from the packed tiles, at the speed of memory. For more rows (prefill) a strip of
//! tiles is unpacked once into the first-level cache and used for all of them, or sums are looked up (`lookup`), whatever is
//! faster. All give the same integers.

use std::ops::Range;

use super::lookup::{LOOKUP_TILE_ROWS, LOOKUP_TOKENS, LookedUp};
use super::{BLOCK_TOKENS, QUADS, TILE_ROWS, TernaryMatrix, Tile, UnpackedTile};
use crate::checkpoint::Activation;
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::exp::exp;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd};
use crate::kernels::quantize::Activations;
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// Token rows whose sums are kept at a time: for 64 rows of weights 66 KiB on the stack.
const TOKENS: usize = 44 * BLOCK_TOKENS;
/// Tiles of a row of tiles that are unpacked at a time: with those of a second row 32 KiB, which stay in the first-level
/// cache while all tokens pass.
const STRIP: usize = 32;
/// Cache lines of the next strip that are fetched with each block of tokens: all, by the end of a full chunk of them.
const LINES_A_BLOCK: usize = (STRIP * size_of::<Tile>() / LINE).div_ceil(TOKENS / BLOCK_TOKENS);
pub(super) const LINE: usize = 64;
/// Tokens from which on looking up sums for 32 tokens is faster than multiplying for those that there are.
const LOOKUP_FROM: usize = 20;
/// Rows of tiles that a piece should have to be worth its tables.
const LOOKUP_LEAST_TILE_ROWS: usize = 16;

/// `out = x · wᵀ`; x: `[tokens, columns]`, out: `[tokens, rows]`.
pub fn matmul(pool: &mut Pool, isa: Isa, w: &TernaryMatrix, x: &Activations, out: &mut Rows) {
    run(pool, isa, w, x, out, Epilogue::Store);
}

/// `out += x · wᵀ`, for the residual stream.
pub fn matmul_add(pool: &mut Pool, isa: Isa, w: &TernaryMatrix, x: &Activations, out: &mut Rows) {
    run(pool, isa, w, x, out, Epilogue::Add);
}

/// `out = activation(x · gateᵀ) * (x · upᵀ)` with gate and up interleaved in `w`; out: `[tokens, rows / 2]`.
pub fn matmul_gated(
    pool: &mut Pool,
    isa: Isa,
    w: &TernaryMatrix,
    x: &Activations,
    out: &mut Rows,
    activation: Activation,
) {
    run(pool, isa, w, x, out, Epilogue::Gate(activation));
}

#[derive(Clone, Copy)]
enum Epilogue {
    Store,
    Add,
    Gate(Activation),
}

impl Epilogue {
    /// Outputs of one row of tiles.
    fn width(self) -> usize {
        match self {
            Self::Store | Self::Add => TILE_ROWS,
            Self::Gate(_) => TILE_ROWS / 2,
        }
    }
}

fn run(pool: &mut Pool, isa: Isa, w: &TernaryMatrix, x: &Activations, out: &mut Rows, epilogue: Epilogue) {
    assert_eq!(w.columns(), x.columns(), "activations do not fit the matrix");
    assert!(out.stride() >= w.tile_rows() * epilogue.width(), "outputs do not fit");
    assert_eq!(out.rows(), x.rows(), "one output row a token");
    let stride = out.stride();
    let product = Product { w, x, out: Disjoint::new(out.padded_mut()), stride, epilogue };
    if x.rows() == 1 {
        pool.run_ranges(w.tile_rows(), |tile_rows| isa.run(OneToken { product: &product, tile_rows }));
    } else if isa.looks_up() && x.rows() >= LOOKUP_FROM {
        let (blocks, tile_rows) = (x.rows().div_ceil(LOOKUP_TOKENS), w.tile_rows());
        // Enough pieces for threads that are delayed, unless that makes them too small.
        let wanted = (3 * pool.threads()).div_ceil(blocks).min(tile_rows.div_ceil(LOOKUP_LEAST_TILE_ROWS));
        let parts = tile_rows.div_ceil(LOOKUP_TILE_ROWS).max(wanted);
        // The same weights for all tokens one after the other: they stay in a cache.
        pool.run(parts * blocks, |piece| {
            let (part, first) = (piece / blocks, piece % blocks * LOOKUP_TOKENS);
            isa.run(LookedUp {
                product: &product,
                tile_rows: part * tile_rows / parts..(part + 1) * tile_rows / parts,
                tokens: first..x.rows().min(first + LOOKUP_TOKENS),
            });
        });
    } else {
        pool.run_ranges(w.tile_rows().div_ceil(2), |pairs| {
            let tile_rows = 2 * pairs.start..w.tile_rows().min(2 * pairs.end);
            isa.run(ManyTokens { product: &product, tile_rows });
        });
    }
}

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

/// What is multiplied, and where the results go.
pub(super) struct Product<'a> {
    pub(super) w: &'a TernaryMatrix,
    pub(super) x: &'a Activations,
    out: Disjoint<'a, f32>,
    stride: usize,
    epilogue: Epilogue,
}

/// Some rows of tiles times the only row of activations.
struct OneToken<'a> {
    product: &'a Product<'a>,
    tile_rows: Range<usize>,
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

/// Some rows of tiles times all rows of activations.
struct ManyTokens<'a> {
    product: &'a Product<'a>,
    tile_rows: Range<usize>,
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

    /// What sums of codes start from: codes are one more than weights.
    #[inline(always)]
    fn start(&self, token: usize) -> [i32; TILE_ROWS] {
        [-self.x.sum(token); TILE_ROWS]
    }

    /// Where the outputs of a row of tiles for a token go.
    #[inline(always)]
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "rows of tiles are computed in parallel")]
    fn out(&self, tile_row: usize, token: usize) -> &mut [f32] {
        let width = self.epilogue.width();
        let start = token * self.stride + tile_row * width;
        // SAFETY: a row of tiles is the work of one piece, which uses one part at a time; its outputs belong to no other.
        unsafe { self.out.part(start..start + width) }
    }

    /// From sums to outputs: scales and applies the epilogue.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&self, simd: S, tile_row: usize, token: usize, sums: &[i32; TILE_ROWS]) {
        let x_scale = simd.splat(self.x.scale(token));
        let [low, high] = sums.as_chunks::<LANES>().0 else { return };
        let [low_scale, high_scale] = self.w.scales(tile_row).as_chunks::<LANES>().0 else { return };
        let low = simd.mul(simd.load_i32(low), simd.mul(simd.load(low_scale), x_scale));
        let high = simd.mul(simd.load_i32(high), simd.mul(simd.load(high_scale), x_scale));
        let out = self.out(tile_row, token).as_chunks_mut::<LANES>().0;
        match (self.epilogue, out) {
            (Epilogue::Store, [first, second]) => {
                simd.store(low, first);
                simd.store(high, second);
            }
            (Epilogue::Add, [first, second]) => {
                simd.store(simd.add(simd.load(first), low), first);
                simd.store(simd.add(simd.load(second), high), second);
            }
            (Epilogue::Gate(activation), [out]) => {
                simd.store(simd.mul(activate(simd, activation, low), high), out);
            }
            _ => unreachable!("the output part has the width of the epilogue"),
        }
    }
}

#[inline(always)]
fn activate<S: Simd>(simd: S, activation: Activation, x: S::Vector) -> S::Vector {
    match activation {
        Activation::ReluSquared => {
            let positive = simd.max(x, simd.splat(0.0));
            simd.mul(positive, positive)
        }
        Activation::Silu => {
            let e = exp(simd, simd.sub(simd.splat(0.0), x));
            simd.div(x, simd.add(simd.splat(1.0), e))
        }
    }
}
