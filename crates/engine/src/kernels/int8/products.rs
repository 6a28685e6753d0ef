//! Products of 8-bit rows with activations of 16 bits.

use std::ops::Range;

use super::matrix::{Int8Matrix, OFFSET};
use super::quantize::MIDDLE;
use super::{NibbleSums, NibbleTile, Wide, WideQuad};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::rows::Rows;
use crate::kernels::simd::{LANES, Simd};
use crate::pool::Pool;

/// The products of sixteen rows: exact integers, below 2^53, then scaled twice.
#[inline(always)]
pub(in crate::kernels) fn estimates<S: Simd>(
    simd: S,
    matrix: &Int8Matrix,
    group: usize,
    x: &Wide,
) -> [f64; LANES] {
    let tiles = matrix.tiles(group);
    let upper = half_products(simd, &matrix.high[tiles.clone()], &x.quads);
    let lower = half_products(simd, &matrix.low[tiles], &x.quads);
    let scale = &matrix.groups[group].scale;
    // Divided out of the codes: x̂ = scale * code, ŵ = scale * (code - OFFSET).
    let offset = f64::from(OFFSET) * x.sum;
    let mut products = [0.0; LANES];
    for row in 0..LANES {
        products[row] = (16.0 * upper[row] + lower[row] - offset) * x.scale * f64::from(scale[row]);
    }
    products
}

/// The same from the upper halves alone, each taken for the middle of the codes that have it.
#[inline(always)]
pub(in crate::kernels) fn upper_estimates<S: Simd>(
    simd: S,
    matrix: &Int8Matrix,
    group: usize,
    x: &Wide,
) -> [f64; LANES] {
    let upper = half_products(simd, &matrix.high[matrix.tiles(group)], &x.quads);
    let scale = &matrix.groups[group].scale;
    let offset = f64::from(MIDDLE) * x.sum;
    let mut products = [0.0; LANES];
    for row in 0..LANES {
        products[row] = (16.0 * upper[row] - offset) * x.scale * f64::from(scale[row]);
    }
    products
}

#[inline(always)]
fn half_products<S: Simd>(simd: S, tiles: &[NibbleTile], x: &[WideQuad]) -> [f64; LANES] {
    let mut sums = NibbleSums::default();
    simd.dot_nibbles(tiles, x, &mut sums);
    let mut products = [0.0; LANES];
    for (product, (&high, &low)) in products.iter_mut().zip(sums.high.iter().zip(&sums.low)) {
        *product = f64::from(high) * 256.0 + f64::from(low);
    }
    products
}

/// `out[t][row] = matrix[row] · x[t]`; x: `[tokens, columns]`, out: `[tokens, rows]` without padding.
///
/// # Panics
/// When the shapes differ.
pub fn int8_logits(pool: &mut Pool, isa: Isa, matrix: &Int8Matrix, x: &Rows, out: &mut [f32]) {
    let shapes_fit = (x.columns(), out.len()) == (matrix.columns, x.rows() * matrix.rows);
    assert!(shapes_fit, "shapes of the head");
    let x: Vec<Wide> = (0..x.rows()).map(|token| matrix.widen(x.row(token))).collect();
    let out = Disjoint::new(out);
    pool.run_ranges(matrix.groups.len(), |groups| isa.run(Logits { matrix, groups, x: &x, out: &out }));
}

struct Logits<'a> {
    matrix: &'a Int8Matrix,
    groups: Range<usize>,
    x: &'a [Wide],
    out: &'a Disjoint<'a, f32>,
}

impl Kernel for Logits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { matrix, groups, x, out } = self;
        for group in groups {
            let rows = group * LANES..matrix.rows.min((group + 1) * LANES);
            for (token, x) in x.iter().enumerate() {
                let start = token * matrix.rows;
                // SAFETY: each group belongs to one range.
                #[expect(unsafe_code, reason = "groups are multiplied in parallel")]
                let out = unsafe { out.part(start + rows.start..start + rows.end) };
                for (out, logit) in out.iter_mut().zip(estimates(simd, matrix, group, x)) {
                    *out = logit as f32;
                }
            }
        }
    }
}
