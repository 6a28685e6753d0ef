//! Between which numbers logits lie.

use std::ops::Range;

use super::ShortCopy;
use super::copies::{Group, IntMatrix};
use super::products::estimate;
use super::wide::{WIDE_ROWS, Wide, WideRow};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd, greatest};
use crate::pool::Pool;

/// Standard deviations on either side of an estimate from 4 bits: beyond five of a normal distribution lies less than one
/// logit in a million. No element's error is more than 1.7 of them, so that it takes several large activations whose errors
/// all have the same sign to go beyond.
pub(super) const DEVIATIONS: f64 = 5.0;

/// Bounds of sixteen logits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) low: [f32; LANES],
    pub(super) high: [f32; LANES],
}

impl Bounds {
    pub(super) fn greatest_low(&self) -> f32 {
        greatest(self.low)
    }

    pub(super) fn greatest_high(&self) -> f32 {
        greatest(self.high)
    }
}

/// Bounds of all logits of each row of `x`, for each sixteen rows of the copy, which is read once.
pub(super) fn bound<'a>(
    pool: &mut Pool,
    isa: Isa,
    copy: ShortCopy<'_>,
    x: &Wide,
    out: impl Iterator<Item = &'a mut Vec<Bounds>>,
) {
    match copy {
        ShortCopy::Int8(copy) => bound_by(pool, isa, copy, 1.0, x, out),
        ShortCopy::Int4(copy) => {
            bound_by(pool, isa, copy, DEVIATIONS / (copy.columns as f64).sqrt(), x, out);
        }
    }
}

/// `spread` is how much of ‖w - ŵ‖‖x‖ may be between `w·x` and `ŵ·x`.
fn bound_by<'a, const NIBBLES: usize>(
    pool: &mut Pool,
    isa: Isa,
    copy: &IntMatrix<NIBBLES>,
    spread: f64,
    x: &Wide,
    mut out: impl Iterator<Item = &'a mut Vec<Bounds>>,
) {
    let out: [_; WIDE_ROWS] = std::array::from_fn(|_| {
        out.next().map(|bounds| {
            bounds.resize(copy.groups.len(), Bounds::default());
            Disjoint::new(bounds)
        })
    });
    pool.run_ranges(copy.groups.len(), |groups| isa.run(Bound { copy, groups, spread, x, out: &out }));
}

struct Bound<'a, const NIBBLES: usize> {
    copy: &'a IntMatrix<NIBBLES>,
    groups: Range<usize>,
    spread: f64,
    x: &'a Wide,
    /// For each row of `x`.
    out: &'a [Option<Disjoint<'a, Bounds>>],
}

impl<const NIBBLES: usize> Kernel for Bound<'_, NIBBLES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { copy, groups, spread, x, out } = self;
        // Roundings of the exact row's product: one for each element of a lane, and the last sums.
        let roundings = (copy.columns.div_ceil(LANES * 4) + 8) as f64;
        let gamma = roundings * f64::from(f32::EPSILON) / 2.0;
        let mut estimates = [[0.0; LANES]; WIDE_ROWS];
        for group in groups {
            estimate(simd, copy, group, x, &mut estimates);
            let about = &copy.groups[group];
            simd.fetch_ahead((&raw const about.scale).cast());
            simd.fetch_ahead((&raw const about.error).cast());
            simd.fetch_ahead((&raw const about.norm).cast());
            let Group { error, norm, .. } = about;
            for ((x, estimates), out) in x.rows.iter().zip(&estimates).zip(out.iter().flatten()) {
                let &WideRow { norm: x_norm, error: x_error, .. } = x;
                let (of_error, of_norm) = (spread * x_norm, x_error + gamma * x_norm);
                // SAFETY: each group belongs to one range.
                #[expect(unsafe_code, reason = "groups are bounded in parallel")]
                let bounds = unsafe { &mut out.part(group..group + 1)[0] };
                for row in 0..LANES {
                    let bound = f64::from(error[row]) * of_error
                        + f64::from(norm[row]) * of_norm
                        + f64::from(f32::MIN_POSITIVE);
                    (bounds.low[row], bounds.high[row]) = around(estimates[row], bound);
                }
                // Rows that do not exist are no competitors.
                let count = LANES.min(copy.rows - group * LANES);
                bounds.low[count..].fill(f32::NEG_INFINITY);
                bounds.high[count..].fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// To f32: rounded outwards by more than a rounding. Nothing is known of a row without a bound.
#[inline(always)]
fn around(estimate: f64, bound: f64) -> (f32, f32) {
    if bound == f64::INFINITY {
        return (f32::NEG_INFINITY, f32::INFINITY);
    }
    let outwards = bound * 1.000_001 + estimate.abs() * 2.5e-7;
    ((estimate - outwards) as f32, (estimate + outwards) as f32)
}
