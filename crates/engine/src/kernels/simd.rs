//! The vocabulary of the kernels: sixteen f32 lanes and the ternary dot products, with their scalar definition.
//!
//! Every operation is either exact or rounded once as IEEE 754 says, and each implementation performs the same operations in
//! the same order. So a kernel written over [`Simd`] has the same bits on every instruction set, by construction.
//! A `Simd` value is a token: it exists only where the CPU has the instructions, so its methods are safe to call.

use half::f16;

use super::nibbles::{NIBBLE_COLUMNS, NibbleSums, NibbleTile, WideQuad};
use super::ternary::{QUADS, Quad, TILE_COLUMNS, TILE_ROWS, Tile, UnpackedTile};

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
    /// Sums of half codes times half activations, for sixteen rows; x: `[columns / 4]`.
    fn dot_nibbles(self, tiles: &[NibbleTile], x: &[WideQuad], sums: &mut NibbleSums);
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

/// The definition of each operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar;

impl Simd for Scalar {
    type Vector = [f32; LANES];
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::Vector {
        *values
    }

    #[inline(always)]
    fn load_f16(self, values: &[f16; LANES]) -> Self::Vector {
        values.map(f16::to_f32)
    }

    #[inline(always)]
    fn load_i32(self, values: &[i32; LANES]) -> Self::Vector {
        values.map(|value| value as f32)
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector, out: &mut [f32; LANES]) {
        *out = vector;
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn abs(self, a: Self::Vector) -> Self::Vector {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, a: Self::Vector) -> Self::Vector {
        a.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn exp2_integral(self, a: Self::Vector) -> Self::Vector {
        // The exponent field alone, with its bias of 127.
        a.map(|a| f32::from_bits(((a as i32 + 127) << 23) as u32))
    }

    #[inline(always)]
    fn store_i8(self, a: Self::Vector, out: &mut [i8; LANES]) {
        *out = a.map(|a| a as i8);
    }

    fn dot_tiles(self, tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
        for (tile, x) in tiles.iter().zip(x.as_chunks::<QUADS>().0) {
            for (row, sum) in sums.iter_mut().enumerate() {
                for (column, &x) in x.as_flattened().iter().enumerate() {
                    *sum += i32::from(tile.code(row, column)) * i32::from(x);
                }
            }
        }
    }

    fn unpack(self, tile: &Tile, out: &mut UnpackedTile) {
        for row in 0..TILE_ROWS {
            for column in 0..TILE_COLUMNS {
                out.set_code(row, column, tile.code(row, column));
            }
        }
    }

    fn dot_unpacked<const N: usize>(
        self,
        tiles: [&[UnpackedTile]; N],
        x: &[Quad],
        sums: &mut [[[i32; TILE_ROWS]; N]],
    ) {
        let tokens = sums.len();
        for (n, tiles) in tiles.into_iter().enumerate() {
            for (tile, x) in tiles.iter().zip(x.chunks(QUADS * tokens)) {
                for (quad, x) in x.chunks(tokens).enumerate() {
                    for (x, sums) in x.iter().zip(&mut *sums) {
                        for (row, sum) in sums[n].iter_mut().enumerate() {
                            for (column, &x) in x.iter().enumerate() {
                                *sum += i32::from(tile.code(row, 4 * quad + column)) * i32::from(x);
                            }
                        }
                    }
                }
            }
        }
    }

    fn dot_nibbles(self, tiles: &[NibbleTile], x: &[WideQuad], sums: &mut NibbleSums) {
        *sums = NibbleSums::default();
        for (tile, x) in tiles.iter().zip(x.as_chunks::<{ NIBBLE_COLUMNS / 4 }>().0) {
            for row in 0..LANES {
                for column in 0..NIBBLE_COLUMNS {
                    let (nibble, x) = (i32::from(tile.nibble(row, column)), x[column / 4]);
                    sums.high[row] += nibble * i32::from(x.high[column % 4]);
                    sums.low[row] += nibble * i32::from(x.low[column % 4]);
                }
            }
        }
    }

    #[inline(always)]
    fn fetch_ahead(self, _: *const u8) {}

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn prefetch_for_writing(self, _: *const f32) {}

    fn multiply_registers(self, rounds: usize) -> u64 {
        let mut sums = [0i32; LANES];
        for round in 0..rounds {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = sum.wrapping_add(i32::from(std::hint::black_box(lane as u8)) * i32::from(round as i8));
            }
        }
        std::hint::black_box(sums);
        (rounds * LANES) as u64
    }

    fn multiply_float_registers(self, rounds: usize) -> u64 {
        multiply_floats::<_, 1>(self, rounds)
    }
}
