//! One row of floats to 8-bit codes, and how good they are.

use super::matrix::OFFSET;
use crate::kernels::elementary::{largest, sum_four};
use crate::kernels::isa::Kernel;
use crate::kernels::simd::{LANES, Simd};

/// What the upper half of a code stands for when nothing is known of the lower half: `16 * half - MIDDLE`.
pub(super) const MIDDLE: f32 = OFFSET as f32 - 7.5;

/// Float sums of up to 2^18 terms are wrong by less than this, relatively, and so are a few operations on them.
const SLACK: f32 = 1.0 + 1e-4;

/// Finds scale and codes of a row; `values` and `codes` have the row's length, padded with zeros to whole lanes.
pub(super) struct Quantize<'a> {
    pub(super) values: &'a [f32],
    pub(super) codes: &'a mut [i8],
}

/// What belongs to a row besides its codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// What a code of 1 is worth; not a number when an element is not finite.
    pub(super) scale: f32,
    /// At least ‖w - ŵ‖; infinite when there is no bound.
    pub(super) error: f32,
    /// At least ‖w‖ and ‖ŵ‖; infinite when there is no bound.
    pub(super) norm: f32,
    /// ‖ŵ - ŵ₄‖, where ŵ₄ is what the upper halves say; infinite when there is no bound.
    pub(super) upper_error: f32,
}

impl Kernel for Quantize<'_> {
    type Output = Measured;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Measured {
        let values = self.values.as_chunks::<LANES>().0;
        let codes = self.codes.as_chunks_mut::<LANES>().0;
        let mut absmax = simd.splat(0.0);
        let mut finite = true;
        for values in values {
            absmax = simd.max(simd.abs(simd.load(values)), absmax);
            for value in values {
                finite &= value.is_finite();
            }
        }
        let absmax = largest(simd, absmax);
        // The codes of such rows are zero: nothing near zero can be told from it, and what is not a number stays so.
        if !finite || absmax < 1e-30 {
            codes.as_flattened_mut().fill(0);
            let scale = if finite { 0.0 } else { f32::NAN };
            let bound = if absmax == 0.0 && finite { 0.0 } else { f32::INFINITY };
            return Measured { scale, error: bound, norm: bound, upper_error: bound };
        }
        let scale = absmax / 127.0;
        let inverse = 127.0 / absmax;
        let mut sums = [[simd.splat(0.0); 4]; 4];
        for (values, codes) in values.chunks(4).zip(codes.chunks_mut(4)) {
            for (i, (values, codes)) in values.iter().zip(codes).enumerate() {
                let value = simd.load(values);
                let code = simd.round(simd.mul(value, simd.splat(inverse)));
                let code = simd.min(simd.max(code, simd.splat(-127.0)), simd.splat(127.0));
                simd.store_i8(code, codes);
                let copy = simd.mul(code, simd.splat(scale));
                let error = simd.sub(value, copy);
                // (code + OFFSET) / 16 rounded down is the upper half; the middle of a half is never on an edge.
                let half = simd.round(simd.mul(simd.add(code, simd.splat(MIDDLE)), simd.splat(1.0 / 16.0)));
                let lower = simd.sub(simd.add(code, simd.splat(MIDDLE)), simd.mul(half, simd.splat(16.0)));
                sums[0][i] = simd.mul_add(error, error, sums[0][i]);
                sums[1][i] = simd.mul_add(value, value, sums[1][i]);
                sums[2][i] = simd.mul_add(copy, copy, sums[2][i]);
                sums[3][i] = simd.mul_add(lower, lower, sums[3][i]);
            }
        }
        let [errors, norms, copies, lowers] = sums;
        let (error, norm, copy) = (sum_four(simd, errors), sum_four(simd, norms), sum_four(simd, copies));
        let upper_error = scale * sum_four(simd, lowers).sqrt();
        // Beyond these the squares leave the range of f32.
        if !(1e-15..=1e15).contains(&absmax) {
            let none = f32::INFINITY;
            return Measured { scale, error: none, norm: none, upper_error: none };
        }
        let (error, norm) = (error.sqrt() * SLACK, norm.max(copy).sqrt() * SLACK);
        // The copy and the difference are rounded, each element by 2^-23 of the largest at most, and tiny squares vanish.
        let count = self.values.len() as f32;
        let rounding = absmax * count.sqrt() * f32::EPSILON + (count * f32::MIN_POSITIVE).sqrt();
        Measured { scale, error: error + rounding, norm: norm + rounding, upper_error }
    }
}
