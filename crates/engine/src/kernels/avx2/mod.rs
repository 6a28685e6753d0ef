//! AVX2 with FMA and F16C: eight f32 lanes a register, used in pairs; int8 products with or without AVX-VNNI.
#![expect(unsafe_code, reason = "intrinsics; the token proves that the CPU has them")]

/// The products of a token, from the functions of the same names beside it.
macro_rules! products {
    ($token:ty) => {
        impl super::Products for $token {
            #[inline(always)]
            fn dot_tiles(self, tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
                // SAFETY: holding the token proves that the CPU has the instructions.
                unsafe { dot_tiles(tiles, x, sums) }
            }

            #[inline(always)]
            fn dot_few<const T: usize>(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
                // SAFETY: as above.
                unsafe { dot_few::<T>(tiles, x, sums) }
            }

            #[inline(always)]
            fn dot_unpacked<const N: usize, const T: usize>(
                self,
                tiles: [&[UnpackedTile]; N],
                x: &[Quad],
                sums: &mut [[[i32; TILE_ROWS]; N]],
            ) {
                // SAFETY: as above.
                unsafe { dot_unpacked::<N, T>(tiles, x, sums) }
            }

            #[inline(always)]
            fn dot_codes<const NIBBLES: usize, const T: usize>(
                self,
                tiles: &[CodeTile],
                x: &[WideQuad],
                sums: &mut [CodeSums],
            ) {
                // SAFETY: as above.
                unsafe { dot_codes::<NIBBLES, T>(tiles, x, sums) }
            }

            #[inline(always)]
            fn multiply_registers(self, rounds: usize) -> u64 {
                // SAFETY: as above.
                unsafe { multiply_registers(rounds) }
            }
        }
    };
}

#[macro_use]
mod codes;
#[macro_use]
mod few;
mod vnni;
mod words;

use std::arch::x86_64 as x86;
use std::arch::x86_64::{__m256, __m256i};

use half::f16;

use super::isa::Kernel;
use super::lanes::{LANES, Simd, multiply_floats};
use super::lm_head::{CodeSums, CodeTile, WIDE_ROWS, WideQuad};
use super::operations::operations;
use super::prefetch::fetch_ahead;
use super::ternary::{BLOCK_TOKENS, FEW_TOKENS, QUADS, Quad, TILE_ROWS, Tile, UnpackedTile};
use vnni::Vnni;
use words::Words;

/// Proof that this CPU has AVX2, FMA and F16C, and what `P` proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ymm<P>(P);

pub(super) type Avx2 = Ymm<Words>;
pub(super) type AvxVnni = Ymm<Vnni>;

/// The int8 products, for which there are other instructions with AVX-VNNI: see [`Simd`].
pub(super) trait Products: Copy {
    fn dot_tiles(self, tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]);
    /// For `T` tokens.
    fn dot_few<const T: usize>(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]);
    /// For a block of `T` tokens.
    fn dot_unpacked<const N: usize, const T: usize>(
        self,
        tiles: [&[UnpackedTile]; N],
        x: &[Quad],
        sums: &mut [[[i32; TILE_ROWS]; N]],
    );
    /// For `T` rows of activations.
    fn dot_codes<const NIBBLES: usize, const T: usize>(
        self,
        tiles: &[CodeTile],
        x: &[WideQuad],
        sums: &mut [CodeSums],
    );
    fn multiply_registers(self, rounds: usize) -> u64;
}

/// Rows of one 256-bit register: eight rows of four columns.
const ROWS: usize = 8;
const PARTS: usize = TILE_ROWS / ROWS;

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Self(Words(())))
    }
}

impl AvxVnni {
    pub(super) fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| is_x86_feature_detected!("avxvnni")).map(|_| Self(Vnni(())))
    }
}

impl<P: Products> Ymm<P> {
    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub(super) fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<P: Products, K: Kernel>(token: Ymm<P>, kernel: K) -> K::Output {
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

impl<P: Products> Simd for Ymm<P> {
    type Vector = [__m256; 2];
    const REGISTERS: usize = 8;

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
        fn prefetch(target: *const u8) -> () { x86::_mm_prefetch::<{ x86::_MM_HINT_T1 }>(target.cast()) }
        fn prefetch_for_writing(target: *const f32) -> () {
            x86::_mm_prefetch::<{ x86::_MM_HINT_ET0 }>(target.cast())
        }
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

    #[inline(always)]
    fn dot_tiles(self, tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
        self.0.dot_tiles(tiles, x, sums);
    }

    fn dot_few(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
        match sums.len() {
            2 => self.0.dot_few::<2>(tiles, x, sums),
            3 => self.0.dot_few::<3>(tiles, x, sums),
            4 => self.0.dot_few::<4>(tiles, x, sums),
            5 => self.0.dot_few::<5>(tiles, x, sums),
            6 => self.0.dot_few::<6>(tiles, x, sums),
            7 => self.0.dot_few::<7>(tiles, x, sums),
            _ => self.0.dot_few::<FEW_TOKENS>(tiles, x, sums),
        }
    }

    fn dot_unpacked<const N: usize>(
        self,
        tiles: [&[UnpackedTile]; N],
        x: &[Quad],
        sums: &mut [[[i32; TILE_ROWS]; N]],
    ) {
        match sums.len() {
            1 => self.0.dot_unpacked::<N, 1>(tiles, x, sums),
            2 => self.0.dot_unpacked::<N, 2>(tiles, x, sums),
            3 => self.0.dot_unpacked::<N, 3>(tiles, x, sums),
            4 => self.0.dot_unpacked::<N, 4>(tiles, x, sums),
            5 => self.0.dot_unpacked::<N, 5>(tiles, x, sums),
            _ => self.0.dot_unpacked::<N, BLOCK_TOKENS>(tiles, x, sums),
        }
    }

    fn dot_codes<const NIBBLES: usize>(self, tiles: &[CodeTile], x: &[WideQuad], sums: &mut [CodeSums]) {
        match sums.len() {
            1 => self.0.dot_codes::<NIBBLES, 1>(tiles, x, sums),
            2 => self.0.dot_codes::<NIBBLES, 2>(tiles, x, sums),
            3 => self.0.dot_codes::<NIBBLES, 3>(tiles, x, sums),
            4 => self.0.dot_codes::<NIBBLES, 4>(tiles, x, sums),
            5 => self.0.dot_codes::<NIBBLES, 5>(tiles, x, sums),
            6 => self.0.dot_codes::<NIBBLES, 6>(tiles, x, sums),
            7 => self.0.dot_codes::<NIBBLES, 7>(tiles, x, sums),
            _ => self.0.dot_codes::<NIBBLES, WIDE_ROWS>(tiles, x, sums),
        }
    }

    #[inline(always)]
    fn multiply_registers(self, rounds: usize) -> u64 {
        self.0.multiply_registers(rounds)
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

/// Adds a register of sums to eight of memory.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add(total: __m256i, sums: &mut [i32]) {
    let sums: &mut [i32] = &mut sums[..ROWS];
    // SAFETY: `sums` has eight elements.
    unsafe {
        let before = x86::_mm256_loadu_si256(sums.as_ptr().cast());
        x86::_mm256_storeu_si256(sums.as_mut_ptr().cast(), x86::_mm256_add_epi32(before, total));
    }
}

/// Sums that do not wait for each other: more than the latency of any product on two ports.
const PEAK_SUMS: usize = 12;

/// What measuring the peak starts from: equal sums would be one to the compiler.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn peak_sums() -> [__m256i; PEAK_SUMS] {
    let mut sums = [x86::_mm256_setzero_si256(); PEAK_SUMS];
    for (index, sum) in sums.iter_mut().enumerate() {
        *sum = x86::_mm256_set1_epi8(std::hint::black_box(index as i8));
    }
    sums
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

/// Eight rows of a tile: part 0 to 3.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn register(tile: &Tile, part: usize) -> __m256i {
    load(tile.halves()[part / 2], part % 2)
}

/// The codes of one of four columns of packed ones, a byte each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn field(packed: __m256i, quad: usize) -> __m256i {
    let shifted = match quad {
        0 => packed,
        1 => x86::_mm256_srli_epi16::<2>(packed),
        2 => x86::_mm256_srli_epi16::<4>(packed),
        _ => x86::_mm256_srli_epi16::<6>(packed),
    };
    x86::_mm256_and_si256(shifted, x86::_mm256_set1_epi8(0b11))
}

/// The columns of unpacked tiles in fours: rows 0 to 15 and rows 16 to 31.
#[inline]
fn quads(tiles: &[UnpackedTile]) -> &[[[u8; 64]; 2]] {
    // SAFETY: a tile is four quads of 128 bytes without padding.
    unsafe { std::slice::from_raw_parts(tiles.as_ptr().cast(), tiles.len() * QUADS) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack(tile: &Tile, out: &mut UnpackedTile) {
    for (half, packed) in tile.halves().into_iter().enumerate() {
        for part in 0..2 {
            let packed = load(packed, part);
            for quad in 0..QUADS {
                let out = &mut out.half_mut(quad, half).as_chunks_mut::<32>().0[part];
                // SAFETY: the reference is valid for 32 bytes.
                unsafe { x86::_mm256_storeu_si256(out.as_mut_ptr().cast(), field(packed, quad)) };
            }
        }
    }
}
