//! Products of 8-bit or 4-bit rows with activations of 16 bits.

use std::ops::Range;

use super::codes::CodeSums;
use super::copies::{Int8Matrix, IntMatrix};
use super::round::half_levels;
use super::wide::{WIDE_ROWS, Wide};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd};
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// The products of sixteen rows with each row of `x`: exact, since multiples of 1/2 below 2^52, then scaled twice.
#[inline(always)]
pub(super) fn estimates<S: Simd, const NIBBLES: usize>(
    simd: S,
    matrix: &IntMatrix<NIBBLES>,
    group: usize,
    x: &Wide,
) -> [CodeSums; WIDE_ROWS] {
    let mut products = [[0.0; LANES]; WIDE_ROWS];
    let tiles = matrix.tiles(group);
    simd.dot_codes::<NIBBLES>(tiles, &x.quads, &mut products[..x.rows.len()]);
    let scale = &matrix.groups[group].scale;
    for (products, x) in products.iter_mut().zip(&x.rows) {
        // x̂ = x.scale * code, ŵ = scale * (level + 1/2), and the level is the unsigned code less half the levels.
        let offset = f64::from(half_levels(NIBBLES) - 0.5) * x.sum;
        for row in 0..LANES {
            products[row] = (products[row] - offset) * x.scale * f64::from(scale[row]);
        }
    }
    products
}

/// `out[t][row] = matrix[row] · x[tokens[t]]`; x: `[tokens, columns]`, out: as many rows as tokens, without padding. What is in `wide`
/// does not matter: it is kept for its memory.
///
/// # Panics
/// When the shapes differ.
pub(crate) fn int8_logits(
    pool: &mut Pool,
    isa: Isa,
    matrix: &Int8Matrix,
    (x, tokens): (&Rows, &[usize]),
    wide: &mut Wide,
    out: &mut [f32],
) {
    let shapes_fit = (x.columns(), out.len()) == (matrix.columns, tokens.len() * matrix.rows);
    assert!(shapes_fit, "shapes of lm_head");
    for (tokens, out) in tokens.chunks(WIDE_ROWS).zip(out.chunks_mut(WIDE_ROWS * matrix.rows)) {
        wide.set(tokens.iter().map(|&token| x.row(token)));
        let (x, out) = (&*wide, Disjoint::new(out));
        pool.run_ranges(matrix.groups.len(), |groups| isa.run(Logits { matrix, groups, x, out: &out }));
    }
}

struct Logits<'a> {
    matrix: &'a Int8Matrix,
    groups: Range<usize>,
    x: &'a Wide,
    out: &'a Disjoint<'a, f32>,
}

impl Kernel for Logits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { matrix, groups, x, out } = self;
        for group in groups {
            let rows = group * LANES..matrix.rows.min((group + 1) * LANES);
            let estimates = estimates(simd, matrix, group, x);
            for (token, estimates) in estimates[..x.rows.len()].iter().enumerate() {
                let start = token * matrix.rows;
                // SAFETY: each group belongs to one range.
                #[expect(unsafe_code, reason = "groups are multiplied in parallel")]
                let out = unsafe { out.part(start + rows.start..start + rows.end) };
                for (out, &logit) in out.iter_mut().zip(estimates) {
                    *out = logit as f32;
                }
            }
        }
    }
}
