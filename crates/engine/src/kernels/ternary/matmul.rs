//! Products of a ternary matrix with one or many rows of int8 activations.
//!
//! One row (decode) is multiplied straight from the packed tiles, at the speed of memory. For more rows (prefill) a strip of
//! tiles is unpacked once into the first-level cache and used for all of them. Both give the same integers.

use super::{BLOCK_TOKENS, QUADS, TILE_ROWS, TernaryMatrix, UnpackedTile};
use crate::checkpoint::Activation;
use crate::kernels::Isa;
use crate::kernels::activations::Activations;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::elementary::exp;
use crate::kernels::isa::Kernel;
use crate::kernels::rows::Rows;
use crate::kernels::simd::{LANES, Simd};
use crate::pool::Pool;

/// Token rows whose sums are kept at a time: 17 KiB on the stack.
const TOKENS: usize = 11 * BLOCK_TOKENS;
/// Tiles unpacked at a time: 16 KiB on the stack.
const STRIP: usize = 32;

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
    let out = Disjoint::new(out.padded_mut());
    let tile_row = |tile_row| isa.run(TileRow { w, tile_row, x, out: &out, stride, epilogue });
    if x.rows() == 1 {
        // A row of tiles takes a microsecond: long runs of them are one stream through memory.
        pool.run_ranges(w.tile_rows(), |tile_rows| tile_rows.for_each(tile_row));
    } else {
        pool.run(w.tile_rows(), tile_row);
    }
}

/// All tokens by the 32 weight rows of one row of tiles.
struct TileRow<'a> {
    w: &'a TernaryMatrix,
    tile_row: usize,
    x: &'a Activations,
    out: &'a Disjoint<'a, f32>,
    stride: usize,
    epilogue: Epilogue,
}

impl Kernel for TileRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.x.rows() == 1 {
            let mut sums = [0; TILE_ROWS];
            simd.dot_tiles(self.w.tile_row(self.tile_row), self.x.block(0), &mut sums);
            self.finish(simd, 0, &mut sums);
        } else {
            for first in (0..self.x.rows()).step_by(TOKENS) {
                self.tokens(simd, first, TOKENS.min(self.x.rows() - first));
            }
        }
    }
}

impl TileRow<'_> {
    #[inline(always)]
    fn tokens<S: Simd>(&self, simd: S, first: usize, count: usize) {
        for token in first..first + count {
            // Outputs of one tile row lie on many pages; by the time that the sums are ready, their lines are here.
            let out = self.out(token);
            simd.prefetch_for_writing(&raw const out[0]);
            simd.prefetch_for_writing(&raw const out[out.len() - 1]);
        }
        #[expect(clippy::large_stack_arrays, reason = "17 KiB; a region must not allocate")]
        let mut sums = [[0; TILE_ROWS]; TOKENS];
        let mut unpacked = [UnpackedTile::ZERO; STRIP];
        for (strip, tiles) in self.w.tile_row(self.tile_row).chunks(STRIP).enumerate() {
            for (tile, unpacked) in tiles.iter().zip(&mut unpacked) {
                simd.unpack(tile, unpacked);
            }
            for (block, sums) in sums[..count].chunks_mut(BLOCK_TOKENS).enumerate() {
                let x = &self.x.block(first / BLOCK_TOKENS + block)[strip * STRIP * QUADS * sums.len()..];
                simd.dot_unpacked(&unpacked[..tiles.len()], x, sums);
            }
        }
        for (token, sums) in sums[..count].iter_mut().enumerate() {
            self.finish(simd, first + token, sums);
        }
    }

    /// Where the outputs for a token go.
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "rows of tiles are computed in parallel")]
    fn out(&self, token: usize) -> &mut [f32] {
        let width = self.epilogue.width();
        let start = token * self.stride + self.tile_row * width;
        // SAFETY: a row of tiles is the work of one piece, which uses one part at a time; its outputs belong to no other.
        unsafe { self.out.part(start..start + width) }
    }

    /// From sums of codes to outputs: subtracts the sum of the activations, scales, and applies the epilogue.
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, token: usize, sums: &mut [i32; TILE_ROWS]) {
        let out = self.out(token);
        let x_sum = self.x.sum(token);
        for sum in &mut *sums {
            *sum -= x_sum;
        }
        let x_scale = simd.splat(self.x.scale(token));
        let [low, high] = sums.as_chunks::<LANES>().0 else { return };
        let [low_scale, high_scale] = self.w.scales(self.tile_row).as_chunks::<LANES>().0 else { return };
        let low = simd.mul(simd.load_i32(low), simd.mul(simd.load(low_scale), x_scale));
        let high = simd.mul(simd.load_i32(high), simd.mul(simd.load(high_scale), x_scale));
        let out = out.as_chunks_mut::<LANES>().0;
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
