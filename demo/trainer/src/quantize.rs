//! What BitNet b1.58 does to weights and activations, as the engine computes it.
//!
//! Both roundings have no useful derivative. Training takes the one of the identity instead ("straight-through"): the gradient with
//! respect to the rounded value is used as that of the value itself, and the scales count as constants.

use crate::vector::round;

/// Whether the forward pass rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Ternary weights, int8 activations and an F16 embedding: the model that is stored.
    Quantized,
    /// Nothing is rounded, so that gradients can be compared with differences.
    Exact,
}

/// The least mean of absolute weights, so that a tensor of zeros has a scale.
const SMALLEST_ABSMEAN: f32 = 1e-5;

/// What a ternary weight of 1 is worth: the mean of the absolute values.
#[must_use]
pub fn absmean(weights: &[f32]) -> f32 {
    let sum: f64 =
        weights.chunks(4_096).map(|chunk| chunk.iter().map(|w| f64::from(w.abs())).sum::<f64>()).sum();
    ((sum / weights.len() as f64) as f32).max(SMALLEST_ABSMEAN)
}

/// The ternary code of a weight, −1, 0 or +1: `clamp(round_half_even(weight / scale), -1, 1)`.
#[must_use]
pub fn ternary(weight: f32, scale: f32) -> f32 {
    let half = 0.5 * scale;
    f32::from(u8::from(weight > half)) - f32::from(u8::from(weight < -half))
}

/// The least absolute maximum of a token's activations, so that a row of zeros has a finite scale.
const SMALLEST_ABSMAX: f32 = 1e-5;

/// Absmax quantization of one token's activations, in place, back to floats:
/// `clamp(round_half_even(x · 127 / absmax), -128, 127) · absmax / 127`.
pub fn int8(x: &mut [f32]) {
    let absmax = absmax(x).max(SMALLEST_ABSMAX);
    let (factor, scale) = (127.0 / absmax, absmax / 127.0);
    for x in x {
        *x = round(*x * factor).clamp(-128.0, 127.0) * scale;
    }
}

fn absmax(x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (x, rest) = x.as_chunks::<16>();
    for x in x {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = if x.abs() > *lane { x.abs() } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(0.0, |largest, x| largest.max(x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_become_the_nearest_of_three_values() {
        let weights = [0.0, 0.2, -0.3, 0.9, -1.4, 0.4];
        let scale = absmean(&weights);
        assert!((scale - 3.2 / 6.0).abs() < 1e-6);
        assert_eq!(weights.map(|w| ternary(w, scale)), [0.0, 0.0, -1.0, 1.0, -1.0, 1.0]);
        assert_eq!([0.5, -0.5, 1.5].map(|w| ternary(w, 1.0)), [0.0, 0.0, 1.0], "ties to even, then clamped");
    }

    #[test]
    fn activations_become_multiples_of_absmax_over_127() {
        let mut x = [0.5, -127.0, 1.5, 2.5, 30.4];
        int8(&mut x);
        assert_eq!(x, [0.0, -127.0, 2.0, 2.0, 30.0]);
        let mut zeros = [0.0; 20];
        int8(&mut zeros);
        assert_eq!(zeros, [0.0; 20]);
    }
}
