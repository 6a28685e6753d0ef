//! Products of 8-bit or 4-bit rows with activations of 16 bits.

use std::ops::Range;

use super::copies::{Int8Matrix, IntMatrix};
use super::nibbles::{NibbleSums, NibbleTile, WideQuad};
use super::round::half_levels;
use super::wide::Wide;
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd};
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// The products of sixteen rows: exact, since multiples of 1/2 below 2^52, then scaled twice.
#[inline(always)]
pub(in crate::kernels) fn estimates<S: Simd, const NIBBLES: usize>(
    simd: S,
    matrix: &IntMatrix<NIBBLES>,
    group: usize,
    x: &Wide,
) -> [f64; LANES] {
    let mut products = [0.0; LANES];
    for nibble in 0..NIBBLES {
        let halves = half_products(simd, matrix.tiles(group, nibble), &x.quads);
        for row in 0..LANES {
            products[row] = products[row] * 16.0 + halves[row];
        }
    }
    // x̂ = x.scale * code, ŵ = scale * (level + 1/2), and the level is the unsigned code less half the levels.
    let offset = f64::from(half_levels(NIBBLES) - 0.5) * x.sum;
    let scale = &matrix.groups[group].scale;
    for row in 0..LANES {
        products[row] = (products[row] - offset) * x.scale * f64::from(scale[row]);
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

/// `out[t][row] = matrix[row] · x[t]` for some `tokens` of `x`, which is `[tokens, columns]`; out: as many rows as tokens, without
/// padding. What is in `wide` does not matter: it is kept for its memory.
///
/// # Panics
/// When the shapes differ.
pub(crate) fn int8_logits(
    pool: &mut Pool,
    isa: Isa,
    matrix: &Int8Matrix,
    (x, tokens): (&Rows, Range<usize>),
    wide: &mut Vec<Wide>,
    out: &mut [f32],
) {
    let shapes_fit = (x.columns(), out.len()) == (matrix.columns, tokens.len() * matrix.rows);
    assert!(shapes_fit, "shapes of lm_head");
    wide.resize_with(tokens.len().max(wide.len()), Wide::default);
    let wide = &mut wide[..tokens.len()];
    for (token, wide) in tokens.zip(&mut *wide) {
        wide.set(x.row(token));
    }
    let out = Disjoint::new(out);
    pool.run_ranges(matrix.groups.len(), |groups| isa.run(Logits { matrix, groups, x: wide, out: &out }));
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
