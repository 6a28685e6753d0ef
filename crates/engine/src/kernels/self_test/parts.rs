//! What the self-test runs: each part of a forward pass, in each variant that decoding and prefill use.

use half::f16;

use super::data::{Codes, Noise, bits_of};
use crate::kernels::exp::exp;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd, sum};
use crate::kernels::lm_head::WIDE_ROWS;
use crate::kernels::{
    Activation, Activations, Angles, Attention, BLOCK, CacheType, EncodedRows, Encoding, HeadShape,
    Int4Matrix, Int8Matrix, Isa, PaddedVector, PageId, Places, Request, RowOf, Rows, Select, ShortCopy,
    TernaryMatrix, Wide, candidate_logits, int8_logits, logits, matmul, matmul_add, matmul_gated, norm,
    norm_quantize,
};
use crate::logits::Demand;
use crate::memory::OutOfMemory;
use crate::pool::Pool;

type Bits = Result<Vec<u32>, OutOfMemory>;

/// A part of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Lanes,
    Norm,
    OneRow,
    FewRows,
    ManyRows,
    Attention(CacheType),
    FloatRows,
    Int8,
    Search,
}

impl Part {
    pub(super) const ALL: [Self; 10] = [
        Self::Lanes,
        Self::Norm,
        Self::OneRow,
        Self::FewRows,
        Self::ManyRows,
        Self::Attention(CacheType::F16),
        Self::Attention(CacheType::F32),
        Self::FloatRows,
        Self::Int8,
        Self::Search,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lanes => "float arithmetic",
            Self::Norm => "norm and quantization",
            Self::OneRow => "a ternary product of one row",
            Self::FewRows => "a ternary product of a few rows",
            Self::ManyRows => "a ternary product of many rows",
            Self::Attention(CacheType::F16) => "attention with a cache of f16",
            Self::Attention(CacheType::F32) => "attention with a cache of f32",
            Self::FloatRows => "a product of float rows",
            Self::Int8 => "a product of 8-bit rows",
            Self::Search => "the search for the greatest logits",
        }
    }

    /// The results on an instruction set.
    pub(super) fn bits(self, pool: &mut Pool, isa: Isa) -> Bits {
        match self {
            Self::Lanes => Ok(isa.run(Lanes)),
            Self::Norm => norms(pool, isa),
            Self::OneRow => products(pool, isa, &Codes::ALL, &[1]),
            Self::FewRows => Ok([
                products(pool, isa, &Codes::ALL, &[8])?,
                products(pool, isa, &[Codes::Random], &[2, 3, 4, 5, 6, 7])?,
            ]
            .concat()),
            // Each width that the last block of rows can have, on two rows of tiles and on one; and enough for sums to be looked up.
            Self::ManyRows => Ok([
                products(pool, isa, &Codes::ALL, &[17, 35])?,
                products(pool, isa, &[Codes::Random], &[9, 10, 13, 14, 16])?,
            ]
            .concat()),
            Self::Attention(cache_type) => attention(pool, isa, cache_type),
            Self::FloatRows => float_rows(pool, isa),
            Self::Int8 => int8(pool, isa),
            Self::Search => search(pool, isa),
        }
    }
}

/// Every operation on ordinary, huge, tiny and special values.
struct Lanes;

impl Kernel for Lanes {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<u32> {
        let mut noise = Noise(7);
        let mut results = Vec::new();
        for round in 0..64 {
            let mut lanes = |scale: f32| std::array::from_fn(|_| (noise.next() as i32 as f32) * scale);
            let spread = [1e-9, 1e-30, 1e20, 3e-8][round % 4];
            let (mut a, b, c): ([f32; LANES], [f32; LANES], [f32; LANES]) =
                (lanes(spread), lanes(1e-9), lanes(1e-9));
            a[round % LANES] = [0.0, -0.0, f32::INFINITY, 0.5][round / 4 % 4];
            let halves = [a, b][round % 2].map(f16::from_f32);
            let (a, b, c) = (simd.load(&a), simd.load(&b), simd.load(&c));
            let mut keep = |vector| {
                let mut lanes = [0.0; LANES];
                simd.store(vector, &mut lanes);
                results.extend(lanes.map(f32::to_bits));
            };
            keep(simd.load_f16(&halves));
            keep(simd.mul_add(a, b, c));
            keep(simd.add(simd.sub(a, b), c));
            keep(simd.div(simd.mul(a, b), c));
            keep(simd.max(simd.min(a, b), simd.abs(c)));
            keep(simd.round(a));
            keep(exp(simd, a));
            keep(simd.splat(sum(simd, b)));
            let mut codes = [0; LANES];
            simd.store_i8(
                simd.round(simd.max(simd.min(a, simd.splat(127.0)), simd.splat(-128.0))),
                &mut codes,
            );
            keep(simd.load_i32(&codes.map(i32::from)));
        }
        results
    }
}

fn norms(pool: &mut Pool, isa: Isa) -> Bits {
    const ROWS: usize = 8;
    const COLUMNS: usize = 150;
    let mut noise = Noise(3);
    let mut x = noise.rows(ROWS, COLUMNS)?;
    let weight = PaddedVector::from(noise.floats(COLUMNS));
    let mut codes = Activations::with_capacity(ROWS, COLUMNS)?;
    norm_quantize(pool, isa, &x, &weight, 1e-5, &mut codes);
    let mut bits = Vec::new();
    for row in 0..ROWS {
        bits.extend(codes.codes(row).into_iter().map(|code| code as u32));
        bits.extend([codes.scale(row).to_bits(), codes.sum(row) as u32]);
    }
    norm(isa, &mut x, &weight, 1e-5);
    bits.extend(bits_of(&x));
    Ok(bits)
}

/// Products with each epilogue, of matrices with these codes and so many rows of activations. Two rows of tiles, and a third, which is
/// a single one; more columns than are unpacked at a time.
fn products(pool: &mut Pool, isa: Isa, codes: &[Codes], rows: &[usize]) -> Bits {
    const OUTPUTS: usize = 80;
    const COLUMNS: usize = 33 * 16 + 5;
    let mut bits = Vec::new();
    for &codes in codes {
        let w = TernaryMatrix::from_weights(pool, &codes.weights(OUTPUTS * COLUMNS), COLUMNS, 0.7)?;
        for &rows in rows {
            let x = codes.activations(rows, COLUMNS)?;
            let mut out = Rows::with_capacity(rows, OUTPUTS)?;
            out.set_rows(rows);
            matmul(pool, isa, &w, &x, &mut out);
            bits.extend(bits_of(&out));
            if rows == 1 {
                matmul_add(pool, isa, &w, &x, &mut out);
                bits.extend(bits_of(&out));
                for activation in [Activation::ReluSquared, Activation::Silu] {
                    let mut gated = Rows::with_capacity(rows, OUTPUTS.next_multiple_of(32) / 2)?;
                    gated.set_rows(rows);
                    matmul_gated(pool, isa, &w, &x, &mut gated, activation);
                    bits.extend(bits_of(&gated));
                }
            }
        }
    }
    Ok(bits)
}

/// Rows on both sides of a border of pages, divided among threads in either way.
fn attention(pool: &mut Pool, isa: Isa, cache_type: CacheType) -> Bits {
    const END: usize = BLOCK + 2;
    const PAGES: [PageId; 2] = [1, 0];
    let mut bits = Vec::new();
    // So that queries come alone, in twos, threes, fours and as many as there can be; heads fill rows of 32, or do not.
    for (shape, from) in [
        (HeadShape { heads: 6, kv_heads: 2, head_dim: 20 }, BLOCK - 6),
        (HeadShape { heads: 2, kv_heads: 2, head_dim: 64 }, END - 1),
    ] {
        let columns = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        let mut attention = Attention::new(shape, 1, PAGES.len(), cache_type)?;
        let mut angles = Angles::new(shape.head_dim, 10_000.0, END);
        let mut places = Places::default();
        let mut noise = Noise(4);
        let mut append = |positions: std::ops::Range<usize>, attention: &mut Attention| {
            places.clear();
            places.push(positions.clone(), PAGES);
            angles.set_positions(positions.clone());
            let mut qkv = noise.rows(positions.len(), columns)?;
            attention.append(pool, isa, 0, &mut qkv, &angles, &places);
            Ok::<_, OutOfMemory>(qkv)
        };
        append(0..from, &mut attention)?;
        let qkv = append(from..END, &mut attention)?;
        bits.extend(bits_of(&qkv));
        let mut out = Rows::with_capacity(END - from, shape.heads * shape.head_dim)?;
        out.set_rows(END - from);
        for by_block in [false, true] {
            attention.attend_divided(pool, isa, 0, &qkv, &places, &mut out, by_block);
            bits.extend(bits_of(&out));
        }
    }
    Ok(bits)
}

fn float_rows(pool: &mut Pool, isa: Isa) -> Bits {
    const ROWS: usize = 9;
    const COLUMNS: usize = 330;
    let mut noise = Noise(5);
    let values = noise.floats(ROWS * COLUMNS);
    let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    let x = noise.rows(3, COLUMNS)?;
    let decode = |bytes: &[u8], out: &mut [f32]| out.copy_from_slice(bytemuck::cast_slice(bytes));
    let mut bits = Vec::new();
    for rows in [
        EncodedRows::new(bytemuck::cast_slice(&halves), COLUMNS, Encoding::F16),
        EncodedRows::new(
            bytemuck::cast_slice(&values),
            COLUMNS,
            Encoding::Blocks { elements: 1, bytes: 4, decode },
        ),
    ] {
        for tokens in [&[0][..], &[0, 1, 2]] {
            let mut out = vec![0.0; tokens.len() * ROWS];
            logits(pool, isa, rows, (&x, tokens), 0, &mut out);
            bits.extend(out.into_iter().map(f32::to_bits));
        }
    }
    Ok(bits)
}

/// Rows that are rounded to 8 bits, times activations of 16.
fn int8(pool: &mut Pool, isa: Isa) -> Bits {
    const ROWS: usize = 35;
    const COLUMNS: usize = 90;
    let mut noise = Noise(6);
    let mut values = noise.floats(ROWS * COLUMNS);
    // The largest sums, both ways.
    values[..COLUMNS].fill(1.0);
    values[COLUMNS..2 * COLUMNS].fill(-1.0);
    let mut x = noise.rows(WIDE_ROWS, COLUMNS)?;
    x.row_mut(1).fill(-1.0);
    let copy = Int8Matrix::round(pool, isa, [ROWS, COLUMNS], |first, out: &mut [f32]| {
        out.copy_from_slice(&values[first * COLUMNS..][..out.len()]);
        Ok::<_, OutOfMemory>(())
    })?;
    let mut bits = Vec::new();
    let tokens: [usize; WIDE_ROWS] = std::array::from_fn(|token| token);
    // So many rows at once as there can be.
    for count in 1..=WIDE_ROWS {
        let mut out = vec![0.0; count * ROWS];
        int8_logits(pool, isa, &copy, (&x, &tokens[..count]), &mut Wide::default(), &mut out);
        bits.extend(out.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

/// The search in 8 and in 4 bits, with the logits of what it finds.
fn search(pool: &mut Pool, isa: Isa) -> Bits {
    const ROWS: usize = 500;
    const COLUMNS: usize = 40;
    let mut noise = Noise(8);
    let values = noise.floats(ROWS * COLUMNS);
    let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    let read = |first: usize, out: &mut [f32]| {
        for (out, half) in out.iter_mut().zip(&halves[first * COLUMNS..]) {
            *out = half.to_f32();
        }
        Ok::<_, OutOfMemory>(())
    };
    let int8 = Int8Matrix::round(pool, isa, [ROWS, COLUMNS], read)?;
    let int4 = Int4Matrix::round(pool, isa, [ROWS, COLUMNS], read)?;
    let rows = EncodedRows::new(bytemuck::cast_slice(&halves), COLUMNS, Encoding::F16);
    let x = noise.rows(3, COLUMNS)?;
    let mut select = Select::default();
    let mut bits = Vec::new();
    for copy in [ShortCopy::Int8(&int8), ShortCopy::Int4(&int4)] {
        for states in [0..1, 0..3] {
            let request = |state| Request { state, demand: Demand::Top(2), touched: [3] };
            select.start(pool, isa, copy, &x, states.clone().map(request));
            candidate_logits(pool, isa, rows, RowOf::Id, &x, select.unknown());
            select.narrow(pool);
            candidate_logits(pool, isa, rows, RowOf::Id, &x, select.unknown());
            select.finish(pool);
            for state in states {
                bits.extend(select.bounds(state).map(f32::to_bits));
                for candidate in select.found(state).unwrap_or_default() {
                    bits.extend([candidate.id, candidate.logit.to_bits()]);
                }
            }
        }
    }
    Ok(bits)
}
