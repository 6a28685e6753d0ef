//! One row of floats to levels of 8 or 4 bits, and how good they are.

use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd, largest, sum_four};

/// Float sums of up to 2^18 terms are wrong by less than this, relatively, and so are a few operations on them.
const SLACK: f32 = 1.0 + 1e-4;

/// Half the number of levels: they are `-half..half`, and a level stands for `(level + 1/2) * scale`, so that there are as many
/// on either side of zero and the greatest element is half a step from the outermost.
pub(super) const fn half_levels(nibbles: usize) -> f32 {
    (1u32 << (4 * nibbles - 1)) as f32
}

/// Finds scale and levels of a row; `values` and `levels` have the row's length, padded with zeros to whole lanes.
pub(super) struct Quantize<'a, const NIBBLES: usize> {
    pub(super) values: &'a [f32],
    pub(super) levels: &'a mut [i8],
}

/// What belongs to a row besides its codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// The distance of levels; not a number when an element is not finite.
    pub(super) scale: f32,
    /// At least ‖w - ŵ‖; infinite when there is no bound.
    pub(super) error: f32,
    /// At least ‖w‖ and ‖ŵ‖; infinite when there is no bound.
    pub(super) norm: f32,
}

impl<const NIBBLES: usize> Kernel for Quantize<'_, NIBBLES> {
    type Output = Measured;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Measured {
        let half = half_levels(NIBBLES);
        let values = self.values.as_chunks::<LANES>().0;
        let levels = self.levels.as_chunks_mut::<LANES>().0;
        let mut absmax = simd.splat(0.0);
        let mut finite = true;
        for values in values {
            absmax = simd.max(simd.abs(simd.load(values)), absmax);
            for value in values {
                finite &= value.is_finite();
            }
        }
        let absmax = largest(simd, absmax);
        // Nothing near zero can be told from it, and what is not a number stays so.
        if !finite || absmax < 1e-30 {
            levels.as_flattened_mut().fill(0);
            let scale = if finite { 0.0 } else { f32::NAN };
            let bound = if absmax == 0.0 && finite { 0.0 } else { f32::INFINITY };
            return Measured { scale, error: bound, norm: bound };
        }
        let scale = absmax / half;
        let inverse = half / absmax;
        let mut sums = [[simd.splat(0.0); 4]; 3];
        for (values, levels) in values.chunks(4).zip(levels.chunks_mut(4)) {
            for (i, (values, levels)) in values.iter().zip(levels).enumerate() {
                let value = simd.load(values);
                let level = simd.round(simd.sub(simd.mul(value, simd.splat(inverse)), simd.splat(0.5)));
                let level = simd.min(simd.max(level, simd.splat(-half)), simd.splat(half - 1.0));
                simd.store_i8(level, levels);
                let copy = simd.mul(simd.add(level, simd.splat(0.5)), simd.splat(scale));
                let error = simd.sub(value, copy);
                sums[0][i] = simd.mul_add(error, error, sums[0][i]);
                sums[1][i] = simd.mul_add(value, value, sums[1][i]);
                sums[2][i] = simd.mul_add(copy, copy, sums[2][i]);
            }
        }
        let [errors, norms, copies] = sums;
        let (error, norm, copy) = (sum_four(simd, errors), sum_four(simd, norms), sum_four(simd, copies));
        // Beyond these the squares leave the range of f32.
        if !(1e-15..=1e15).contains(&absmax) {
            return Measured { scale, error: f32::INFINITY, norm: f32::INFINITY };
        }
        let (error, norm) = (error.sqrt() * SLACK, norm.max(copy).sqrt() * SLACK);
        // The copy and the difference are rounded, each element by 2^-23 of the largest at most, and tiny squares vanish.
        let count = self.values.len() as f32;
        let rounding = absmax * count.sqrt() * f32::EPSILON + (count * f32::MIN_POSITIVE).sqrt();
        Measured { scale, error: error + rounding, norm: norm + rounding }
    }
}
