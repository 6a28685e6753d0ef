//! Activations as int8: RMS norm and absmax quantization in one pass, one scale a token.

use super::Isa;
use super::disjoint::Disjoint;
use super::isa::Kernel;
use super::lanes::{LANES, Simd, largest};
use super::norm::{PaddedVector, inverse_rms, normed};
use super::rows::{PADDING, Rows};
use super::ternary::{BLOCK_TOKENS, FEW_TOKENS, Quad};
use crate::memory::{Buffer, OutOfMemory};
use crate::pool::Pool;

/// The least absolute maximum, so that a row of zeros has a finite scale.
const SMALLEST_ABSMAX: f32 = 1e-5;

/// `[rows, columns]` of int8 codes; a value is `code * scale` of its row. Columns beyond the last are zero.
///
/// Rows lie side by side in blocks, four columns of one, then the same four of the next: a product reads them in one stream.
/// The last block is as wide as rows are left; a few rows are one block.
#[derive(Debug)]
pub(crate) struct Activations {
    codes: Buffer<Quad>,
    factors: Vec<Factor>,
    rows: usize,
    columns: usize,
    /// Quads of a row, with padding to whole tiles.
    row_quads: usize,
}

/// What belongs to all codes of a row.
#[derive(Clone, Copy, Debug, Default)]
struct Factor {
    /// What a code of 1 is worth.
    scale: f32,
    /// The sum of the codes.
    sum: i32,
}

impl Activations {
    /// Room for `capacity` rows, none in use.
    pub(crate) fn with_capacity(capacity: usize, columns: usize) -> Result<Self, OutOfMemory> {
        let row_quads = columns.next_multiple_of(PADDING) / 4;
        let codes = Buffer::zeroed(capacity * row_quads)?;
        Ok(Self { codes, factors: vec![Factor::default(); capacity], rows: 0, columns, row_quads })
    }

    /// Rows in use.
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Codes of a row, without padding.
    #[must_use]
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// What a code of 1 is worth: absmax / 127.
    #[must_use]
    pub(crate) fn scale(&self, row: usize) -> f32 {
        self.factors[row].scale
    }

    /// The sum of a row's codes.
    pub(super) fn sum(&self, row: usize) -> i32 {
        self.factors[row].sum
    }

    /// Codes of the `index`-th block of rows: `[columns / 4, rows of the block]`.
    pub(super) fn block(&self, index: usize) -> &[Quad] {
        let first = index * self.block_rows();
        let end = self.rows.min(first + self.block_rows());
        &self.codes[first * self.row_quads..end * self.row_quads]
    }

    /// The codes of one row.
    #[must_use]
    pub(crate) fn codes(&self, row: usize) -> Vec<i8> {
        let block = self.block(row / self.block_rows());
        let quads = block.iter().skip(row % self.block_rows()).step_by(block.len() / self.row_quads);
        quads.flatten().copied().take(self.columns).collect()
    }

    /// Sets rows from codes and scales, for tests and benchmarks of the products.
    ///
    /// # Panics
    /// When the codes do not fit.
    pub(crate) fn set(&mut self, rows: &[(Vec<i8>, f32)]) {
        self.rows = rows.len();
        for (row, (codes, scale)) in rows.iter().enumerate() {
            assert_eq!(codes.len(), self.columns, "codes of row {row}");
            let (start, width) = self.place(row);
            for (quad, codes) in codes.chunks(4).enumerate() {
                self.codes[start + quad * width][..codes.len()].copy_from_slice(codes);
            }
            self.factors[row] =
                Factor { scale: *scale, sum: codes.iter().map(|&code| i32::from(code)).sum() };
        }
    }

    /// Where the first quad of a row is, and how many rows lie side by side there.
    fn place(&self, row: usize) -> (usize, usize) {
        let first = row - row % self.block_rows();
        (first * self.row_quads + row - first, self.block_rows().min(self.rows - first))
    }

    /// Rows of all blocks but the last.
    fn block_rows(&self) -> usize {
        if self.rows <= FEW_TOKENS { FEW_TOKENS } else { BLOCK_TOKENS }
    }
}

/// RMS norm, then absmax quantization to int8, row by row:
/// `y = x / sqrt(mean(x²) + eps) * weight`, `scale = max(max|y|, 1e-5) / 127`, `code = round_half_even(y / scale)`.
///
/// weight: `[columns]` padded like the rows of `x`.
///
/// # Panics
/// When the shapes differ.
pub(crate) fn norm_quantize(
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
    let (rows, block_rows) = (out.rows, out.block_rows());
    let codes = Disjoint::new(&mut out.codes[..rows * out.row_quads]);
    let factors = Disjoint::new(&mut out.factors[..rows]);
    pool.run(rows.div_ceil(block_rows), |block| {
        let first = block * block_rows;
        let end = rows.min(first + block_rows);
        // SAFETY: a block of rows is one piece.
        #[expect(unsafe_code, reason = "blocks of rows are quantized in parallel")]
        let (codes, factors) =
            unsafe { (codes.part(first * out.row_quads..end * out.row_quads), factors.part(first..end)) };
        for (token, factor) in factors.iter_mut().enumerate() {
            let x = x.padded(first + token);
            *factor = isa.run(NormQuantize {
                x,
                columns: out.columns,
                weight: &weight.0,
                eps,
                codes,
                token,
                width: end - first,
            });
        }
    });
}

struct NormQuantize<'a> {
    x: &'a [f32],
    columns: usize,
    weight: &'a [f32],
    eps: f32,
    /// Of all `width` rows of the block.
    codes: &'a mut [Quad],
    /// Which of them.
    token: usize,
    width: usize,
}

impl Kernel for NormQuantize<'_> {
    type Output = Factor;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Factor {
        let inverse = simd.splat(inverse_rms(simd, self.x, self.columns, self.eps));
        let x = self.x.as_chunks::<LANES>().0;
        let weight = self.weight.as_chunks::<LANES>().0;
        // The normed row is computed twice rather than stored. Four maxima hide the latency.
        let mut absmax = [simd.splat(0.0); 4];
        for (x, weight) in x.chunks(4).zip(weight.chunks(4)) {
            for ((x, weight), absmax) in x.iter().zip(weight).zip(&mut absmax) {
                *absmax = simd.max(simd.abs(normed(simd, x, inverse, weight)), *absmax);
            }
        }
        let absmax = simd.max(simd.max(absmax[0], absmax[1]), simd.max(absmax[2], absmax[3]));
        let absmax = largest(simd, absmax).max(SMALLEST_ABSMAX);
        let (factor, lowest, highest) = (simd.splat(127.0 / absmax), simd.splat(-128.0), simd.splat(127.0));
        // Sums of fewer than 2^17 codes in a lane are exact.
        let mut sums = simd.splat(0.0);
        let quads = self.codes.chunks_mut(self.width * LANES / 4);
        for ((quads, x), weight) in quads.zip(x).zip(weight) {
            let code = simd.round(simd.mul(normed(simd, x, inverse, weight), factor));
            let code = simd.min(simd.max(code, lowest), highest);
            sums = simd.add(sums, code);
            let mut codes = [0; LANES];
            simd.store_i8(code, &mut codes);
            for (quad, codes) in codes.as_chunks().0.iter().enumerate() {
                quads[quad * self.width + self.token] = *codes;
            }
        }
        let mut lanes = [0.0; LANES];
        simd.store(sums, &mut lanes);
        Factor { scale: absmax / 127.0, sum: lanes.iter().map(|&sum| sum as i32).sum() }
    }
}
