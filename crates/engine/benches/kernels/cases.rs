//! The kernels with shapes of the 2B model, or slices of them where the scalar code would take too long.

use std::ops::Range;

use bitnet_engine::checkpoint::Activation;
use bitnet_engine::kernels::{
    Activations, Angles, Attention, CacheType, Demand, FloatMatrix, HeadShape, Int8Matrix, Isa, PaddedVector,
    Place, Rows, Search, Searchable, ShortCopy, TernaryMatrix, logits, matmul, matmul_gated, norm_quantize,
};
use bitnet_engine::pool::Pool;
use half::f16;

const HIDDEN: usize = 2560;
const SHAPE: HeadShape = HeadShape { heads: 20, kv_heads: 5, head_dim: 128 };
const QKV: usize = (SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim;
/// Rows of the output head, of 128,256.
const VOCABULARY: usize = 4096;
/// Outputs of a product of many rows.
const OUTPUTS: usize = 320;
/// The tokens whose attention is measured follow so many.
const DECODE_DEPTH: usize = 2047;
const PREFILL_DEPTH: usize = 480;
const PREFILL_ROWS: usize = 32;

/// A kernel to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What a run does, counted in billionths of `unit`.
    pub(crate) work: f64,
    pub(crate) unit: &'static str,
    pub(crate) floors: Floors,
    pub(crate) run: Run,
}

type Run = Box<dyn FnMut(&mut Pool, Isa)>;

/// How many times faster than the scalar definition an instruction set must be, at least.
pub(crate) struct Floors {
    pub(crate) avx2: f64,
    pub(crate) avxvnni: f64,
    pub(crate) avx512: f64,
}

const fn floors(avx2: f64, avxvnni: f64, avx512: f64) -> Floors {
    Floors { avx2, avxvnni, avx512 }
}

/// All, in the order of a forward pass. The ratios are about two fifths of those that an Intel Xeon with all instruction
/// sets has reached, less where memory has a say; storing keys and values is not vector code yet.
pub(crate) const ALL: [fn(&mut Pool) -> Case; 12] = [
    |_| norm_and_quantize("norm and quantize, 1 row", 1, floors(6.0, 6.0, 6.0)),
    |_| norm_and_quantize("norm and quantize, 128 rows", 128, floors(10.0, 10.0, 10.0)),
    |pool| product("product, 1 row", pool, 1, QKV, floors(10.0, 12.0, 15.0)),
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
    |_| head("head, all logits", floors(6.0, 8.0, 20.0)),
    |pool| search("head, search of the best 40", pool, floors(8.0, 8.0, 9.0)),
];

/// Reproducible noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In -1..1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32 - 1.0
    }

    fn rows(&mut self, rows: usize, columns: usize) -> Rows {
        let mut out = Rows::with_capacity(rows, columns).unwrap();
        out.set_rows(rows);
        for row in 0..rows {
            out.row_mut(row).fill_with(|| self.float());
        }
        out
    }

    fn activations(&mut self, rows: usize, columns: usize) -> Activations {
        let mut out = Activations::with_capacity(rows, columns).unwrap();
        let codes: Vec<_> =
            (0..rows).map(|_| ((0..columns).map(|_| self.next() as i8).collect(), 0.01)).collect();
        out.set(&codes);
        out
    }

    fn ternary(&mut self, pool: &mut Pool, rows: usize) -> TernaryMatrix {
        let weights: Vec<i8> = (0..rows * HIDDEN).map(|_| (self.next() % 3) as i8 - 1).collect();
        TernaryMatrix::from_weights(pool, &weights, HIDDEN, 1.0).unwrap()
    }
}

fn norm_and_quantize(name: &'static str, rows: usize, floors: Floors) -> Case {
    let x = Noise(1).rows(rows, HIDDEN);
    let weight = PaddedVector::from(vec![1.0; HIDDEN]);
    let mut out = Activations::with_capacity(rows, HIDDEN).unwrap();
    let run = Box::new(move |pool: &mut Pool, isa| norm_quantize(pool, isa, &x, &weight, 1e-5, &mut out));
    Case { name, work: (rows * HIDDEN) as f64, unit: "G elements/s", floors, run }
}

/// What a product does: one row is a matter of reading the weights, many are one of multiplying.
fn work_of_product(w: &TernaryMatrix, rows: usize) -> (f64, &'static str) {
    if rows == 1 {
        (w.as_bytes().len() as f64, "GB/s")
    } else {
        ((w.rows() * w.columns() * rows) as f64, "G mul-adds/s")
    }
}

fn product(name: &'static str, pool: &mut Pool, rows: usize, outputs: usize, floors: Floors) -> Case {
    let mut noise = Noise(2);
    let (w, x) = (noise.ternary(pool, outputs), noise.activations(rows, HIDDEN));
    let mut out = noise.rows(rows, outputs);
    let (work, unit) = work_of_product(&w, rows);
    let run = Box::new(move |pool: &mut Pool, isa| matmul(pool, isa, &w, &x, &mut out));
    Case { name, work, unit, floors, run }
}

fn gated(name: &'static str, pool: &mut Pool, rows: usize, outputs: usize, floors: Floors) -> Case {
    let mut noise = Noise(3);
    let (w, x) = (noise.ternary(pool, outputs), noise.activations(rows, HIDDEN));
    let mut out = noise.rows(rows, outputs / 2);
    let (work, unit) = work_of_product(&w, rows);
    let activation = Activation::ReluSquared;
    let run = Box::new(move |pool: &mut Pool, isa| matmul_gated(pool, isa, &w, &x, &mut out, activation));
    Case { name, work, unit, floors, run }
}

fn places(positions: Range<usize>) -> Vec<Place> {
    positions.map(|position| Place { slot: 0, position }).collect()
}

fn append(name: &'static str, floors: Floors) -> Case {
    const ROWS: usize = 128;
    let mut attention = Attention::new(SHAPE, 1, 1, ROWS, CacheType::F16).unwrap();
    let mut angles = Angles::new(SHAPE.head_dim, 500_000.0, ROWS);
    angles.set_positions(0..ROWS);
    let (mut qkv, places) = (Noise(4).rows(ROWS, QKV), places(0..ROWS));
    let run = Box::new(move |pool: &mut Pool, isa| {
        attention.append(pool, isa, 0, &mut qkv, &angles, &places);
    });
    Case { name, work: (ROWS * QKV) as f64, unit: "G elements/s", floors, run }
}

/// Rows at these positions attend to all positions up to their own.
fn attend(name: &'static str, pool: &mut Pool, positions: Range<usize>, floors: Floors) -> Case {
    const CHUNK: usize = 128;
    let mut attention = Attention::new(SHAPE, 1, 1, positions.end, CacheType::F16).unwrap();
    let mut angles = Angles::new(SHAPE.head_dim, 500_000.0, CHUNK);
    let mut noise = Noise(5);
    for start in (0..positions.end).step_by(CHUNK) {
        let chunk = start..positions.end.min(start + CHUNK);
        angles.set_positions(chunk.clone());
        let mut qkv = noise.rows(chunk.len(), QKV);
        attention.append(pool, Isa::best(), 0, &mut qkv, &angles, &places(chunk));
    }
    let (qkv, places) = (noise.rows(positions.len(), QKV), places(positions.clone()));
    let mut out = noise.rows(positions.len(), HIDDEN);
    let seen: usize = positions.clone().map(|position| position + 1).sum();
    let (work, unit) = if positions.len() == 1 {
        (2 * seen * SHAPE.kv_heads * SHAPE.head_dim * CacheType::F16.bytes(), "GB/s")
    } else {
        (2 * seen * SHAPE.heads * SHAPE.head_dim, "G mul-adds/s")
    };
    let run = Box::new(move |pool: &mut Pool, isa| attention.attend(pool, isa, 0, &qkv, &places, &mut out));
    Case { name, work: work as f64, unit, floors, run }
}

fn head_values() -> Vec<f16> {
    let mut noise = Noise(6);
    (0..VOCABULARY * HIDDEN).map(|_| f16::from_f32(noise.float())).collect()
}

fn head(name: &'static str, floors: Floors) -> Case {
    let matrix = FloatMatrix::from_f16(&head_values(), HIDDEN).unwrap();
    let (x, mut out) = (Noise(7).rows(1, HIDDEN), vec![0.0; VOCABULARY]);
    let work = matrix.as_bytes().len() as f64;
    let run = Box::new(move |pool: &mut Pool, isa| logits(pool, isa, &matrix, &x, &mut out).unwrap());
    Case { name, work, unit: "GB/s", floors, run }
}

fn search(name: &'static str, pool: &mut Pool, floors: Floors) -> Case {
    let matrix = FloatMatrix::from_f16(&head_values(), HIDDEN).unwrap();
    let copy = Int8Matrix::round(pool, Isa::best(), &matrix).unwrap();
    let (x, mut search) = (Noise(7).rows(1, HIDDEN), Search::default());
    let work = copy.as_bytes().len() as f64;
    let run = Box::new(move |pool: &mut Pool, isa| {
        let head = Searchable { exact: &matrix, copy: ShortCopy::Int8(&copy) };
        let found = search.run(pool, isa, head, (&x, 0), Demand::Top(40), std::iter::empty()).unwrap();
        assert!(found, "the search must be what is measured");
    });
    Case { name, work, unit: "GB/s", floors, run }
}
