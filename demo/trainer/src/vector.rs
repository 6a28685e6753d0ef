//! Reductions and functions over slices, each in a fixed order that a compiler can turn into vector code.
//!
//! A plain sum of floats must be computed one after the other; sixteen partial sums need not.

const LANES: usize = 16;

/// `Σ aᵢ bᵢ`
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    fold(sums, |a, b| a + b) + rest
}

/// `Σ xᵢ`
#[must_use]
pub fn sum(x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x;
        }
    }
    fold(sums, |a, b| a + b) + rest.iter().sum::<f32>()
}

/// The largest element; minus infinity when there is none.
#[must_use]
pub fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for (lane, &x) in lanes.iter_mut().zip(x) {
            *lane = larger(*lane, x);
        }
    }
    rest.iter().copied().fold(fold(lanes, larger), larger)
}

fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Adding this to a small number, and taking it away again, rounds to the nearest integer, ties to even: 1.5 · 2²³.
const ROUNDER: f32 = 12_582_912.0;

/// The nearest integer, ties to even, for |x| < 2²². Two additions are vector code on every CPU; `round_ties_even` is not.
#[must_use]
pub fn round(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}

/// `e^x`, relative error below 3e-7, with `x` limited to -87..=88: a polynomial on ±ln 2 / 2 (coefficients of Cephes' `expf`) times 2ⁿ.
#[must_use]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    // ln 2 in two parts: the first has few enough bits that its product with n is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// Softmax in place; returns `ln Σ e^xᵢ`.
pub fn softmax(x: &mut [f32]) -> f32 {
    let largest = max(x);
    for x in &mut *x {
        *x = exp(*x - largest);
    }
    let sum = sum(x);
    for x in x {
        *x /= sum;
    }
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_standard_library() {
        for i in -8_000..8_000 {
            let x = i as f32 / 100.0;
            let (ours, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / expected - 1.0).abs() < 3e-7, "{x}: {ours} {expected}");
        }
    }

    #[test]
    fn halves_are_rounded_to_even() {
        for i in -1_000..1_000 {
            let x = i as f32 / 4.0;
            assert_eq!(round(x), x.round_ties_even(), "{x}");
        }
    }

    #[test]
    fn reductions_take_the_rest_along() {
        let x: Vec<f32> = (1..=37).map(|i| i as f32).collect();
        assert_eq!((sum(&x), dot(&x, &x), max(&x)), (703.0, 17_575.0, 37.0));
    }
}
