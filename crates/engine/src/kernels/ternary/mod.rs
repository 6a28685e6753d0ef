//! Ternary weights: the packed layout, and matrix products with int8 activations.
//!
//! A weight is stored as its code 0, 1 or 2 for -1, 0 or +1, because the multiplication instructions take unsigned by signed
//! bytes; the sum of the activations is subtracted from the dot product of the codes. One layout serves every instruction set.
//!
//! One row of activations (decode) is multiplied straight from the packed tiles, at the speed of memory: `gemv`; and so are a few
//! (several sequences that decode), which share each read: `few`. For more rows (prefill) a strip of tiles is unpacked once into
//! the first-level cache and used for all of them (`gemm`), or sums are looked up (`lookup`), whatever is faster. All give the
//! same integers, which `epilogue` makes floats of.

mod epilogue;
mod few;
mod gemm;
mod gemv;
mod lookup;
mod pack;
mod tile;

pub(crate) use epilogue::Activation;
use epilogue::{Epilogue, Product};
pub(crate) use pack::{MAX_COLUMNS, TernaryMatrix, TernarySource};
pub(super) use tile::{BLOCK_TOKENS, FEW_TOKENS, QUADS, Quad, TILE_COLUMNS, TILE_ROWS, Tile, UnpackedTile};

use self::few::FewTokens;
use self::gemm::ManyTokens;
use self::gemv::OneToken;
use self::lookup::{LOOKUP_TILE_ROWS, LOOKUP_TOKENS, LookedUp};
use crate::kernels::Isa;
use crate::kernels::quantize::Activations;
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// Tokens from which on looking up sums for 32 tokens is faster than multiplying for those that there are.
const LOOKUP_FROM: usize = 20;
/// Rows of tiles that a piece should have to be worth its tables.
const LOOKUP_LEAST_TILE_ROWS: usize = 16;

/// `out = x · wᵀ`; x: `[tokens, columns]`, out: `[tokens, rows]`.
pub(crate) fn matmul(pool: &mut Pool, isa: Isa, w: &TernaryMatrix, x: &Activations, out: &mut Rows) {
    run(pool, isa, w, x, out, Epilogue::Store);
}

/// `out += x · wᵀ`, for the residual stream.
pub(crate) fn matmul_add(pool: &mut Pool, isa: Isa, w: &TernaryMatrix, x: &Activations, out: &mut Rows) {
    run(pool, isa, w, x, out, Epilogue::Add);
}

/// `out = activation(x · gateᵀ) * (x · upᵀ)` with gate and up interleaved in `w`; out: `[tokens, rows / 2]`.
pub(crate) fn matmul_gated(
    pool: &mut Pool,
    isa: Isa,
    w: &TernaryMatrix,
    x: &Activations,
    out: &mut Rows,
    activation: Activation,
) {
    run(pool, isa, w, x, out, Epilogue::Gate(activation));
}

fn run(pool: &mut Pool, isa: Isa, w: &TernaryMatrix, x: &Activations, out: &mut Rows, epilogue: Epilogue) {
    assert_eq!(w.columns(), x.columns(), "activations do not fit the matrix");
    assert!(out.stride() >= w.tile_rows() * epilogue.width(), "outputs do not fit");
    assert_eq!(out.rows(), x.rows(), "one output row a token");
    let product = Product::new(w, x, out, epilogue);
    if x.rows() == 1 {
        pool.run_ranges(w.tile_rows(), |tile_rows| isa.run(OneToken { product: &product, tile_rows }));
    } else if x.rows() <= FEW_TOKENS {
        pool.run_ranges(w.tile_rows(), |tile_rows| isa.run(FewTokens { product: &product, tile_rows }));
    } else if isa.looks_up() && x.rows() >= LOOKUP_FROM {
        let (blocks, tile_rows) = (x.rows().div_ceil(LOOKUP_TOKENS), w.tile_rows());
        // Enough pieces for threads that are delayed, unless that makes them too small.
        let wanted = (3 * pool.threads()).div_ceil(blocks).min(tile_rows.div_ceil(LOOKUP_LEAST_TILE_ROWS));
        let parts = tile_rows.div_ceil(LOOKUP_TILE_ROWS).max(wanted);
        // The same weights for all tokens one after the other: they stay in a cache.
        pool.run(parts * blocks, |piece| {
            let (part, first) = (piece / blocks, piece % blocks * LOOKUP_TOKENS);
            isa.run(LookedUp {
                product: &product,
                tile_rows: part * tile_rows / parts..(part + 1) * tile_rows / parts,
                tokens: first..x.rows().min(first + LOOKUP_TOKENS),
            });
        });
    } else {
        pool.run_ranges(w.tile_rows().div_ceil(2), |pairs| {
            let tile_rows = 2 * pairs.start..w.tile_rows().min(2 * pairs.end);
            isa.run(ManyTokens { product: &product, tile_rows });
        });
    }
}
