//! The arithmetic of attention: one block of positions for a few queries, and the merging of blocks.

use std::array;

use super::MAX_HEAD_DIM;
use super::page::{BLOCK, Element, Head, WIDTH};
use crate::kernels::exp::{exp, exp_one};
use crate::kernels::lanes::{LANES, Simd, largest, sum_four};

/// The most queries that share each load of a key or value.
pub(super) const QUERIES: usize = 12;

/// How many of `left` queries to attend for together: as many as there are registers for two sums each.
#[inline(always)]
pub(super) fn together<S: Simd>(left: usize) -> usize {
    if left >= QUERIES && S::REGISTERS > 2 * QUERIES { QUERIES } else { left.min(4) }
}

/// A query, with room for the longest: side by side, one pointer reaches them all.
pub(super) type Query = [f32; MAX_HEAD_DIM];

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

    /// Attends from query `n` to the first `positions[n]` of a block, of which there is at least one.
    #[inline(always)]
    pub(super) fn of_block<S: Simd, E: Element, const N: usize>(
        simd: S,
        queries: &[Query; N],
        head_dim: usize,
        positions: [usize; N],
        head: Head<'_, E>,
        out: &mut [Self],
    ) {
        let (mut common, mut longest) = (BLOCK, 0);
        for &positions in &positions {
            common = common.min(positions);
            longest = longest.max(positions);
        }
        let mut weights = [[f32::NEG_INFINITY; BLOCK]; N];
        for (group, keys) in head.keys.chunks(head_dim).enumerate().take(longest.div_ceil(WIDTH)) {
            let mut scores = [[0.0; WIDTH]; N];
            add_multiples(simd, queries, 0, keys, &mut scores);
            for (weights, scores) in weights.iter_mut().zip(&scores) {
                weights.as_chunks_mut::<WIDTH>().0[group] = *scores;
            }
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        for ((weights, &positions), out) in weights.iter_mut().zip(&positions).zip(&mut *out) {
            // What stands beyond the last position is left over from other sequences, or belongs to later queries.
            weights[positions..].fill(f32::NEG_INFINITY);
            (out.max, out.sum) = soften(simd, weights, positions, scale);
        }
        for (group, values) in head.values.chunks(BLOCK).enumerate() {
            let mut sums = [[0.0; WIDTH]; N];
            add_multiples(simd, &weights, 0, &values[..common], &mut sums);
            for n in 0..N {
                if positions[n] > common {
                    let own = common..positions[n];
                    add_multiples(
                        simd,
                        array::from_ref(&weights[n]),
                        common,
                        &values[own],
                        array::from_mut(&mut sums[n]),
                    );
                }
                out[n].values.as_chunks_mut::<WIDTH>().0[group] = sums[n];
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
        let factor = 1.0 / self.sum;
        for (out, value) in out.iter_mut().zip(&self.values) {
            *out = value * factor;
        }
    }
}

/// Scales scores and replaces those of `positions` by `e^(score - max)`, where the others are minus infinity; returns maximum
/// and sum.
#[inline(always)]
fn soften<S: Simd>(simd: S, scores: &mut [f32; BLOCK], positions: usize, scale: f32) -> (f32, f32) {
    let scores = &mut scores.as_chunks_mut::<LANES>().0[..positions.div_ceil(LANES)];
    let scale = simd.splat(scale);
    // Four of each to hide the latency.
    let mut max = [simd.splat(f32::NEG_INFINITY); 4];
    for scores in scores.chunks_mut(4) {
        for (scores, max) in scores.iter_mut().zip(&mut max) {
            let scaled = simd.mul(simd.load(scores), scale);
            simd.store(scaled, scores);
            *max = simd.max(scaled, *max);
        }
    }
    let max = largest(simd, simd.max(simd.max(max[0], max[1]), simd.max(max[2], max[3])));
    let mut sums = [simd.splat(0.0); 4];
    for (first, scores) in (0..).step_by(4 * LANES).zip(scores.chunks_mut(4)) {
        for ((first, scores), sum) in (first..).step_by(LANES).zip(scores).zip(&mut sums) {
            let mut weight = exp(simd, simd.sub(simd.load(scores), simd.splat(max)));
            if first + LANES > positions {
                // `exp` of minus infinity is a tiny number; the weight of a position that does not count is exactly zero.
                let mut counts = [0.0; LANES];
                counts[..positions - first].fill(1.0);
                weight = simd.mul(weight, simd.load(&counts));
            }
            simd.store(weight, scores);
            *sum = simd.add(*sum, weight);
        }
    }
    (max, sum_four(simd, sums))
}

/// `sums[n] += Σ factors[n][first + k] * rows[k]`, in the order of k.
#[inline(always)]
fn add_multiples<S: Simd, E: Element, const N: usize, const LENGTH: usize>(
    simd: S,
    factors: &[[f32; LENGTH]; N],
    first: usize,
    rows: &[[E; WIDTH]],
    sums: &mut [[f32; WIDTH]; N],
) {
    let mut totals = [[simd.splat(0.0); 2]; N];
    for n in 0..N {
        let [low, high] = sums[n].as_chunks::<LANES>().0 else { unreachable!("a row is two registers") };
        totals[n] = [simd.load(low), simd.load(high)];
    }
    for (k, row) in (first..LENGTH).zip(rows) {
        let [low, high] = row.as_chunks::<LANES>().0 else { unreachable!("a row is two registers") };
        if N < QUERIES {
            // Few products for each row: this is as fast as memory is.
            simd.fetch_ahead(row.as_ptr().cast());
        }
        let (low, high) = (E::load(simd, low), E::load(simd, high));
        for n in 0..N {
            let factor = simd.splat(factors[n][k]);
            totals[n][0] = simd.mul_add(factor, low, totals[n][0]);
            totals[n][1] = simd.mul_add(factor, high, totals[n][1]);
        }
    }
    for n in 0..N {
        let [low, high] = sums[n].as_chunks_mut::<LANES>().0 else { unreachable!("a row is two registers") };
        simd.store(totals[n][0], low);
        simd.store(totals[n][1], high);
    }
}
