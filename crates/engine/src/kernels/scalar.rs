//! The definition of each operation, in the plainest words: what every instruction set must equal, bit for bit.

use half::f16;

use super::lanes::{LANES, Simd, multiply_floats};
use super::lm_head::{CodeSums, CodeTile, WideQuad, tile_quads};
use super::ternary::{QUADS, Quad, TILE_COLUMNS, TILE_ROWS, Tile, UnpackedTile};

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

    fn dot_few(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
        let tokens = sums.len();
        for (tile, x) in tiles.iter().zip(x.chunks(QUADS * tokens)) {
            for (token, sums) in sums.iter_mut().enumerate() {
                for (row, sum) in sums.iter_mut().enumerate() {
                    for column in 0..TILE_COLUMNS {
                        let x = x[column / 4 * tokens + token][column % 4];
                        *sum += i32::from(tile.code(row, column)) * i32::from(x);
                    }
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

    fn dot_codes<const NIBBLES: usize>(self, tiles: &[CodeTile], x: &[WideQuad], sums: &mut [CodeSums]) {
        let (tokens, quads) = (sums.len(), tile_quads(NIBBLES));
        sums.fill([0.0; LANES]);
        for (tile, x) in tiles.iter().zip(x.chunks(quads * tokens)) {
            for (token, sums) in sums.iter_mut().enumerate() {
                for (row, sum) in sums.iter_mut().enumerate() {
                    for column in 0..4 * quads {
                        let x = x[column / 4 * tokens + token][column % 2][column % 4 / 2];
                        *sum += f64::from(i32::from(tile.code::<NIBBLES>(row, column)) * i32::from(x));
                    }
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
