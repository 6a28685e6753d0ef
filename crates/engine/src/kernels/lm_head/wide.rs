//! Activations in 16 bits: with 8, their error would be larger than that of the weights.

use super::codes::{WideQuad, tile_quads};

/// The greatest code.
const GREATEST: f64 = 32_639.0;
/// Rows that are multiplied together, at most: with AVX-512 they make sixteen registers of sums, with AVX2 eight.
pub(in crate::kernels) const WIDE_ROWS: usize = 8;

/// Some rows of activations as they are multiplied with tiles of codes; the memory is kept from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Wide {
    /// `[columns / 4, rows]`, padded with zeros to whole tiles of the shortest codes.
    pub(in crate::kernels) quads: Vec<WideQuad>,
    pub(in crate::kernels) rows: Vec<WideRow>,
}

/// What belongs to all codes of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernels) struct WideRow {
    /// What a code of 1 is worth: zero when all activations are, not a number when one is not finite.
    pub(in crate::kernels) scale: f64,
    /// At least ‖x‖ and ‖x - x̂‖.
    pub(in crate::kernels) norm: f64,
    pub(in crate::kernels) error: f64,
    /// Sum of the codes.
    pub(in crate::kernels) sum: f64,
}

impl Wide {
    /// Rounds at most [`WIDE_ROWS`] rows to 16 bits.
    pub(in crate::kernels) fn set<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a [f32]>) {
        let count = rows.len();
        assert!(count <= WIDE_ROWS, "{count} rows at once");
        self.rows.clear();
        for (index, x) in rows.enumerate() {
            if index == 0 {
                self.quads.clear();
                let quads = x.len().div_ceil(4).next_multiple_of(tile_quads(1));
                self.quads.resize(quads * count, WideQuad::default());
            }
            self.rows.push(WideRow::round(x, self.quads[index..].iter_mut().step_by(count)));
        }
    }
}

impl WideRow {
    /// Rounds a row; the quads are zero before, and remain so when the codes say nothing.
    fn round<'a>(x: &[f32], quads: impl Iterator<Item = &'a mut WideQuad>) -> Self {
        if !x.iter().all(|x| x.is_finite()) {
            return Self { scale: f64::NAN, ..Self::default() };
        }
        let absmax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        if absmax == 0.0 {
            return Self::default();
        }
        let scale = f64::from(absmax) / GREATEST;
        let (mut norm, mut error, mut sum) = (0.0, 0.0, 0);
        for (x, quad) in x.chunks(4).zip(quads) {
            for (i, &x) in x.iter().enumerate() {
                let x = f64::from(x);
                let code = (x / scale).round_ties_even();
                norm += x * x;
                error += (x - code * scale).powi(2);
                let code = code as i32;
                sum += i64::from(code);
                quad[i % 2][i / 2] = code as i16;
            }
        }
        // A sum of f64 of this length is right to far more digits than this.
        let [norm, error] = [norm, error].map(|squares: f64| squares.sqrt() * (1.0 + 1e-9));
        Self { scale, norm, error, sum: sum as f64 }
    }

    /// Whether the codes say anything about the activations.
    pub(in crate::kernels) fn is_usable(&self) -> bool {
        self.scale > 0.0
    }
}
