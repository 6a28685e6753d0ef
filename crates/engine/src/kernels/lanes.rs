//! The vocabulary of the kernels: sixteen f32 lanes and the integer dot products. `scalar` defines what they compute.
//!
//! Every operation is either exact or rounded once as IEEE 754 says, and each implementation performs the same operations in
//! the same order. So a kernel written over [`Simd`] has the same bits on every instruction set, by construction.
//! A `Simd` value is a token: it exists only where the CPU has the instructions, so its methods are safe to call.

use half::f16;

use super::lm_head::{CodeSums, CodeTile, WideQuad};
use super::ternary::{Quad, TILE_ROWS, Tile, UnpackedTile};

/// Sixteen f32, or anything else that comes in sixteens.
pub(super) const LANES: usize = 16;

pub(super) trait Simd: Copy {
    /// Sixteen f32.
    type Vector: Copy;
    /// How many vectors fit into the registers.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::Vector;
    fn load(self, values: &[f32; LANES]) -> Self::Vector;
    fn load_f16(self, values: &[f16; LANES]) -> Self::Vector;
    fn load_i32(self, values: &[i32; LANES]) -> Self::Vector;
    fn store(self, vector: Self::Vector, out: &mut [f32; LANES]);
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `if a > b { a } else { b }`: with NaN on either side it is `b`.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `if a < b { a } else { b }`: with NaN on either side it is `b`.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn abs(self, a: Self::Vector) -> Self::Vector;
    /// Rounds half to even.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// `2^a` for integral `a` in -126..=127.
    fn exp2_integral(self, a: Self::Vector) -> Self::Vector;
    /// Stores integral values in -128..=127.
    fn store_i8(self, a: Self::Vector, out: &mut [i8; LANES]);

    /// Adds the dot products of 32 packed rows, as codes 0, 1, 2, with one row of activations.
    fn dot_tiles(self, tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]);
    /// The same with each of two to eight rows of activations: adds to `sums[t]` for row `t`; x: `[columns / 4, rows]`.
    fn dot_few(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]);
    /// Spreads a tile into one byte a code.
    fn unpack(self, tile: &Tile, out: &mut UnpackedTile);
    /// Adds to `sums[t][n]` the dot products of the 32 rows of `tiles[n]` with token `t` of a block of at most six tokens;
    /// tiles: equally many for each `n`, x: `[columns / 4, tokens]`.
    fn dot_unpacked<const N: usize>(
        self,
        tiles: [&[UnpackedTile]; N],
        x: &[Quad],
        sums: &mut [[[i32; TILE_ROWS]; N]],
    );
    /// Sums of codes of so many half bytes times activations of 16 bits, of sixteen rows with each of one to eight rows of
    /// activations; x: `[columns / 4, rows]`, for all tiles or more.
    fn dot_codes<const NIBBLES: usize>(self, tiles: &[CodeTile], x: &[WideQuad], sums: &mut [CodeSums]);
    /// Asks for what follows `line` in a stream that is read from the beginning to the end.
    fn fetch_ahead(self, line: *const u8);
    /// Asks for the cache line of `target`, which will be read.
    fn prefetch(self, target: *const u8);
    /// Asks for the cache line of `target`, which will be written.
    fn prefetch_for_writing(self, target: *const f32);
    /// Multiplies and adds int8 in registers, as fast as the instructions go; returns the number of multiply-adds.
    fn multiply_registers(self, rounds: usize) -> u64;
    /// The same with f32: [`multiply_floats`] with as many sums as the registers hold.
    fn multiply_float_registers(self, rounds: usize) -> u64;
}

/// The sum of the lanes: halves onto halves.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, vector: S::Vector) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(vector, &mut lanes);
    fold(lanes, |a, b| a + b)
}

/// The largest lane; see [`Simd::max`] for NaN.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, vector: S::Vector) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(vector, &mut lanes);
    greatest(lanes)
}

/// The greatest of sixteen numbers; see [`Simd::max`] for NaN.
#[inline(always)]
pub(super) fn greatest(lanes: [f32; LANES]) -> f32 {
    fold(lanes, |a, b| if a > b { a } else { b })
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Adds lane by lane: the last step before [`sum`] when four partial sums hide the latency of addition.
#[inline(always)]
pub(super) fn sum_four<S: Simd>(simd: S, partial: [S::Vector; 4]) -> f32 {
    let [a, b, c, d] = partial;
    sum(simd, simd.add(simd.add(a, b), simd.add(c, d)))
}

/// Adds products to `SUMS` vectors that do not wait for each other; returns the number of multiply-adds.
#[inline(always)]
pub(super) fn multiply_floats<S: Simd, const SUMS: usize>(simd: S, rounds: usize) -> u64 {
    let (a, b) = (simd.splat(std::hint::black_box(0.5)), simd.splat(std::hint::black_box(0.25)));
    let mut sums = [simd.splat(0.0); SUMS];
    for (index, sum) in sums.iter_mut().enumerate() {
        // Equal sums would be one to the compiler.
        *sum = simd.splat(std::hint::black_box(index as f32));
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = simd.mul_add(a, b, *sum);
        }
    }
    std::hint::black_box(sums);
    (rounds * SUMS * LANES) as u64
}
