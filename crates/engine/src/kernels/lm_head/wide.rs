//! Activations in 16 bits: with 8, their error would be larger than that of the weights.

use super::nibbles::{NIBBLE_COLUMNS, WideQuad};

/// The greatest code: both halves fit into a signed byte, 127 · 256 + 127.
const GREATEST: f64 = 32_639.0;

/// One row of activations as nibble tiles multiply it; its memory is kept from row to row.
#[derive(Debug, Default)]
pub(crate) struct Wide {
    /// `[columns / 4]`, padded with zeros to whole tiles.
    pub(in crate::kernels) quads: Vec<WideQuad>,
    /// What a code of 1 is worth: zero when all activations are, not a number when one is not finite.
    pub(in crate::kernels) scale: f64,
    /// At least ‖x‖ and ‖x - x̂‖.
    pub(in crate::kernels) norm: f64,
    pub(in crate::kernels) error: f64,
    /// Sum of the codes.
    pub(in crate::kernels) sum: f64,
}

impl Wide {
    /// Rounds `x` to 16 bits.
    pub(in crate::kernels) fn set(&mut self, x: &[f32]) {
        self.quads.clear();
        self.quads.resize(x.len().next_multiple_of(NIBBLE_COLUMNS) / 4, WideQuad::default());
        (self.scale, self.norm, self.error, self.sum) = (0.0, 0.0, 0.0, 0.0);
        if !x.iter().all(|x| x.is_finite()) {
            self.scale = f64::NAN;
            return;
        }
        let absmax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        if absmax == 0.0 {
            return;
        }
        let scale = f64::from(absmax) / GREATEST;
        let (mut norm, mut error, mut sum) = (0.0, 0.0, 0);
        for (i, &x) in x.iter().enumerate() {
            let x = f64::from(x);
            let code = (x / scale).round_ties_even();
            norm += x * x;
            error += (x - code * scale).powi(2);
            let code = code as i32;
            sum += i64::from(code);
            // The low half is signed: -128..=127.
            let low = code as i8;
            let quad = &mut self.quads[i / 4];
            quad.low[i % 4] = low;
            quad.high[i % 4] = ((code - i32::from(low)) >> 8) as i8;
        }
        // A sum of f64 of this length is right to far more digits than this.
        let [norm, error] = [norm, error].map(|squares: f64| squares.sqrt() * (1.0 + 1e-9));
        (self.scale, self.norm, self.error, self.sum) = (scale, norm, error, sum as f64);
    }

    /// Whether the codes say anything about the activations.
    pub(in crate::kernels) fn is_usable(&self) -> bool {
        self.scale > 0.0
    }
}
