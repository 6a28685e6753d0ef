//! Four products a 32-bit lane and instruction.

use std::arch::x86_64 as x86;
use std::arch::x86_64::__m256i;

use super::codes::{add_exactly, broadcast_pair, codes};
use super::{PARTS, PEAK_SUMS, ROWS, add, broadcast, field, load, peak_sums, quads, register};
use crate::kernels::lanes::LANES;
use crate::kernels::lm_head::{CODE_RUN, CodeSums, CodeTile, WideQuad, tile_quads};
use crate::kernels::prefetch::{fetch_ahead, fetch_ahead_once};
use crate::kernels::ternary::{QUADS, Quad, TILE_ROWS, Tile, UnpackedTile};

/// Proof that this CPU has AVX2 and AVX-VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) struct Vnni(pub(super) ());

/// Tiles that are multiplied by a few tokens one part after the other: 2 KiB.
const FEW_RUN: usize = 16;

products!(Vnni);

/// Fields 1 and 3 are multiplied where they stand, four-fold, and their own sum is shifted down at the end.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn dot_tiles(tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
    let plain = x86::_mm256_set1_epi8(0b11);
    let fourfold = x86::_mm256_set1_epi8(0b1100);
    let mut once = [x86::_mm256_setzero_si256(); PARTS];
    let mut four = [x86::_mm256_setzero_si256(); PARTS];
    for (tile, x) in tiles.iter().zip(x.as_chunks::<QUADS>().0) {
        let (x0, x1, x2, x3) = (broadcast(x[0]), broadcast(x[1]), broadcast(x[2]), broadcast(x[3]));
        let halves = tile.halves();
        for half in halves {
            fetch_ahead(half.as_ptr());
        }
        for part in 0..PARTS {
            let packed = load(halves[part / 2], part % 2);
            let upper = x86::_mm256_srli_epi16::<4>(packed);
            once[part] = x86::_mm256_dpbusd_avx_epi32(once[part], x86::_mm256_and_si256(packed, plain), x0);
            four[part] =
                x86::_mm256_dpbusd_avx_epi32(four[part], x86::_mm256_and_si256(packed, fourfold), x1);
            once[part] = x86::_mm256_dpbusd_avx_epi32(once[part], x86::_mm256_and_si256(upper, plain), x2);
            four[part] = x86::_mm256_dpbusd_avx_epi32(four[part], x86::_mm256_and_si256(upper, fourfold), x3);
        }
    }
    for part in 0..PARTS {
        let total = x86::_mm256_add_epi32(once[part], x86::_mm256_srai_epi32::<2>(four[part]));
        add(total, &mut sums[part * ROWS..]);
    }
}

/// As many as make about twelve sums, for the latency of the product.
const fn registers_for(tokens: usize) -> usize {
    match tokens {
        ..=3 => 4,
        4..=6 => 2,
        _ => 1,
    }
}

/// Adds the products of four columns to each sum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn add_products(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    x86::_mm256_dpbusd_avx_epi32(sums, weights, x)
}

few_products!("avx2,fma,f16c,avxvnni", add);

/// Adds the products of two codes and two activations to each sum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn add_pairs(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    x86::_mm256_dpwssd_avx_epi32(sums, codes, x)
}

code_products!("avx2,fma,f16c,avxvnni");

/// Sixteen rows at a time: with six tokens they make twelve sums, more than the latency of the product on two ports.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn dot_unpacked<const N: usize, const T: usize>(
    tiles: [&[UnpackedTile]; N],
    x: &[Quad],
    sums: &mut [[[i32; TILE_ROWS]; N]],
) {
    let Some(sums) = sums.first_chunk_mut::<T>() else { return };
    let x = x.as_chunks::<T>().0;
    for n in 0..N {
        for half in 0..2 {
            let mut totals = [[x86::_mm256_setzero_si256(); 2]; T];
            for (quad, x) in quads(tiles[n]).iter().zip(x) {
                let weights = [load(&quad[half], 0), load(&quad[half], 1)];
                // Loops over constants rather than closures: only they are compiled with these instructions and unrolled.
                for t in 0..T {
                    let x = broadcast(x[t]);
                    for part in 0..2 {
                        totals[t][part] = x86::_mm256_dpbusd_avx_epi32(totals[t][part], weights[part], x);
                    }
                }
            }
            for t in 0..T {
                for part in 0..2 {
                    add(totals[t][part], &mut sums[t][n][(2 * half + part) * ROWS..]);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn multiply_registers(rounds: usize) -> u64 {
    let mut sums = peak_sums();
    let (a, b) =
        (x86::_mm256_set1_epi8(std::hint::black_box(1)), x86::_mm256_set1_epi8(std::hint::black_box(2)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = x86::_mm256_dpbusd_avx_epi32(*sum, a, b);
        }
    }
    std::hint::black_box(sums);
    (rounds * PEAK_SUMS * 32) as u64
}
