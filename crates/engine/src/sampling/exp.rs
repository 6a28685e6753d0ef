//! An exponential function with the same result on every platform; those of system libraries differ in the last bits.

use std::f64::consts::LOG2_E;

/// 1 / n! for n from 0 to 13.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut inverse = [1.0; 14];
    let (mut n, mut factorial) = (1, 1.0);
    while n < inverse.len() {
        factorial *= n as f64;
        inverse[n] = 1.0 / factorial;
        n += 1;
    }
    inverse
};

/// How far `logit` is from `highest`, the greatest of all: at most 0, and exactly 0 between two that are infinite.
pub(super) fn below(logit: f32, highest: f32) -> f64 {
    if logit >= highest { 0.0 } else { f64::from(logit) - f64::from(highest) }
}

/// e^x for x of at most 0, to within 2 units in the last place; 0 below -700.
pub(super) fn exp(x: f64) -> f64 {
    // The upper bits of ln 2, so that a product with a small integer is exact, and the rest of it.
    const LN_2_UPPER: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN_2_LOWER: f64 = 1.908_214_929_270_587_7e-10;
    if x < -700.0 {
        return 0.0;
    }
    // e^x = 2^n * e^r with |r| of at most half of ln 2, where these terms of the series are enough.
    let n = (x * LOG2_E).round();
    let r = (x - n * LN_2_UPPER) - n * LN_2_LOWER;
    let series = INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, inverse| sum * r + inverse);
    series * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_library_to_two_units_in_the_last_place() {
        for step in 0..700_000 {
            let x = f64::from(step) * -0.001;
            let (ours, library) = (exp(x), x.exp());
            assert!((ours - library).abs() <= 2.0 * f64::EPSILON * library, "{x}: {ours} {library}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let ends = [0.0, -0.0, -701.0, f64::NEG_INFINITY].map(|x| exp(x).to_bits());
        assert_eq!(ends, [1.0, 1.0, 0.0, 0.0].map(f64::to_bits));
    }
}
