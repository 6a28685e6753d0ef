//! AVX-512 with VNNI: sixteen f32 lanes a register, 64 int8 products an instruction.
#![expect(unsafe_code, reason = "intrinsics; the token proves that the CPU has them")]

use std::arch::x86_64 as x86;
use std::arch::x86_64::{__m512, __m512i};

use half::f16;

use super::isa::Kernel;
use super::lanes::{LANES, Simd, multiply_floats};
use super::lm_head::{CODE_RUN, CodeSums, CodeTile, WIDE_ROWS, WideQuad, tile_quads};
use super::operations::operations;
use super::prefetch::{fetch_ahead, fetch_ahead_once};
use super::ternary::{BLOCK_TOKENS, FEW_TOKENS, QUADS, Quad, TILE_ROWS, Tile, UnpackedTile};

/// Proof that this CPU has AVX-512 F, BW, VL and VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub(super) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn run<K: Kernel>(token: Avx512, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: holding the token proves that the CPU has the instructions.
        unsafe { run(self, kernel) }
    }
}

impl Simd for Avx512 {
    type Vector = __m512;
    const REGISTERS: usize = 32;

    operations! {
        fn splat(value: f32) -> __m512 { x86::_mm512_set1_ps(value) }
        fn load(values: &[f32; LANES]) -> __m512 { x86::_mm512_loadu_ps(values.as_ptr()) }
        fn load_f16(values: &[f16; LANES]) -> __m512 {
            x86::_mm512_cvtph_ps(x86::_mm256_loadu_si256(values.as_ptr().cast()))
        }
        fn load_i32(values: &[i32; LANES]) -> __m512 {
            x86::_mm512_cvtepi32_ps(x86::_mm512_loadu_si512(values.as_ptr().cast()))
        }
        fn store(vector: __m512, out: &mut [f32; LANES]) -> () { x86::_mm512_storeu_ps(out.as_mut_ptr(), vector) }
        fn add(a: __m512, b: __m512) -> __m512 { x86::_mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { x86::_mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { x86::_mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { x86::_mm512_div_ps(a, b) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { x86::_mm512_fmadd_ps(a, b, c) }
        fn max(a: __m512, b: __m512) -> __m512 { x86::_mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { x86::_mm512_min_ps(a, b) }
        fn abs(a: __m512) -> __m512 { x86::_mm512_abs_ps(a) }
        fn round(a: __m512) -> __m512 {
            x86::_mm512_roundscale_ps::<{ x86::_MM_FROUND_TO_NEAREST_INT | x86::_MM_FROUND_NO_EXC }>(a)
        }
        fn exp2_integral(a: __m512) -> __m512 {
            let exponent = x86::_mm512_add_epi32(x86::_mm512_cvtps_epi32(a), x86::_mm512_set1_epi32(127));
            x86::_mm512_castsi512_ps(x86::_mm512_slli_epi32::<23>(exponent))
        }
        fn store_i8(a: __m512, out: &mut [i8; LANES]) -> () {
            x86::_mm_storeu_si128(out.as_mut_ptr().cast(), x86::_mm512_cvtsepi32_epi8(x86::_mm512_cvtps_epi32(a)))
        }
        fn dot_tiles(tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) -> () { dot_tiles(tiles, x, sums) }
        fn prefetch(target: *const u8) -> () { x86::_mm_prefetch::<{ x86::_MM_HINT_T1 }>(target.cast()) }
        fn prefetch_for_writing(target: *const f32) -> () {
            x86::_mm_prefetch::<{ x86::_MM_HINT_ET0 }>(target.cast())
        }
        fn multiply_registers(rounds: usize) -> u64 { multiply_registers(rounds) }
        fn unpack(tile: &Tile, out: &mut UnpackedTile) -> () { unpack(tile, out) }
    }

    fn dot_few(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
        // SAFETY: holding the token proves that the CPU has the instructions.
        unsafe {
            match sums.len() {
                2 => dot_few::<2, 4>(tiles, x, sums),
                3 => dot_few::<3, 2>(tiles, x, sums),
                4 => dot_few::<4, 1>(tiles, x, sums),
                5 => dot_few::<5, 1>(tiles, x, sums),
                6 => dot_few::<6, 1>(tiles, x, sums),
                7 => dot_few::<7, 1>(tiles, x, sums),
                _ => dot_few::<FEW_TOKENS, 1>(tiles, x, sums),
            }
        }
    }

    fn dot_codes<const NIBBLES: usize>(self, tiles: &[CodeTile], x: &[WideQuad], sums: &mut [CodeSums]) {
        // SAFETY: holding the token proves that the CPU has the instructions.
        unsafe {
            match sums.len() {
                1 => dot_codes::<NIBBLES, 1>(tiles, x, sums),
                2 => dot_codes::<NIBBLES, 2>(tiles, x, sums),
                3 => dot_codes::<NIBBLES, 3>(tiles, x, sums),
                4 => dot_codes::<NIBBLES, 4>(tiles, x, sums),
                5 => dot_codes::<NIBBLES, 5>(tiles, x, sums),
                6 => dot_codes::<NIBBLES, 6>(tiles, x, sums),
                7 => dot_codes::<NIBBLES, 7>(tiles, x, sums),
                _ => dot_codes::<NIBBLES, WIDE_ROWS>(tiles, x, sums),
            }
        }
    }

    /// Half of the registers: twice the latency of the instruction on two ports.
    #[inline(always)]
    fn multiply_float_registers(self, rounds: usize) -> u64 {
        multiply_floats::<_, 16>(self, rounds)
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

/// Four int8 activations in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn broadcast(x: Quad) -> __m512i {
    x86::_mm512_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)))
}

/// Two activations of 16 bits in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn broadcast_pair(x: [i16; 2]) -> __m512i {
    x86::_mm512_set1_epi32(bytemuck::cast(x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes; the load need not be aligned.
    unsafe { x86::_mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The two-bit fields are multiplied where they stand: field `p` counts 4^p-fold, and its own sum is shifted down at the
/// end. So a tile costs four ANDs and no shift. A sum stays below 192 · 128 · columns / 4, that is 2^31 at 349,525 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_tiles(tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
    let zero = x86::_mm512_setzero_si512();
    let fields = [
        x86::_mm512_set1_epi8(0b11),
        x86::_mm512_set1_epi8(0b1100),
        x86::_mm512_set1_epi8(0b11_0000),
        x86::_mm512_set1_epi8(0b1100_0000u8.cast_signed()),
    ];
    let mut low = [zero; QUADS];
    let mut high = [zero; QUADS];
    for (tile, x) in tiles.iter().zip(x.as_chunks::<QUADS>().0) {
        let [first, second] = tile.halves();
        fetch_ahead(first.as_ptr());
        fetch_ahead(second.as_ptr());
        let (first, second) = (load(first), load(second));
        for (quad, &x) in x.iter().enumerate() {
            let x = broadcast(x);
            low[quad] = x86::_mm512_dpbusd_epi32(low[quad], x86::_mm512_and_si512(first, fields[quad]), x);
            high[quad] = x86::_mm512_dpbusd_epi32(high[quad], x86::_mm512_and_si512(second, fields[quad]), x);
        }
    }
    for (sums, fields) in sums.as_chunks_mut::<LANES>().0.iter_mut().zip([low, high]) {
        let odd = x86::_mm512_add_epi32(fields[0], x86::_mm512_srai_epi32::<2>(fields[1]));
        let even = x86::_mm512_add_epi32(
            x86::_mm512_srai_epi32::<4>(fields[2]),
            x86::_mm512_srai_epi32::<6>(fields[3]),
        );
        let total = x86::_mm512_add_epi32(odd, even);
        // SAFETY: `sums` has sixteen elements.
        unsafe {
            let before = x86::_mm512_loadu_si512(sums.as_ptr().cast());
            x86::_mm512_storeu_si512(sums.as_mut_ptr().cast(), x86::_mm512_add_epi32(before, total));
        }
    }
}

/// The fields are shifted down once for all `T` tokens, so that they can share a sum; where that would leave fewer sums than the
/// product's latency needs, each sum is kept in `SUMS` parts.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_few<const T: usize, const SUMS: usize>(tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
    let Some(sums) = sums.first_chunk_mut::<T>() else { return };
    let mask = x86::_mm512_set1_epi8(0b11);
    let mut totals = [[[x86::_mm512_setzero_si512(); SUMS]; 2]; T];
    for (tile, x) in tiles.iter().zip(x.as_chunks::<T>().0.as_chunks::<QUADS>().0) {
        let [first, second] = tile.halves();
        fetch_ahead(first.as_ptr());
        fetch_ahead(second.as_ptr());
        let (first, second) = (load(first), load(second));
        let fields = [
            [first, second],
            [x86::_mm512_srli_epi32::<2>(first), x86::_mm512_srli_epi32::<2>(second)],
            [x86::_mm512_srli_epi32::<4>(first), x86::_mm512_srli_epi32::<4>(second)],
            [x86::_mm512_srli_epi32::<6>(first), x86::_mm512_srli_epi32::<6>(second)],
        ];
        for quad in 0..QUADS {
            let [first, second] = fields[quad];
            let weights = [x86::_mm512_and_si512(first, mask), x86::_mm512_and_si512(second, mask)];
            for t in 0..T {
                let x = broadcast(x[quad][t]);
                for half in 0..2 {
                    let total = &mut totals[t][half][quad % SUMS];
                    *total = x86::_mm512_dpbusd_epi32(*total, weights[half], x);
                }
            }
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for (sums, totals) in sums.as_chunks_mut::<LANES>().0.iter_mut().zip(totals) {
            // SAFETY: `sums` has sixteen elements.
            unsafe {
                let mut total = x86::_mm512_loadu_si512(sums.as_ptr().cast());
                for part in totals {
                    total = x86::_mm512_add_epi32(total, part);
                }
                x86::_mm512_storeu_si512(sums.as_mut_ptr().cast(), total);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn unpack(tile: &Tile, out: &mut UnpackedTile) {
    let mask = x86::_mm512_set1_epi8(3);
    for (half, packed) in tile.halves().into_iter().enumerate() {
        let packed = load(packed);
        let fields = [
            packed,
            x86::_mm512_srli_epi32::<2>(packed),
            x86::_mm512_srli_epi32::<4>(packed),
            x86::_mm512_srli_epi32::<6>(packed),
        ];
        for (quad, field) in fields.into_iter().enumerate() {
            let out = out.half_mut(quad, half);
            // SAFETY: the reference is valid for 64 bytes.
            unsafe { x86::_mm512_storeu_si512(out.as_mut_ptr().cast(), x86::_mm512_and_si512(field, mask)) };
        }
    }
}

/// Columns 0 and 2 of each four are summed apart from columns 1 and 3, to hide the latency of the products.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_codes<const NIBBLES: usize, const T: usize>(
    tiles: &[CodeTile],
    x: &[WideQuad],
    sums: &mut [CodeSums],
) {
    let Some(sums) = sums.first_chunk_mut::<T>() else { return };
    sums.fill([0.0; LANES]);
    let quads = tile_quads(NIBBLES);
    for (tiles, x) in tiles.chunks(CODE_RUN / quads).zip(x.as_chunks::<T>().0.chunks(CODE_RUN)) {
        // With few rows two tiles apart, to hide the latency of the products.
        let totals = if T <= 2 {
            codes_of_run::<NIBBLES, T, 2>(tiles, x)
        } else {
            codes_of_run::<NIBBLES, T, 1>(tiles, x)
        };
        for t in 0..T {
            let halves =
                [x86::_mm512_castsi512_si256(totals[t]), x86::_mm512_extracti64x4_epi64::<1>(totals[t])];
            for (half, sums) in halves.into_iter().zip(sums[t].as_chunks_mut::<8>().0) {
                // SAFETY: `sums` has eight elements.
                unsafe {
                    let before = x86::_mm512_loadu_pd(sums.as_ptr());
                    let after = x86::_mm512_add_pd(before, x86::_mm512_cvtepi32_pd(half));
                    x86::_mm512_storeu_pd(sums.as_mut_ptr(), after);
                }
            }
        }
    }
}

/// A run of tiles, `APART` of them in sums of their own.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn codes_of_run<const NIBBLES: usize, const T: usize, const APART: usize>(
    tiles: &[CodeTile],
    x: &[[WideQuad; T]],
) -> [__m512i; T] {
    let mut totals = [[[x86::_mm512_setzero_si512(); 2]; T]; APART];
    let (together, rest) = tiles.as_chunks::<APART>();
    let quads = tile_quads(NIBBLES);
    for (tiles, x) in together.iter().zip(x.chunks_exact(APART * quads)) {
        for apart in 0..APART {
            multiply_codes::<NIBBLES, T>(&tiles[apart], &x[apart * quads..], &mut totals[apart]);
        }
    }
    for (tile, x) in rest.iter().zip(x[together.len() * APART * quads..].chunks_exact(quads)) {
        multiply_codes::<NIBBLES, T>(tile, x, &mut totals[0]);
    }
    let mut sums = [x86::_mm512_setzero_si512(); T];
    for totals in totals {
        for t in 0..T {
            sums[t] = x86::_mm512_add_epi32(sums[t], x86::_mm512_add_epi32(totals[t][0], totals[t][1]));
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_codes<const NIBBLES: usize, const T: usize>(
    tile: &CodeTile,
    x: &[[WideQuad; T]],
    totals: &mut [[__m512i; 2]; T],
) {
    let mask = x86::_mm512_set1_epi16((1 << (4 * NIBBLES)) - 1);
    fetch_ahead_once(tile.0.as_ptr());
    let mut packed = load(&tile.0);
    for x in x.iter().take(tile_quads(NIBBLES)) {
        let codes = [
            x86::_mm512_and_si512(packed, mask),
            x86::_mm512_and_si512(x86::_mm512_srli_epi16::<8>(packed), mask),
        ];
        packed = x86::_mm512_srli_epi16::<4>(packed);
        for t in 0..T {
            for i in 0..2 {
                totals[t][i] = x86::_mm512_dpwssd_epi32(totals[t][i], codes[i], broadcast_pair(x[t][i]));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_unpacked<const N: usize, const T: usize>(
    tiles: [&[UnpackedTile]; N],
    x: &[Quad],
    sums: &mut [[[i32; TILE_ROWS]; N]],
) {
    let Some(sums) = sums.first_chunk_mut::<T>() else { return };
    // Loops over constants rather than closures here and below: only they are compiled with these instructions and unrolled.
    let mut totals = [[[x86::_mm512_setzero_si512(); 2]; N]; T];
    for t in 0..T {
        for n in 0..N {
            let [low, high] = sums[t][n].as_chunks::<LANES>().0 else { return };
            // SAFETY: both have sixteen elements.
            totals[t][n] = unsafe {
                [x86::_mm512_loadu_si512(low.as_ptr().cast()), x86::_mm512_loadu_si512(high.as_ptr().cast())]
            };
        }
    }
    let x = x.as_chunks::<T>().0.as_chunks::<QUADS>().0;
    for (index, x) in (0..tiles[0].len()).zip(x) {
        for quad in 0..QUADS {
            let mut weights = [[x86::_mm512_setzero_si512(); 2]; N];
            for n in 0..N {
                let tile = &tiles[n][index];
                weights[n] = [load(tile.half(quad, 0)), load(tile.half(quad, 1))];
            }
            for t in 0..T {
                let x = broadcast(x[quad][t]);
                for n in 0..N {
                    totals[t][n][0] = x86::_mm512_dpbusd_epi32(totals[t][n][0], weights[n][0], x);
                    totals[t][n][1] = x86::_mm512_dpbusd_epi32(totals[t][n][1], weights[n][1], x);
                }
            }
        }
    }
    for t in 0..T {
        for n in 0..N {
            let [low, high] = sums[t][n].as_chunks_mut::<LANES>().0 else { return };
            // SAFETY: both have sixteen elements.
            unsafe {
                x86::_mm512_storeu_si512(low.as_mut_ptr().cast(), totals[t][n][0]);
                x86::_mm512_storeu_si512(high.as_mut_ptr().cast(), totals[t][n][1]);
            }
        }
    }
}

/// Independent sums: twice the latency of the instruction on two ports.
const PEAK_SUMS: usize = 20;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_registers(rounds: usize) -> u64 {
    let mut sums = [x86::_mm512_setzero_si512(); PEAK_SUMS];
    let (a, b) =
        (x86::_mm512_set1_epi8(std::hint::black_box(1)), x86::_mm512_set1_epi8(std::hint::black_box(2)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = x86::_mm512_dpbusd_epi32(*sum, a, b);
        }
        // Otherwise the compiler would multiply once.
        std::hint::black_box(&mut ());
    }
    std::hint::black_box(sums);
    (rounds * PEAK_SUMS * 64) as u64
}
