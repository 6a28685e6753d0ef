//! Products summed in 16 bits as long as they fit, then in 32.

use std::arch::x86_64 as x86;
use std::arch::x86_64::__m256i;

use super::codes::{add_exactly, broadcast_pair, codes};
use super::{PEAK_SUMS, ROWS, add, broadcast, field, load, peak_sums, quads, register};
use crate::kernels::lanes::LANES;
use crate::kernels::lm_head::{CODE_RUN, CodeSums, CodeTile, WideQuad, tile_quads};
use crate::kernels::prefetch::{fetch_ahead, fetch_ahead_once};
use crate::kernels::ternary::{QUADS, Quad, TILE_ROWS, Tile, UnpackedTile};

/// Proof that this CPU has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) struct Words(pub(super) ());

/// Tiles whose products fit in 16 bits: the shifted field adds 2 · (2 · 8 · x) a tile for x in −128..=127, so the sum is in
/// −32,768..=32,512.
const PACKED_RUN: usize = 8;
/// Quads of unpacked columns whose products fit in 16 bits: each adds 2 · 2 · x, so the sum is in the same range.
const UNPACKED_RUN: usize = 64;
/// Tiles of which that many quads are unpacked.
const FEW_RUN: usize = UNPACKED_RUN / QUADS;

products!(Words);

/// Adds the pairs of 16-bit sums to the 32-bit ones after shifting them down.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn flush<const SHIFT: i32>(words: __m256i, sums: &mut [i32]) {
    let pairs = x86::_mm256_srai_epi32::<SHIFT>(x86::_mm256_madd_epi16(words, x86::_mm256_set1_epi16(1)));
    add(pairs, sums);
}

/// Fields 1 and 3 are multiplied where they stand, four-fold, and their own sum is shifted down at the end of a run. One half of the rows
/// after the other: sums of both would leave too few registers, and what is put aside on the stack may be slow to come back.
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_tiles(tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
    let x = x.as_chunks::<QUADS>().0;
    for (tiles, x) in tiles.chunks(PACKED_RUN).zip(x.chunks(PACKED_RUN)) {
        for (half, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            half_of_run(tiles, x, half, sums);
        }
    }
}

/// A run of tiles, for one half of the rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn half_of_run(tiles: &[Tile], x: &[[Quad; QUADS]], half: usize, sums: &mut [i32; LANES]) {
    let plain = x86::_mm256_set1_epi8(0b11);
    let fourfold = x86::_mm256_set1_epi8(0b1100);
    let mut once = [x86::_mm256_setzero_si256(); 2];
    let mut four = [x86::_mm256_setzero_si256(); 2];
    for (tile, x) in tiles.iter().zip(x) {
        let (x0, x1, x2, x3) = (broadcast(x[0]), broadcast(x[1]), broadcast(x[2]), broadcast(x[3]));
        let rows = tile.halves()[half];
        fetch_ahead(rows.as_ptr());
        for part in 0..2 {
            let packed = load(rows, part);
            let upper = x86::_mm256_srli_epi16::<4>(packed);
            let products = x86::_mm256_add_epi16(
                x86::_mm256_maddubs_epi16(x86::_mm256_and_si256(packed, plain), x0),
                x86::_mm256_maddubs_epi16(x86::_mm256_and_si256(upper, plain), x2),
            );
            once[part] = x86::_mm256_add_epi16(once[part], products);
            let products = x86::_mm256_add_epi16(
                x86::_mm256_maddubs_epi16(x86::_mm256_and_si256(packed, fourfold), x1),
                x86::_mm256_maddubs_epi16(x86::_mm256_and_si256(upper, fourfold), x3),
            );
            four[part] = x86::_mm256_add_epi16(four[part], products);
        }
    }
    for part in 0..2 {
        flush::<0>(once[part], &mut sums[part * ROWS..]);
        flush::<2>(four[part], &mut sums[part * ROWS..]);
    }
}

/// Few tokens share the weights of sixteen rows at a time, more those of eight: so many sums leave registers for the weights, and for
/// the products of several columns, which the compiler adds first.
const fn registers_for(tokens: usize) -> usize {
    if tokens <= 3 { 2 } else { 1 }
}

/// Adds the products of four columns, in pairs, to sums of 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_products(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    x86::_mm256_add_epi16(sums, x86::_mm256_maddubs_epi16(weights, x))
}

few_products!("avx2,fma,f16c", flush::<0>);

/// Adds the products of two codes and two activations to each sum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_pairs(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    x86::_mm256_add_epi32(sums, x86::_mm256_madd_epi16(codes, x))
}

code_products!("avx2,fma,f16c");

/// Sixteen rows at a time: their sums for six tokens, two registers of weights, an activation and a product are all sixteen
/// registers.
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_unpacked<const N: usize, const T: usize>(
    tiles: [&[UnpackedTile]; N],
    x: &[Quad],
    sums: &mut [[[i32; TILE_ROWS]; N]],
) {
    let Some(sums) = sums.first_chunk_mut::<T>() else { return };
    let x = x.as_chunks::<T>().0;
    for n in 0..N {
        for (quads, x) in quads(tiles[n]).chunks(UNPACKED_RUN).zip(x.chunks(UNPACKED_RUN)) {
            for half in 0..2 {
                let totals = sum_of_run(quads, x, half);
                for t in 0..T {
                    for part in 0..2 {
                        flush::<0>(totals[t][part], &mut sums[t][n][(2 * half + part) * ROWS..]);
                    }
                }
            }
        }
    }
}

/// Pairs of 16-bit sums over a run of columns, for one half of the rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_of_run<const T: usize>(quads: &[[[u8; 64]; 2]], x: &[[Quad; T]], half: usize) -> [[__m256i; 2]; T] {
    let mut totals = [[x86::_mm256_setzero_si256(); 2]; T];
    // One quad a step: with more, the compiler adds their products first and runs out of registers.
    for (quad, x) in quads.iter().zip(x) {
        let weights = [load(&quad[half], 0), load(&quad[half], 1)];
        // Loops over constants rather than closures: only they are compiled with these instructions and unrolled.
        for t in 0..T {
            let x = broadcast(x[t]);
            for part in 0..2 {
                let products = x86::_mm256_maddubs_epi16(weights[part], x);
                totals[t][part] = x86::_mm256_add_epi16(totals[t][part], products);
            }
        }
    }
    totals
}

#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_registers(rounds: usize) -> u64 {
    let mut sums = peak_sums();
    let (a, b) =
        (x86::_mm256_set1_epi8(std::hint::black_box(1)), x86::_mm256_set1_epi8(std::hint::black_box(2)));
    for _ in 0..rounds {
        for sum in &mut sums {
            // What is multiplied changes: the compiler would take a constant product out of the loop.
            *sum = x86::_mm256_add_epi16(a, x86::_mm256_maddubs_epi16(*sum, b));
        }
    }
    std::hint::black_box(sums);
    (rounds * PEAK_SUMS * 32) as u64
}
