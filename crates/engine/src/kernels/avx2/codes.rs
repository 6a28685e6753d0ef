//! Products of the codes of `lm_head`, which differ in one instruction only.

use std::arch::x86_64 as x86;
use std::arch::x86_64::__m256i;

/// `dot_codes` with these instructions, where `add_pairs` multiplies.
macro_rules! code_products {
    ($features:literal) => {
        /// Few rows of activations share the codes of sixteen rows, more those of eight: so many sums leave registers for the codes.
        #[target_feature(enable = $features)]
        fn dot_codes<const NIBBLES: usize, const T: usize>(
            tiles: &[CodeTile],
            x: &[WideQuad],
            sums: &mut [CodeSums],
        ) {
            let Some(sums) = sums.first_chunk_mut::<T>() else { return };
            sums.fill([0.0; LANES]);
            let x = x.as_chunks::<T>().0;
            for (tiles, x) in tiles.chunks(CODE_RUN / tile_quads(NIBBLES)).zip(x.chunks(CODE_RUN)) {
                if T <= 4 {
                    codes_of_run::<NIBBLES, 2, T>(tiles, x, sums);
                } else {
                    codes_of_run::<NIBBLES, 1, T>(tiles, x, sums);
                }
            }
        }

        /// A run of tiles, `P` registers of rows at a time.
        #[inline]
        #[target_feature(enable = $features)]
        fn codes_of_run<const NIBBLES: usize, const P: usize, const T: usize>(
            tiles: &[CodeTile],
            x: &[[WideQuad; T]],
            sums: &mut [CodeSums; T],
        ) {
            let quads = tile_quads(NIBBLES);
            for first in (0..2).step_by(P) {
                let mut totals = [[x86::_mm256_setzero_si256(); P]; T];
                for (tile, x) in tiles.iter().zip(x.chunks_exact(quads)) {
                    if first == 0 {
                        fetch_ahead_once(tile.0.as_ptr());
                    }
                    for quad in 0..quads {
                        let mut weights = [[x86::_mm256_setzero_si256(); 2]; P];
                        for (part, weights) in weights.iter_mut().enumerate() {
                            *weights = codes::<NIBBLES>(load(&tile.0, first + part), quad);
                        }
                        for t in 0..T {
                            for i in 0..2 {
                                let x = broadcast_pair(x[quad][t][i]);
                                for part in 0..P {
                                    totals[t][part] = add_pairs(totals[t][part], weights[part][i], x);
                                }
                            }
                        }
                    }
                }
                for t in 0..T {
                    for part in 0..P {
                        add_exactly(totals[t][part], &mut sums[t][(first + part) * ROWS..][..ROWS]);
                    }
                }
            }
        }
    };
}

/// Codes of 16 bits from packed ones of so many half bytes, for one of the quads of a tile: of columns 0 and 2, and of 1 and 3.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn codes<const NIBBLES: usize>(packed: __m256i, quad: usize) -> [__m256i; 2] {
    let mask = x86::_mm256_set1_epi16((1 << (4 * NIBBLES)) - 1);
    let shifted = if quad == 0 { packed } else { x86::_mm256_srli_epi16::<4>(packed) };
    [x86::_mm256_and_si256(shifted, mask), x86::_mm256_and_si256(x86::_mm256_srli_epi16::<8>(shifted), mask)]
}

/// Two activations of 16 bits in each 32-bit lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn broadcast_pair(x: [i16; 2]) -> __m256i {
    x86::_mm256_set1_epi32(bytemuck::cast(x))
}

/// Adds a register of sums to eight of memory, in which they are exact.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn add_exactly(total: __m256i, sums: &mut [f64]) {
    let halves = [x86::_mm256_castsi256_si128(total), x86::_mm256_extracti128_si256::<1>(total)];
    for (half, sums) in halves.into_iter().zip(sums.as_chunks_mut::<4>().0) {
        // SAFETY: `sums` has four elements.
        unsafe {
            let before = x86::_mm256_loadu_pd(sums.as_ptr());
            let after = x86::_mm256_add_pd(before, x86::_mm256_cvtepi32_pd(half));
            x86::_mm256_storeu_pd(sums.as_mut_ptr(), after);
        }
    }
}
