//! Instruction sets on which one operation is wrong, for a test of the self-test.

use half::f16;

use crate::kernels::lanes::{LANES, Simd};
use crate::kernels::lm_head::{CodeSums, CodeTile, WideQuad};
use crate::kernels::scalar::Scalar;
use crate::kernels::ternary::{Quad, TILE_ROWS, Tile, UnpackedTile};

/// An operation of [`Simd`] that has a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Operation {
    Splat,
    LoadF16,
    LoadI32,
    Store,
    Add,
    Sub,
    Mul,
    Div,
    MulAdd,
    Max,
    Min,
    Abs,
    Round,
    Exp2Integral,
    StoreI8,
    DotTiles,
    /// Of so many rows of activations.
    DotFew(usize),
    Unpack,
    /// Of so many rows of activations and rows of tiles.
    DotUnpacked(usize, usize),
    /// Of so many rows of activations.
    DotCodes(usize),
}

/// Scalar code with the wrong bit in the last lane of the results of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) struct Broken(pub(in crate::kernels) Option<Operation>);

impl Broken {
    fn float(self, operation: Operation, mut lanes: [f32; LANES]) -> [f32; LANES] {
        if self.0 == Some(operation) {
            lanes[LANES - 1] = f32::from_bits(lanes[LANES - 1].to_bits() ^ 1);
        }
        lanes
    }
}

/// Operations on floats, each with the scalar result unless it is the one that is wrong.
macro_rules! floats {
    ($($name:ident($($argument:ident: $type:ty),*) = $operation:ident;)*) => {
        $(
            fn $name(self, $($argument: $type),*) -> [f32; LANES] {
                self.float(Operation::$operation, Scalar.$name($($argument),*))
            }
        )*
    };
}

impl Simd for Broken {
    type Vector = [f32; LANES];
    const REGISTERS: usize = 32;

    floats! {
        splat(value: f32) = Splat;
        load_f16(values: &[f16; LANES]) = LoadF16;
        load_i32(values: &[i32; LANES]) = LoadI32;
        add(a: [f32; LANES], b: [f32; LANES]) = Add;
        sub(a: [f32; LANES], b: [f32; LANES]) = Sub;
        mul(a: [f32; LANES], b: [f32; LANES]) = Mul;
        div(a: [f32; LANES], b: [f32; LANES]) = Div;
        mul_add(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) = MulAdd;
        max(a: [f32; LANES], b: [f32; LANES]) = Max;
        min(a: [f32; LANES], b: [f32; LANES]) = Min;
        abs(a: [f32; LANES]) = Abs;
        round(a: [f32; LANES]) = Round;
        exp2_integral(a: [f32; LANES]) = Exp2Integral;
    }

    fn load(self, values: &[f32; LANES]) -> [f32; LANES] {
        *values
    }

    fn store(self, vector: [f32; LANES], out: &mut [f32; LANES]) {
        *out = self.float(Operation::Store, vector);
    }

    fn store_i8(self, a: [f32; LANES], out: &mut [i8; LANES]) {
        Scalar.store_i8(a, out);
        out[LANES - 1] ^= i8::from(self.0 == Some(Operation::StoreI8));
    }

    fn dot_tiles(self, tiles: &[Tile], x: &[Quad], sums: &mut [i32; TILE_ROWS]) {
        Scalar.dot_tiles(tiles, x, sums);
        sums[TILE_ROWS - 1] += i32::from(self.0 == Some(Operation::DotTiles));
    }

    fn dot_few(self, tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
        Scalar.dot_few(tiles, x, sums);
        if self.0 == Some(Operation::DotFew(sums.len())) {
            sums[sums.len() - 1][TILE_ROWS - 1] += 1;
        }
    }

    fn unpack(self, tile: &Tile, out: &mut UnpackedTile) {
        Scalar.unpack(tile, out);
        if self.0 == Some(Operation::Unpack) {
            out.set_code(TILE_ROWS - 1, 0, 2 - tile.code(TILE_ROWS - 1, 0));
        }
    }

    fn dot_unpacked<const N: usize>(
        self,
        tiles: [&[UnpackedTile]; N],
        x: &[Quad],
        sums: &mut [[[i32; TILE_ROWS]; N]],
    ) {
        Scalar.dot_unpacked(tiles, x, sums);
        if self.0 == Some(Operation::DotUnpacked(sums.len(), N)) {
            sums[sums.len() - 1][N - 1][0] += 1;
        }
    }

    fn dot_codes<const NIBBLES: usize>(self, tiles: &[CodeTile], x: &[WideQuad], sums: &mut [CodeSums]) {
        Scalar.dot_codes::<NIBBLES>(tiles, x, sums);
        if self.0 == Some(Operation::DotCodes(sums.len())) {
            sums[sums.len() - 1][0] += 1.0;
        }
    }

    fn fetch_ahead(self, _: *const u8) {}

    fn prefetch(self, _: *const u8) {}

    fn prefetch_for_writing(self, _: *const f32) {}

    fn multiply_registers(self, rounds: usize) -> u64 {
        Scalar.multiply_registers(rounds)
    }

    fn multiply_float_registers(self, rounds: usize) -> u64 {
        Scalar.multiply_float_registers(rounds)
    }
}
