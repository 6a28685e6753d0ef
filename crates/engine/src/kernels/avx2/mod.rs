//! AVX2 with FMA and F16C: eight f32 lanes a register, used in pairs; int8 products summed in 16 bits as long as they fit.
#![expect(unsafe_code, reason = "intrinsics; the token proves that the CPU has them")]

use std::arch::x86_64 as x86;
use std::arch::x86_64::{__m256, __m256i};

use half::f16;

use super::int8::{NibbleSums, NibbleTile, WideQuad};
use super::isa::Kernel;
use super::operations::operations;
use super::simd::{LANES, Simd, multiply_floats};
use super::stream::fetch_ahead;
use super::ternary::{BLOCK_TOKENS, QUADS, Quad, TILE_ROWS, Tile, UnpackedTile};

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Rows of one 256-bit register: eight rows of four columns.
const ROWS: usize = 8;
const PARTS: usize = TILE_ROWS / ROWS;
/// Tiles whose products fit in 16 bits: the shifted field adds 2 · (2 · 8 · x) a tile for x in −128..=127, so the sum is in
/// −32,768..=32,512.
const PACKED_RUN: usize = 8;
/// Quads of unpacked columns whose products fit in 16 bits: each adds 2 · 2 · x, so the sum is in the same range.
const UNPACKED_RUN: usize = 64;
/// Tiles of half codes whose products fit in 16 bits: each adds 2 · (2 · 15 · 128).
const NIBBLE_RUN: usize = 4;

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub(super) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<K: Kernel>(token: Avx2, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: holding the token proves that the CPU has the instructions.
        unsafe { run(self, kernel) }
    }
}

/// Methods that apply one intrinsic to both registers of a vector.
macro_rules! lanewise {
    ($(fn $name:ident($($argument:ident),*) = $intrinsic:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($argument: [__m256; 2]),*) -> [__m256; 2] {
                // SAFETY: holding the token proves that the CPU has the instructions.
                unsafe { [$intrinsic($($argument[0]),*), $intrinsic($($argument[1]),*)] }
            }
        )*
    };
}

impl Simd for Avx2 {
    type Vector = [__m256; 2];

    lanewise! {
        fn add(a, b) = x86::_mm256_add_ps;
        fn sub(a, b) = x86::_mm256_sub_ps;
        fn mul(a, b) = x86::_mm256_mul_ps;
        fn div(a, b) = x86::_mm256_div_ps;
        fn mul_add(a, b, c) = x86::_mm256_fmadd_ps;
        fn max(a, b) = x86::_mm256_max_ps;
        fn min(a, b) = x86::_mm256_min_ps;
        fn abs(a) = abs;
        fn round(a) = x86::_mm256_round_ps::<{ x86::_MM_FROUND_TO_NEAREST_INT | x86::_MM_FROUND_NO_EXC }>;
        fn exp2_integral(a) = exp2_integral;
    }

    operations! {
        fn splat(value: f32) -> [__m256; 2] { [x86::_mm256_set1_ps(value); 2] }
        fn load(values: &[f32; LANES]) -> [__m256; 2] {
            [x86::_mm256_loadu_ps(values.as_ptr()), x86::_mm256_loadu_ps(values.as_ptr().add(8))]
        }
        fn load_f16(values: &[f16; LANES]) -> [__m256; 2] {
            [
                x86::_mm256_cvtph_ps(x86::_mm_loadu_si128(values.as_ptr().cast())),
                x86::_mm256_cvtph_ps(x86::_mm_loadu_si128(values.as_ptr().add(8).cast())),
            ]
        }
        fn load_i32(values: &[i32; LANES]) -> [__m256; 2] {
            [
                x86::_mm256_cvtepi32_ps(x86::_mm256_loadu_si256(values.as_ptr().cast())),
                x86::_mm256_cvtepi32_ps(x86::_mm256_loadu_si256(values.as_ptr().add(8).cast())),
            ]
        }
        fn store(vector: [__m256; 2], out: &mut [f32; LANES]) -> () {
            x86::_mm256_storeu_ps(out.as_mut_ptr(), vector[0]);
            x86::_mm256_storeu_ps(out.as_mut_ptr().add(8), vector[1]);
        }
        fn store_i8(a: [__m256; 2], out: &mut [i8; LANES]) -> () {
            let words = x86::_mm256_packs_epi32(x86::_mm256_cvtps_epi32(a[0]), x86::_mm256_cvtps_epi32(a[1]));
            // Packing works within 128-bit halves; this puts the quarters back in order.
            let words = x86::_mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = x86::_mm_packs_epi16(x86::_mm256_castsi256_si128(words), x86::_mm256_extracti128_si256::<1>(words));
            x86::_mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
        fn dot_tiles(tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) -> () { dot_tiles(tiles, x, sums) }
        fn dot_nibbles(tiles: &[NibbleTile], x: &[WideQuad], sums: &mut NibbleSums) -> () { dot_nibbles(tiles, x, sums) }
        fn prefetch(target: *const u8) -> () { x86::_mm_prefetch::<{ x86::_MM_HINT_T1 }>(target.cast()) }
        fn prefetch_for_writing(target: *const f32) -> () {
            x86::_mm_prefetch::<{ x86::_MM_HINT_ET0 }>(target.cast())
        }
        fn multiply_registers(rounds: usize) -> u64 { multiply_registers(rounds) }
        fn unpack(tile: &Tile, out: &mut UnpackedTile) -> () { unpack(tile, out) }
    }

    /// Twelve of sixteen registers: more than the latency of the instruction on two ports.
    #[inline(always)]
    fn multiply_float_registers(self, rounds: usize) -> u64 {
        multiply_floats::<_, 6>(self, rounds)
    }

    #[inline(always)]
    fn fetch_ahead(self, line: *const u8) {
        fetch_ahead(line);
    }

    fn dot_unpacked<const N: usize>(
        self,
        tiles: [&[UnpackedTile]; N],
        x: &[Quad],
        sums: &mut [[[i32; TILE_ROWS]; N]],
    ) {
        // SAFETY: holding the token proves that the CPU has the instructions.
        unsafe {
            match sums.len() {
                1 => dot_unpacked::<N, 1>(tiles, x, sums),
                2 => dot_unpacked::<N, 2>(tiles, x, sums),
                3 => dot_unpacked::<N, 3>(tiles, x, sums),
                4 => dot_unpacked::<N, 4>(tiles, x, sums),
                5 => dot_unpacked::<N, 5>(tiles, x, sums),
                _ => dot_unpacked::<N, BLOCK_TOKENS>(tiles, x, sums),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn abs(a: __m256) -> __m256 {
    x86::_mm256_andnot_ps(x86::_mm256_set1_ps(-0.0), a)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn exp2_integral(a: __m256) -> __m256 {
    let exponent = x86::_mm256_add_epi32(x86::_mm256_cvtps_epi32(a), x86::_mm256_set1_epi32(127));
    x86::_mm256_castsi256_ps(x86::_mm256_slli_epi32::<23>(exponent))
}

/// Four int8 activations in each 32-bit lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn broadcast(x: Quad) -> __m256i {
    x86::_mm256_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)))
}

/// 32 bytes: part 0 or 1 of a half.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(half: &[u8; 64], part: usize) -> __m256i {
    let bytes = &half.as_chunks::<32>().0[part];
    // SAFETY: the reference is valid for 32 bytes; the load need not be aligned.
    unsafe { x86::_mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Adds the pairs of 16-bit sums to the 32-bit ones after shifting them down.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn flush<const SHIFT: i32>(words: __m256i, sums: &mut [i32]) {
    let pairs = x86::_mm256_srai_epi32::<SHIFT>(x86::_mm256_madd_epi16(words, x86::_mm256_set1_epi16(1)));
    let sums: &mut [i32] = &mut sums[..ROWS];
    // SAFETY: `sums` has eight elements.
    unsafe {
        let before = x86::_mm256_loadu_si256(sums.as_ptr().cast());
        x86::_mm256_storeu_si256(sums.as_mut_ptr().cast(), x86::_mm256_add_epi32(before, pairs));
    }
}

/// Fields 1 and 3 are multiplied where they stand, four-fold, and their own sum is shifted down at the end of a run.
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_tiles(tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
    let plain = x86::_mm256_set1_epi8(0b11);
    let fourfold = x86::_mm256_set1_epi8(0b1100);
    let x = x.as_chunks::<QUADS>().0;
    for (tiles, x) in tiles.chunks(PACKED_RUN).zip(x.chunks(PACKED_RUN)) {
        let mut once = [x86::_mm256_setzero_si256(); PARTS];
        let mut four = [x86::_mm256_setzero_si256(); PARTS];
        for (tile, x) in tiles.iter().zip(x) {
            let (x0, x1, x2, x3) = (broadcast(x[0]), broadcast(x[1]), broadcast(x[2]), broadcast(x[3]));
            let halves = tile.halves();
            for half in halves {
                fetch_ahead(half.as_ptr());
            }
            for part in 0..PARTS {
                let packed = load(halves[part / 2], part % 2);
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
        for part in 0..PARTS {
            flush::<0>(once[part], &mut sums[part * ROWS..]);
            flush::<2>(four[part], &mut sums[part * ROWS..]);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack(tile: &Tile, out: &mut UnpackedTile) {
    let mask = x86::_mm256_set1_epi8(3);
    for (half, packed) in tile.halves().into_iter().enumerate() {
        for part in 0..2 {
            let packed = load(packed, part);
            let fields = [
                packed,
                x86::_mm256_srli_epi16::<2>(packed),
                x86::_mm256_srli_epi16::<4>(packed),
                x86::_mm256_srli_epi16::<6>(packed),
            ];
            for (quad, field) in fields.into_iter().enumerate() {
                let out = &mut out.half_mut(quad, half).as_chunks_mut::<32>().0[part];
                // SAFETY: the reference is valid for 32 bytes.
                unsafe {
                    x86::_mm256_storeu_si256(out.as_mut_ptr().cast(), x86::_mm256_and_si256(field, mask));
                };
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_nibbles(tiles: &[NibbleTile], x: &[WideQuad], sums: &mut NibbleSums) {
    *sums = NibbleSums::default();
    let mask = x86::_mm256_set1_epi8(15);
    for (tiles, x) in tiles.chunks(NIBBLE_RUN).zip(x.chunks(NIBBLE_RUN * 2)) {
        let mut high = [x86::_mm256_setzero_si256(); 2];
        let mut low = [x86::_mm256_setzero_si256(); 2];
        for (tile, x) in tiles.iter().zip(x.as_chunks::<2>().0) {
            fetch_ahead(tile.0.as_ptr());
            let high_x = [broadcast(x[0].high), broadcast(x[1].high)];
            let low_x = [broadcast(x[0].low), broadcast(x[1].low)];
            for part in 0..2 {
                let packed = load(&tile.0, part);
                let first = x86::_mm256_and_si256(packed, mask);
                let second = x86::_mm256_and_si256(x86::_mm256_srli_epi16::<4>(packed), mask);
                for (total, first_x, second_x) in
                    [(&mut high[part], high_x[0], high_x[1]), (&mut low[part], low_x[0], low_x[1])]
                {
                    let products = x86::_mm256_add_epi16(
                        x86::_mm256_maddubs_epi16(first, first_x),
                        x86::_mm256_maddubs_epi16(second, second_x),
                    );
                    *total = x86::_mm256_add_epi16(*total, products);
                }
            }
        }
        for part in 0..2 {
            flush::<0>(high[part], &mut sums.high[part * ROWS..]);
            flush::<0>(low[part], &mut sums.low[part * ROWS..]);
        }
    }
}

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

/// The columns of unpacked tiles in fours: rows 0 to 15 and rows 16 to 31.
#[inline]
fn quads(tiles: &[UnpackedTile]) -> &[[[u8; 64]; 2]] {
    // SAFETY: a tile is four quads of 128 bytes without padding.
    unsafe { std::slice::from_raw_parts(tiles.as_ptr().cast(), tiles.len() * QUADS) }
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

/// Sums that do not wait for each other: more than the latency of both instructions on two ports.
const PEAK_SUMS: usize = 12;

#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_registers(rounds: usize) -> u64 {
    let mut sums = [x86::_mm256_setzero_si256(); PEAK_SUMS];
    let (a, b) =
        (x86::_mm256_set1_epi8(std::hint::black_box(1)), x86::_mm256_set1_epi8(std::hint::black_box(2)));
    for (index, sum) in sums.iter_mut().enumerate() {
        // Equal sums would be one to the compiler.
        *sum = x86::_mm256_set1_epi8(std::hint::black_box(index as i8));
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            // What is multiplied changes: the compiler would take a constant product out of the loop.
            *sum = x86::_mm256_add_epi16(a, x86::_mm256_maddubs_epi16(*sum, b));
        }
    }
    std::hint::black_box(sums);
    (rounds * PEAK_SUMS * 32) as u64
}
