//! Rows of floats in the encoding of the file, and their products in one fixed order.
//!
//! Whether the rows are a whole matrix or some that were just read makes no difference to the bits.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Unknown;
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd, sum_four};
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// Elements of a row that are decoded at a time: a multiple of the elements of every block.
const SEGMENT: usize = 256;
/// Tokens that a row is multiplied with at a time, so that each row passes through the caches only once for all of them.
const TOKENS_AT_ONCE: usize = 16;

/// How the elements of a row are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Encoding {
    /// Half precision, which is multiplied as it is.
    F16,
    /// Blocks of so many `elements`, a divisor of 256, in so many `bytes`. `decode` takes whole blocks.
    Blocks { elements: usize, bytes: usize, decode: fn(&[u8], &mut [f32]) },
}

impl Encoding {
    /// Bytes of a row of so many columns, which are whole blocks.
    #[must_use]
    pub(crate) fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::F16 => columns * size_of::<f16>(),
            Self::Blocks { elements, bytes, .. } => columns / elements * bytes,
        }
    }

    /// Whole rows as f32.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F16 => bytemuck::cast_slice::<u8, f16>(bytes).convert_to_f32_slice(out),
            Self::Blocks { decode, .. } => decode(bytes, out),
        }
    }
}

/// `[rows, columns]` in some encoding: a view, cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedRows<'a> {
    elements: Elements<'a>,
    columns: usize,
    /// Halves or bytes of a row.
    stride: usize,
}

#[derive(Clone, Copy, Debug)]
enum Elements<'a> {
    Halves(&'a [f16]),
    Blocks { bytes: &'a [u8], segment: usize, decode: fn(&[u8], &mut [f32]) },
}

impl<'a> EncodedRows<'a> {
    /// # Panics
    /// When the bytes are not whole rows, blocks do not divide a segment, or halves are not aligned.
    #[must_use]
    pub(crate) fn new(bytes: &'a [u8], columns: usize, encoding: Encoding) -> Self {
        let row_bytes = encoding.row_bytes(columns);
        assert!(bytes.len().is_multiple_of(row_bytes), "whole rows of {row_bytes} bytes");
        match encoding {
            Encoding::F16 => {
                Self { elements: Elements::Halves(bytemuck::cast_slice(bytes)), columns, stride: columns }
            }
            Encoding::Blocks { elements, bytes: block_bytes, decode } => {
                assert!(SEGMENT.is_multiple_of(elements), "blocks of {elements} elements");
                let segment = SEGMENT / elements * block_bytes;
                Self { elements: Elements::Blocks { bytes, segment, decode }, columns, stride: row_bytes }
            }
        }
    }

    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        match self.elements {
            Elements::Halves(halves) => halves.len() / self.stride,
            Elements::Blocks { bytes, .. } => bytes.len() / self.stride,
        }
    }

    /// Adds the products of a row with the padded row `x` to four sums of sixteen lanes: chunk `i` of sixteen elements to sum `i % 4`.
    /// Sums come and go by value, so that they stay in registers.
    #[inline(always)]
    fn add_products<S: Simd>(self, simd: S, row: usize, x: &[f32], sums: [S::Vector; 4]) -> [S::Vector; 4] {
        let x = x.as_chunks::<LANES>().0;
        let range = row * self.stride..(row + 1) * self.stride;
        match self.elements {
            Elements::Halves(halves) => add_halves(simd, &halves[range], x, sums),
            Elements::Blocks { bytes, segment, decode } => {
                let mut sums = sums;
                let mut left = self.columns;
                for (bytes, x) in bytes[range].chunks(segment).zip(x.chunks(SEGMENT / LANES)) {
                    let mut decoded = [0.0; SEGMENT];
                    decode(bytes, &mut decoded[..left.min(SEGMENT)]);
                    left = left.saturating_sub(SEGMENT);
                    for (chunks, x) in decoded.as_chunks::<LANES>().0.chunks(4).zip(x.chunks(4)) {
                        for ((chunk, x), sum) in chunks.iter().zip(x).zip(&mut sums) {
                            *sum = simd.mul_add(simd.load(chunk), simd.load(x), *sum);
                        }
                    }
                }
                sums
            }
        }
    }
}

#[inline(always)]
fn add_halves<S: Simd>(simd: S, row: &[f16], x: &[[f32; LANES]], mut sums: [S::Vector; 4]) -> [S::Vector; 4] {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let (fours, chunks) = chunks.as_chunks::<4>();
    for (chunks, x) in fours.iter().zip(x.as_chunks::<4>().0) {
        for i in 0..4 {
            sums[i] = simd.mul_add(simd.load_f16(&chunks[i]), simd.load(&x[i]), sums[i]);
        }
    }
    let mut last = [f16::ZERO; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let after = &x[4 * fours.len()..];
    // With an index that is not constant, the sums would be in memory in the loop above as well.
    for i in 0..4 {
        if i < chunks.len() {
            sums[i] = simd.mul_add(simd.load_f16(&chunks[i]), simd.load(&after[i]), sums[i]);
        } else if i == chunks.len() && !rest.is_empty() {
            sums[i] = simd.mul_add(simd.load_f16(&last), simd.load(&after[i]), sums[i]);
        }
    }
    sums
}

/// `out[t][place + r] = rows[r] · x[tokens[t]]`; x: `[tokens, columns]`, out: as many rows as tokens, without padding. `rows` may be a
/// part of a matrix: `place` is where it begins.
///
/// # Panics
/// When the shapes differ.
pub(crate) fn logits(
    pool: &mut Pool,
    isa: Isa,
    rows: EncodedRows<'_>,
    (x, tokens): (&Rows, &[usize]),
    place: usize,
    out: &mut [f32],
) {
    let stride = out.len() / tokens.len().max(1);
    assert!(out.len().is_multiple_of(tokens.len().max(1)), "whole rows of logits");
    assert!(x.columns() == rows.columns && place + rows.rows() <= stride, "shapes of lm_head");
    let out = Disjoint::new(out);
    pool.run_ranges(rows.rows(), |range| {
        isa.run(Logits { rows, range, x, tokens, place, stride, out: &out });
    });
}

struct Logits<'a> {
    rows: EncodedRows<'a>,
    range: Range<usize>,
    x: &'a Rows,
    tokens: &'a [usize],
    place: usize,
    stride: usize,
    out: &'a Disjoint<'a, f32>,
}

impl Kernel for Logits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, range, x, tokens, place, stride, out } = self;
        let mut products = [0.0; TOKENS_AT_ONCE];
        for (some, first) in tokens.chunks(TOKENS_AT_ONCE).zip((0..).step_by(TOKENS_AT_ONCE)) {
            for row in range.clone() {
                let products = &mut products[..some.len()];
                if let ([product], &[token]) = (&mut *products, some) {
                    *product = row_product(simd, rows, row, x.padded(token));
                } else {
                    row_products(simd, rows, row, x, some, products);
                }
                for (&product, token) in products.iter().zip(first..) {
                    let place = token * stride + place + row;
                    // SAFETY: each range of rows is the work of one piece.
                    #[expect(unsafe_code, reason = "rows are multiplied in parallel")]
                    let out = unsafe { out.part(place..place + 1) };
                    out[0] = product;
                }
            }
        }
    }
}

/// The product of one row with the padded row `x`.
#[inline(always)]
fn row_product<S: Simd>(simd: S, rows: EncodedRows<'_>, row: usize, x: &[f32]) -> f32 {
    sum_four(simd, rows.add_products(simd, row, x, [simd.splat(0.0); 4]))
}

/// The same with several tokens.
#[inline(always)]
fn row_products<S: Simd>(
    simd: S,
    rows: EncodedRows<'_>,
    row: usize,
    x: &Rows,
    tokens: &[usize],
    out: &mut [f32],
) {
    for (out, &token) in out.iter_mut().zip(tokens) {
        *out = row_product(simd, rows, row, x.padded(token));
    }
}

/// Which row belongs to a candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RowOf {
    /// The one that has its id: the rows are the whole matrix.
    Id,
    /// The one in its place: the rows were read for the candidates.
    Place,
}

/// Computes the logits of candidates of any rows of `x`, which is `[tokens, columns]`.
///
/// # Panics
/// When a candidate has no row.
pub(crate) fn candidate_logits(
    pool: &mut Pool,
    isa: Isa,
    rows: EncodedRows<'_>,
    row_of: RowOf,
    x: &Rows,
    candidates: &mut [Unknown],
) {
    let count = candidates.len();
    let candidates = Disjoint::new(candidates);
    pool.run_ranges(count, |range| {
        let first = range.start;
        // SAFETY: each candidate belongs to one range.
        #[expect(unsafe_code, reason = "candidates are computed in parallel")]
        let candidates = unsafe { candidates.part(range) };
        isa.run(CandidateLogits { rows, row_of, x, first, candidates });
    });
}

struct CandidateLogits<'a> {
    rows: EncodedRows<'a>,
    row_of: RowOf,
    x: &'a Rows,
    first: usize,
    candidates: &'a mut [Unknown],
}

impl Kernel for CandidateLogits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (place, candidate) in (self.first..).zip(self.candidates) {
            let row = match self.row_of {
                RowOf::Id => candidate.id as usize,
                RowOf::Place => place,
            };
            candidate.logit = row_product(simd, self.rows, row, self.x.padded(candidate.state));
        }
    }
}
