//! RMS norm and what follows it: `y = x / sqrt(mean(x²) + eps) * weight`, then int8.

use crate::quantize::{Precision, int8};
use crate::vector::dot;

/// x, out: `[tokens, width]`; weight: `[width]`; inverses: `[tokens]`, which the backward pass needs.
pub fn forward(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    precision: Precision,
    out: &mut [f32],
    inverses: &mut [f32],
) {
    let width = weight.len();
    for ((x, out), inverse) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(inverses) {
        *inverse = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * *inverse * weight;
        }
        if precision == Precision::Quantized {
            int8(out);
        }
    }
}

/// What happens to the gradient of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// It replaces what is there.
    Set,
    /// It is added to what is there, which is the gradient of the residual stream.
    Add,
}

/// The gradients of input and weight, straight through the rounding. `d_out` is overwritten.
///
/// x, `d_out`, `d_x`: `[tokens, width]`; weight, `d_weight`: `[width]`; inverses: `[tokens]`.
pub fn backward(
    x: &[f32],
    weight: &[f32],
    inverses: &[f32],
    d_out: &mut [f32],
    d_x: &mut [f32],
    into: Into,
    d_weight: &mut [f32],
) {
    let width = weight.len();
    let rows = x.chunks_exact(width).zip(d_out.chunks_exact_mut(width)).zip(d_x.chunks_exact_mut(width));
    for (((x, d_out), d_x), &inverse) in rows.zip(inverses) {
        for (((d_out, d_weight), x), weight) in d_out.iter_mut().zip(&mut *d_weight).zip(x).zip(weight) {
            *d_weight += *d_out * x * inverse;
            *d_out *= weight;
        }
        // With x̂ = x · inverse: dx = inverse · (dx̂ − x̂ · mean(dx̂ · x̂)).
        let factor = dot(d_out, x) * inverse * inverse / width as f32;
        let change = d_out.iter().zip(x).map(|(d, x)| inverse * (d - x * factor));
        match into {
            Into::Set => d_x.iter_mut().zip(change).for_each(|(d_x, change)| *d_x = change),
            Into::Add => d_x.iter_mut().zip(change).for_each(|(d_x, change)| *d_x += change),
        }
    }
}
