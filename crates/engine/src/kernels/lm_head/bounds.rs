//! Between which numbers logits lie.

use super::ShortCopy;
use super::copies::{Group, IntMatrix};
use super::products::estimates;
use super::wide::Wide;
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

/// Bounds of all logits, for each sixteen rows.
pub(super) fn bound(pool: &mut Pool, isa: Isa, copy: ShortCopy<'_>, x: &Wide, out: &mut Vec<Bounds>) {
    match copy {
        ShortCopy::Int8(copy) => bound_by(pool, isa, copy, 1.0, x, out),
        ShortCopy::Int4(copy) => {
            bound_by(pool, isa, copy, DEVIATIONS / (copy.columns as f64).sqrt(), x, out);
        }
    }
}

/// `spread` is how much of ‖w - ŵ‖‖x‖ may be between `w·x` and `ŵ·x`.
fn bound_by<const NIBBLES: usize>(
    pool: &mut Pool,
    isa: Isa,
    copy: &IntMatrix<NIBBLES>,
    spread: f64,
    x: &Wide,
    out: &mut Vec<Bounds>,
) {
    out.resize(copy.groups.len(), Bounds::default());
    let bounds = Disjoint::new(out);
    pool.run_ranges(copy.groups.len(), |groups| {
        // SAFETY: each group belongs to one range.
        #[expect(unsafe_code, reason = "groups are bounded in parallel")]
        let bounds = unsafe { bounds.part(groups.clone()) };
        isa.run(Bound { copy, first: groups.start, spread, x, bounds });
    });
    // Rows that do not exist are no competitors.
    if let Some(last) = out.last_mut() {
        let count = copy.rows - (copy.groups.len() - 1) * LANES;
        last.low[count..].fill(f32::NEG_INFINITY);
        last.high[count..].fill(f32::NEG_INFINITY);
    }
}

struct Bound<'a, const NIBBLES: usize> {
    copy: &'a IntMatrix<NIBBLES>,
    first: usize,
    spread: f64,
    x: &'a Wide,
    bounds: &'a mut [Bounds],
}

impl<const NIBBLES: usize> Kernel for Bound<'_, NIBBLES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { copy, first, spread, x, bounds } = self;
        // Roundings of the exact row's product: one for each element of a lane, and the last sums.
        let roundings = (copy.columns.div_ceil(LANES * 4) + 8) as f64;
        let gamma = roundings * f64::from(f32::EPSILON) / 2.0;
        let (of_error, of_norm) = (spread * x.norm, x.error + gamma * x.norm);
        for (group, bounds) in (first..).zip(bounds) {
            let estimates = estimates(simd, copy, group, x);
            let about = &copy.groups[group];
            simd.fetch_ahead((&raw const about.scale).cast());
            simd.fetch_ahead((&raw const about.error).cast());
            simd.fetch_ahead((&raw const about.norm).cast());
            let Group { error, norm, .. } = about;
            for row in 0..LANES {
                let bound = f64::from(error[row]) * of_error
                    + f64::from(norm[row]) * of_norm
                    + f64::from(f32::MIN_POSITIVE);
                (bounds.low[row], bounds.high[row]) = around(estimates[row], bound);
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
