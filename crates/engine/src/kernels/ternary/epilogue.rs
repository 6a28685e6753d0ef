//! From the integer sums of a product to its outputs: scales, and what is done with them on the way to memory.

use super::pack::TernaryMatrix;
use super::tile::TILE_ROWS;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::exp::exp;
use crate::kernels::lanes::{LANES, Simd};
use crate::kernels::quantize::Activations;
use crate::kernels::rows::Rows;

/// What the feed-forward part applies to its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)²`
    ReluSquared,
    /// `x · sigmoid(x)`
    Silu,
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    Store,
    Add,
    Gate(Activation),
}

impl Epilogue {
    /// Outputs of one row of tiles.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Store | Self::Add => TILE_ROWS,
            Self::Gate(_) => TILE_ROWS / 2,
        }
    }
}

/// What is multiplied, and where the results go.
pub(super) struct Product<'a> {
    pub(super) w: &'a TernaryMatrix,
    pub(super) x: &'a Activations,
    out: Disjoint<'a, f32>,
    stride: usize,
    epilogue: Epilogue,
}

impl<'a> Product<'a> {
    pub(super) fn new(
        w: &'a TernaryMatrix,
        x: &'a Activations,
        out: &'a mut Rows,
        epilogue: Epilogue,
    ) -> Self {
        let stride = out.stride();
        Self { w, x, out: Disjoint::new(out.padded_mut()), stride, epilogue }
    }
}

impl Product<'_> {
    /// What sums of codes start from: codes are one more than weights.
    #[inline(always)]
    pub(super) fn start(&self, token: usize) -> [i32; TILE_ROWS] {
        [-self.x.sum(token); TILE_ROWS]
    }

    /// Where the outputs of a row of tiles for a token go.
    #[inline(always)]
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "rows of tiles are computed in parallel")]
    pub(super) fn out(&self, tile_row: usize, token: usize) -> &mut [f32] {
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
