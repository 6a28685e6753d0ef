//! Activations as int8: RMS norm and absmax quantization, one scale a token.

use super::Isa;
use super::elementary::{largest, sum_four};
use super::isa::Kernel;
use super::rows::Rows;
use super::simd::{LANES, Simd};
use crate::pool::{Disjoint, Pool};

/// The least absolute maximum, so that a row of zeros has a finite scale.
const SMALLEST_ABSMAX: f32 = 1e-5;

/// `[rows, columns]` of int8 codes; a value is `code * scale` of its row. The padding at the end of each row is zero.
#[derive(Clone, Debug)]
pub struct Activations {
    codes: Vec<i8>,
    /// What a code of 1 is worth, and the sum of the codes.
    factors: Vec<Factor>,
    rows: usize,
    columns: usize,
    stride: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Factor {
    scale: f32,
    sum: i32,
}

impl Activations {
    /// Room for `capacity` rows, none in use.
    #[must_use]
    pub fn with_capacity(capacity: usize, columns: usize) -> Self {
        let stride = columns.next_multiple_of(64);
        Self {
            codes: vec![0; capacity * stride],
            factors: vec![Factor::default(); capacity],
            rows: 0,
            columns,
            stride,
        }
    }

    /// Rows in use.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Codes of a row, without padding.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The codes of one row.
    #[must_use]
    pub fn codes(&self, row: usize) -> &[i8] {
        &self.codes[row * self.stride..][..self.columns]
    }

    /// All codes from the first of `row` on, rows `stride` apart.
    pub(super) fn codes_from(&self, row: usize) -> &[i8] {
        &self.codes[row * self.stride..]
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// What a code of 1 is worth: absmax / 127.
    #[must_use]
    pub fn scale(&self, row: usize) -> f32 {
        self.factors[row].scale
    }

    /// The sum of a row's codes.
    pub(super) fn sum(&self, row: usize) -> i32 {
        self.factors[row].sum
    }

    /// Sets rows from codes and scales, for tests and benchmarks of the products.
    ///
    /// # Panics
    /// When the codes do not fit.
    pub fn set(&mut self, rows: &[(Vec<i8>, f32)]) {
        self.rows = rows.len();
        for (row, (codes, scale)) in rows.iter().enumerate() {
            self.codes[row * self.stride..][..self.columns].copy_from_slice(codes);
            self.factors[row] =
                Factor { scale: *scale, sum: codes.iter().map(|&code| i32::from(code)).sum() };
        }
    }
}

/// RMS norm, then absmax quantization to int8, row by row:
/// `y = x / sqrt(mean(x²) + eps) * weight`, `scale = max(max|y|, 1e-5) / 127`, `code = round_half_even(y / scale)`.
///
/// weight: `[columns]` padded like the rows of `x`.
pub fn norm_quantize(
    pool: &mut Pool,
    isa: Isa,
    x: &Rows,
    weight: &PaddedVector,
    eps: f32,
    out: &mut Activations,
) {
    assert_eq!((x.columns(), weight.0.len()), (out.columns, x.stride()), "shapes of the norm");
    assert!(x.rows() <= out.factors.len(), "room for the activations");
    out.rows = x.rows();
    let stride = out.stride;
    let codes = Disjoint::new(&mut out.codes);
    let factors = Disjoint::new(&mut out.factors);
    pool.run_ranges(x.rows(), |rows| {
        for row in rows {
            // SAFETY: each row belongs to one range.
            #[expect(unsafe_code, reason = "rows are quantized in parallel")]
            let (codes, factor) =
                unsafe { (codes.part(row * stride..(row + 1) * stride), codes_factor(&factors, row)) };
            *factor = isa.run(NormQuantize {
                x: x.padded(row),
                columns: x.columns(),
                weight: &weight.0,
                eps,
                codes,
            });
        }
    });
}

/// # Safety
/// No other part of `factors` in use holds `row`.
#[expect(unsafe_code, clippy::mut_from_ref, reason = "one factor a row")]
unsafe fn codes_factor<'a>(factors: &'a Disjoint<'_, Factor>, row: usize) -> &'a mut Factor {
    // SAFETY: by the caller's promise.
    unsafe { &mut factors.part(row..row + 1)[0] }
}

/// RMS norm in place: `x = x / sqrt(mean(x²) + eps) * weight`.
pub fn norm(isa: Isa, x: &mut Rows, weight: &PaddedVector, eps: f32) {
    assert_eq!(weight.0.len(), x.stride(), "shapes of the norm");
    let (stride, columns) = (x.stride(), x.columns());
    for x in x.padded_mut().chunks_mut(stride) {
        isa.run(Norm { x, columns, weight: &weight.0, eps });
    }
}

/// A vector padded with zeros like the rows of [`Rows`].
#[derive(Clone, Debug)]
pub struct PaddedVector(Vec<f32>);

impl From<Vec<f32>> for PaddedVector {
    fn from(mut values: Vec<f32>) -> Self {
        values.resize(Rows::with_capacity(0, values.len()).stride(), 0.0);
        Self(values)
    }
}

struct NormQuantize<'a> {
    x: &'a [f32],
    columns: usize,
    weight: &'a [f32],
    eps: f32,
    codes: &'a mut [i8],
}

impl Kernel for NormQuantize<'_> {
    type Output = Factor;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Factor {
        let inverse = simd.splat(inverse_rms(simd, self.x, self.columns, self.eps));
        let x = self.x.as_chunks::<LANES>().0;
        let weight = self.weight.as_chunks::<LANES>().0;
        // The normed row is computed twice rather than stored.
        let normed = |i: usize| simd.mul(simd.mul(simd.load(&x[i]), inverse), simd.load(&weight[i]));
        let mut absmax = simd.splat(0.0);
        for i in 0..x.len().min(weight.len()) {
            absmax = simd.max(simd.abs(normed(i)), absmax);
        }
        let absmax = largest(simd, absmax).max(SMALLEST_ABSMAX);
        let (factor, lowest, highest) = (simd.splat(127.0 / absmax), simd.splat(-128.0), simd.splat(127.0));
        let mut sum = 0;
        for (i, codes) in self.codes.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(x.len()) {
            let code = simd.round(simd.mul(normed(i), factor));
            simd.store_i8(simd.min(simd.max(code, lowest), highest), codes);
            sum += codes.iter().map(|&code| i32::from(code)).sum::<i32>();
        }
        Factor { scale: absmax / 127.0, sum }
    }
}

struct Norm<'a> {
    x: &'a mut [f32],
    columns: usize,
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inverse = simd.splat(inverse_rms(simd, self.x, self.columns, self.eps));
        for (x, weight) in self.x.as_chunks_mut::<LANES>().0.iter_mut().zip(self.weight.as_chunks().0) {
            let normed = simd.mul(simd.mul(simd.load(x), inverse), simd.load(weight));
            simd.store(normed, x);
        }
    }
}

/// `1 / sqrt(mean(x²) + eps)`; the padding of `x` adds nothing to the sum.
#[inline(always)]
fn inverse_rms<S: Simd>(simd: S, x: &[f32], columns: usize, eps: f32) -> f32 {
    let mut squares = [simd.splat(0.0); 4];
    for x in x.as_chunks::<LANES>().0.chunks(4) {
        for (square, x) in squares.iter_mut().zip(x) {
            let x = simd.load(x);
            *square = simd.mul_add(x, x, *square);
        }
    }
    1.0 / (sum_four(simd, squares) / columns as f32 + eps).sqrt()
}
