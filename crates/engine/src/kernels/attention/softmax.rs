//! The arithmetic of attention: one block of positions for a few queries, and the merging of blocks.

use super::MAX_HEAD_DIM;
use super::cache::{BLOCK, Element, Head, WIDTH};
use crate::kernels::elementary::{exp, exp_one, largest, sum_four};
use crate::kernels::simd::{LANES, Simd};

/// Queries that share each load of a key or value.
pub(super) const QUERIES: usize = 4;

/// Softmax-weighted values over some positions, not yet divided by the sum of the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    /// The largest score.
    max: f32,
    /// Sum of `e^(score - max)`.
    sum: f32,
    /// Sum of `e^(score - max) * value`.
    values: [f32; MAX_HEAD_DIM],
}

impl Partial {
    pub(super) const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0, values: [0.0; MAX_HEAD_DIM] };

    /// Attends from each query to the first `positions` of a block.
    #[inline(always)]
    pub(super) fn of_block<S: Simd, E: Element, const N: usize>(
        simd: S,
        queries: [&[f32]; N],
        head: Head<'_, E>,
        positions: usize,
        out: &mut [Self],
    ) {
        let head_dim = queries[0].len();
        let mut weights = [[f32::NEG_INFINITY; BLOCK]; N];
        for (group, keys) in head.keys.chunks(head_dim).enumerate().take(positions.div_ceil(WIDTH)) {
            let scores = add_multiples(simd, queries, keys);
            for (weights, scores) in weights.iter_mut().zip(scores) {
                weights[group * WIDTH..][..WIDTH].copy_from_slice(&scores);
            }
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (weights, out) in weights.iter_mut().zip(&mut *out) {
            // What stands beyond the last position is left over from other sequences.
            weights[positions..].fill(f32::NEG_INFINITY);
            (out.max, out.sum) = soften(simd, weights, scale);
        }
        let weights: [&[f32]; N] = std::array::from_fn(|n| &weights[n][..positions]);
        for (group, values) in head.values.chunks(BLOCK).enumerate() {
            let sums = add_multiples(simd, weights, &values[..positions]);
            for (out, sums) in out.iter_mut().zip(sums) {
                out.values[group * WIDTH..][..WIDTH].copy_from_slice(&sums);
            }
        }
    }

    /// Adds the positions of `later`, which follow those of `self`.
    #[inline(always)]
    pub(super) fn merge<S: Simd>(&mut self, simd: S, later: &Self, head_dim: usize) {
        let max = if later.max > self.max { later.max } else { self.max };
        let (own, other) = (exp_one(simd, self.max - max), exp_one(simd, later.max - max));
        self.max = max;
        self.sum = self.sum.mul_add(own, later.sum * other);
        let (own, other) = (simd.splat(own), simd.splat(other));
        let chunks = head_dim.div_ceil(LANES);
        let values =
            self.values.as_chunks_mut::<LANES>().0.iter_mut().zip(later.values.as_chunks::<LANES>().0);
        for (values, later) in values.take(chunks) {
            let sum = simd.mul_add(simd.load(values), own, simd.mul(simd.load(later), other));
            simd.store(sum, values);
        }
    }

    /// The weighted mean of the values.
    #[inline(always)]
    pub(super) fn finish(&self, out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(&self.values) {
            *out = value / self.sum;
        }
    }
}

/// Scales scores and replaces them by `e^(score - max)`; returns maximum and sum.
#[inline(always)]
fn soften<S: Simd>(simd: S, scores: &mut [f32; BLOCK], scale: f32) -> (f32, f32) {
    let scores = scores.as_chunks_mut::<LANES>().0;
    let scale = simd.splat(scale);
    let mut max = simd.splat(f32::NEG_INFINITY);
    for scores in &mut *scores {
        let scaled = simd.mul(simd.load(scores), scale);
        simd.store(scaled, scores);
        max = simd.max(scaled, max);
    }
    let max = largest(simd, max);
    let mut sums = [simd.splat(0.0); 4];
    for scores in scores.chunks_mut(4) {
        for (scores, sum) in scores.iter_mut().zip(&mut sums) {
            // `exp` of minus infinity is a tiny number; the weight of a position that does not count is exactly zero.
            let mut counts = [0.0; LANES];
            for (count, &score) in counts.iter_mut().zip(&*scores) {
                *count = if score == f32::NEG_INFINITY { 0.0 } else { 1.0 };
            }
            let weight =
                simd.mul(exp(simd, simd.sub(simd.load(scores), simd.splat(max))), simd.load(&counts));
            simd.store(weight, scores);
            *sum = simd.add(*sum, weight);
        }
    }
    (max, sum_four(simd, sums))
}

/// `out[n] = Σ factors[n][k] * rows[k]`, in the order of k.
#[inline(always)]
fn add_multiples<S: Simd, E: Element, const N: usize>(
    simd: S,
    factors: [&[f32]; N],
    rows: &[[E; WIDTH]],
) -> [[f32; WIDTH]; N] {
    let factors = factors.map(|factors| &factors[..rows.len()]);
    let mut sums = [[simd.splat(0.0); 2]; N];
    for (k, row) in rows.iter().enumerate() {
        let [low, high] = row.as_chunks::<LANES>().0 else { unreachable!("a row is two registers") };
        let (low, high) = (E::load(simd, low), E::load(simd, high));
        for (sum, factors) in sums.iter_mut().zip(&factors) {
            let factor = simd.splat(factors[k]);
            sum[0] = simd.mul_add(factor, low, sum[0]);
            sum[1] = simd.mul_add(factor, high, sum[1]);
        }
    }
    let mut out = [[0.0; WIDTH]; N];
    for (out, [low, high]) in out.iter_mut().zip(sums) {
        let [first, second] = out.as_chunks_mut::<LANES>().0 else { unreachable!("a row is two registers") };
        simd.store(low, first);
        simd.store(high, second);
    }
    out
}
