//! The kernels with shapes of the 2B model, or slices of them where the scalar code would take too long.

use std::ops::Range;

use half::f16;

use super::search::LmHeadSearch;
use crate::kernels::{
    Activation, Activations, Angles, Attention, BLOCK, CacheType, EncodedRows, Encoding, HeadShape, Isa,
    PaddedVector, PageId, Places, Rows, TernaryMatrix, logits, matmul, matmul_gated, norm_quantize,
};
use crate::memory::OutOfMemory;
use crate::pool::Pool;

const HIDDEN: usize = 2560;
const SHAPE: HeadShape = HeadShape { heads: 20, kv_heads: 5, head_dim: 128 };
const QKV: usize = (SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim;
/// Rows of `lm_head`, of 128,256.
const VOCABULARY: usize = 4096;
/// Outputs of a product of many rows.
const OUTPUTS: usize = 320;
/// The tokens whose attention is measured follow so many.
const DECODE_DEPTH: usize = 2047;
const PREFILL_DEPTH: usize = 480;
const PREFILL_ROWS: usize = 32;

/// A kernel to measure.
pub struct Case {
    /// Kernel and shape, as the table of results has it.
    pub name: &'static str,
    /// What a run does, counted in billionths of `unit`.
    pub work: f64,
    /// Of the throughput.
    pub unit: &'static str,
    /// How many times faster than scalar code it must be.
    pub floors: Floors,
    /// Does the work once, with the given instruction set and threads.
    pub run: Run,
}

/// How many times faster than the scalar definition an instruction set must be, at least.
#[expect(missing_docs, reason = "the names of the instruction sets")]
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    pub avx2: f64,
    pub avxvnni: f64,
    pub avx512: f64,
}

type Run = Box<dyn FnMut(&mut Pool, Isa)>;

type Made = Result<Case, OutOfMemory>;

const fn floors(avx2: f64, avxvnni: f64, avx512: f64) -> Floors {
    Floors { avx2, avxvnni, avx512 }
}

/// All, in the order of a forward pass. The ratios are about two fifths of those that an Intel Xeon with all instruction
/// sets has reached, less where memory has a say; storing keys and values is not vector code yet.
pub const ALL: [fn(&mut Pool) -> Made; 17] = [
    |_| norm_and_quantize("norm and quantize, 1 row", 1, floors(6.0, 6.0, 6.0)),
    |_| norm_and_quantize("norm and quantize, 128 rows", 128, floors(10.0, 10.0, 10.0)),
    |pool| product("product, 1 row", pool, 1, QKV, floors(10.0, 12.0, 15.0)),
    |pool| product("product, 2 rows", pool, 2, QKV, floors(12.0, 15.0, 20.0)),
    |pool| product("product, 4 rows", pool, 4, QKV, floors(15.0, 18.0, 30.0)),
    |pool| product("product, 8 rows", pool, 8, QKV, floors(15.0, 20.0, 40.0)),
    |pool| product("product, 12 rows", pool, 12, OUTPUTS, floors(19.0, 24.0, 50.0)),
    |pool| product("product, 128 rows", pool, 128, OUTPUTS, floors(24.0, 32.0, 60.0)),
    |pool| gated("gated product, 1 row", pool, 1, QKV, floors(10.0, 12.0, 15.0)),
    |pool| gated("gated product, 128 rows", pool, 128, OUTPUTS, floors(24.0, 32.0, 60.0)),
    |_| append("rope and cache, 128 rows", floors(0.5, 0.5, 0.5)),
    |pool| attend("attention, 1 row", pool, DECODE_DEPTH..DECODE_DEPTH + 1, floors(30.0, 30.0, 50.0)),
    |pool| {
        attend(
            "attention, 32 rows",
            pool,
            PREFILL_DEPTH..PREFILL_DEPTH + PREFILL_ROWS,
            floors(35.0, 35.0, 60.0),
        )
    },
    |_| all_logits("lm_head, all logits", floors(6.0, 8.0, 20.0)),
    |pool| search("lm_head, search of the best 40", pool, 1, floors(8.0, 8.0, 9.0)),
    |pool| search("lm_head, search for 4 rows", pool, 4, floors(8.0, 10.0, 12.0)),
    |pool| search("lm_head, search for 8 rows", pool, 8, floors(8.0, 10.0, 12.0)),
];

/// Reproducible noise.
#[derive(Debug)]
pub(super) struct Noise(pub(super) u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In -1..1.
    pub(super) fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32 - 1.0
    }

    pub(super) fn rows(&mut self, rows: usize, columns: usize) -> Result<Rows, OutOfMemory> {
        let mut out = Rows::with_capacity(rows, columns)?;
        out.set_rows(rows);
        for row in 0..rows {
            out.row_mut(row).fill_with(|| self.float());
        }
        Ok(out)
    }

    fn activations(&mut self, rows: usize, columns: usize) -> Result<Activations, OutOfMemory> {
        let mut out = Activations::with_capacity(rows, columns)?;
        let codes: Vec<_> =
            (0..rows).map(|_| ((0..columns).map(|_| self.next() as i8).collect(), 0.01)).collect();
        out.set(&codes);
        Ok(out)
    }

    fn ternary(&mut self, pool: &mut Pool, rows: usize) -> Result<TernaryMatrix, OutOfMemory> {
        let weights: Vec<i8> = (0..rows * HIDDEN).map(|_| (self.next() % 3) as i8 - 1).collect();
        TernaryMatrix::from_weights(pool, &weights, HIDDEN, 1.0)
    }
}

fn norm_and_quantize(name: &'static str, rows: usize, floors: Floors) -> Made {
    let x = Noise(1).rows(rows, HIDDEN)?;
    let weight = PaddedVector::from(vec![1.0; HIDDEN]);
    let mut out = Activations::with_capacity(rows, HIDDEN)?;
    let run = Box::new(move |pool: &mut Pool, isa| norm_quantize(pool, isa, &x, &weight, 1e-5, &mut out));
    Ok(Case { name, work: (rows * HIDDEN) as f64, unit: "G elements/s", floors, run })
}

/// What a product does: one row is a matter of reading the weights, many are one of multiplying.
fn work_of_product(w: &TernaryMatrix, rows: usize) -> (f64, &'static str) {
    if rows == 1 {
        (w.as_bytes().len() as f64, "GB/s")
    } else {
        ((w.rows() * w.columns() * rows) as f64, "G mul-adds/s")
    }
}

fn product(name: &'static str, pool: &mut Pool, rows: usize, outputs: usize, floors: Floors) -> Made {
    let mut noise = Noise(2);
    let (w, x) = (noise.ternary(pool, outputs)?, noise.activations(rows, HIDDEN)?);
    let mut out = noise.rows(rows, outputs)?;
    let (work, unit) = work_of_product(&w, rows);
    let run = Box::new(move |pool: &mut Pool, isa| matmul(pool, isa, &w, &x, &mut out));
    Ok(Case { name, work, unit, floors, run })
}

fn gated(name: &'static str, pool: &mut Pool, rows: usize, outputs: usize, floors: Floors) -> Made {
    let mut noise = Noise(3);
    let (w, x) = (noise.ternary(pool, outputs)?, noise.activations(rows, HIDDEN)?);
    let mut out = noise.rows(rows, outputs / 2)?;
    let (work, unit) = work_of_product(&w, rows);
    let activation = Activation::ReluSquared;
    let run = Box::new(move |pool: &mut Pool, isa| matmul_gated(pool, isa, &w, &x, &mut out, activation));
    Ok(Case { name, work, unit, floors, run })
}

/// Of a sequence that has the first pages.
fn places(positions: Range<usize>) -> Places {
    let mut places = Places::default();
    places.push(positions, 0..PageId::MAX);
    places
}

fn append(name: &'static str, floors: Floors) -> Made {
    const ROWS: usize = 128;
    let mut attention = Attention::new(SHAPE, 1, ROWS.div_ceil(BLOCK), CacheType::F16)?;
    let mut angles = Angles::new(SHAPE.head_dim, 500_000.0, ROWS);
    angles.set_positions(0..ROWS);
    let (mut qkv, places) = (Noise(4).rows(ROWS, QKV)?, places(0..ROWS));
    let run = Box::new(move |pool: &mut Pool, isa| {
        attention.append(pool, isa, 0, &mut qkv, &angles, &places);
    });
    Ok(Case { name, work: (ROWS * QKV) as f64, unit: "G elements/s", floors, run })
}

/// Rows at these positions attend to all positions up to their own.
fn attend(name: &'static str, pool: &mut Pool, positions: Range<usize>, floors: Floors) -> Made {
    const CHUNK: usize = 128;
    let mut attention = Attention::new(SHAPE, 1, positions.end.div_ceil(BLOCK), CacheType::F16)?;
    let mut angles = Angles::new(SHAPE.head_dim, 500_000.0, CHUNK);
    let mut noise = Noise(5);
    for start in (0..positions.end).step_by(CHUNK) {
        let chunk = start..positions.end.min(start + CHUNK);
        angles.set_positions(chunk.clone());
        let mut qkv = noise.rows(chunk.len(), QKV)?;
        attention.append(pool, Isa::best(), 0, &mut qkv, &angles, &places(chunk));
    }
    let (qkv, places) = (noise.rows(positions.len(), QKV)?, places(positions.clone()));
    let mut out = noise.rows(positions.len(), HIDDEN)?;
    let seen: usize = positions.clone().map(|position| position + 1).sum();
    let (work, unit) = if positions.len() == 1 {
        (2 * seen * SHAPE.kv_heads * SHAPE.head_dim * CacheType::F16.bytes(), "GB/s")
    } else {
        (2 * seen * SHAPE.heads * SHAPE.head_dim, "G mul-adds/s")
    };
    let run = Box::new(move |pool: &mut Pool, isa| attention.attend(pool, isa, 0, &qkv, &places, &mut out));
    Ok(Case { name, work: work as f64, unit, floors, run })
}

fn all_logits(name: &'static str, floors: Floors) -> Made {
    let mut noise = Noise(6);
    let values: Vec<f16> = (0..VOCABULARY * HIDDEN).map(|_| f16::from_f32(noise.float())).collect();
    let (x, mut out) = (Noise(7).rows(1, HIDDEN)?, vec![0.0; VOCABULARY]);
    let work = size_of_val(&*values) as f64;
    let run = Box::new(move |pool: &mut Pool, isa| {
        let rows = EncodedRows::new(bytemuck::cast_slice(&values), HIDDEN, Encoding::F16);
        logits(pool, isa, rows, (&x, &[0]), 0, &mut out);
    });
    Ok(Case { name, work, unit: "GB/s", floors, run })
}

fn search(name: &'static str, pool: &mut Pool, states: usize, floors: Floors) -> Made {
    let mut search = LmHeadSearch::new(pool, Isa::best(), [VOCABULARY, HIDDEN], states)?;
    // What one row after the other would read.
    let work = (search.bytes() * states) as f64;
    let run = Box::new(move |pool: &mut Pool, isa| {
        assert!(search.top(pool, isa, 40).is_some(), "the search must be what is measured");
    });
    Ok(Case { name, work, unit: "GB/s", floors, run })
}
