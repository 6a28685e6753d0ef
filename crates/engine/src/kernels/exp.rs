//! The exponential function of sixteen lanes, for softmax and the sigmoid, in a fixed order of operations.

use super::lanes::{LANES, Simd};

/// `e^x`, relative error below 2e-7, with `x` limited to -87..=88 so that the result is a normal number.
///
/// `x = n ln 2 + r` with |r| ≤ ln 2 / 2, then a polynomial of degree 7 in r (coefficients of Cephes' `expf`) times 2^n.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let constant = |value| simd.splat(value);
    let x = simd.min(simd.max(x, constant(-87.0)), constant(88.0));
    let n = simd.round(simd.mul(x, constant(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: the first has few enough bits that its product with n is exact.
    let r = simd.mul_add(n, constant(-0.693_359_4), x);
    let r = simd.mul_add(n, constant(2.121_944_4e-4), r);
    let mut p = constant(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = simd.mul_add(p, r, constant(coefficient));
    }
    let p = simd.mul_add(p, simd.mul(r, r), simd.add(r, constant(1.0)));
    simd.mul(p, simd.exp2_integral(n))
}

/// `e^x` of one number, with the bits of [`exp`].
#[inline(always)]
pub(super) fn exp_one<S: Simd>(simd: S, x: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(exp(simd, simd.splat(x)), &mut lanes);
    lanes[0]
}
