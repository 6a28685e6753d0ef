//! A check at start that the chosen instruction set computes what the scalar definition says, on this very machine.

use super::Isa;
use super::exp::exp;
use super::isa::Kernel;
use super::lanes::{LANES, Simd, sum};
use super::ternary::{QUADS, Quad, TILE_ROWS, Tile, UnpackedTile};

/// An instruction set that computes something else than the definition.
#[derive(Debug, thiserror::Error)]
#[error("self-test failed: {operation} on {isa} differs from the scalar definition; try another --isa")]
pub struct SelfTestError {
    isa: Isa,
    operation: &'static str,
}

/// Compares the kernels of an instruction set with the scalar definition on adversarial data. Takes a few milliseconds.
pub fn self_test(isa: Isa) -> Result<(), SelfTestError> {
    let scalar = Isa::SCALAR;
    let check = |operation, same: bool| if same { Ok(()) } else { Err(SelfTestError { isa, operation }) };
    for tiles in [1, 7, 33] {
        for data in [Data::Random, Data::AllEqual(2, 127), Data::AllEqual(0, -128), Data::AllEqual(2, -128)] {
            let products = || Products::new(tiles, data);
            check("ternary product", isa.run(products()) == scalar.run(products()))?;
        }
    }
    check("float arithmetic", isa.run(Floats) == scalar.run(Floats))
}

/// What tiles and activations hold.
#[derive(Clone, Copy)]
enum Data {
    Random,
    /// One code and one activation everywhere: the largest sums.
    AllEqual(u8, i8),
}

struct Products {
    tiles: Vec<Tile>,
    /// `[columns / 4, TOKENS]`
    activations: Vec<Quad>,
}

impl Products {
    const TOKENS: usize = 3;

    fn new(tiles: usize, data: Data) -> Self {
        let mut noise = Noise(tiles as u64);
        let mut tile = || match data {
            Data::Random => Tile::from_codes(|_, _| (noise.next() % 3) as u8),
            Data::AllEqual(code, _) => Tile::from_codes(|_, _| code),
        };
        let tiles: Vec<_> = (0..tiles).map(|_| tile()).collect();
        let activation = |_| match data {
            Data::Random => [(); 4].map(|()| noise.next() as i8),
            Data::AllEqual(_, activation) => [activation; 4],
        };
        Self { activations: (0..Self::TOKENS * tiles.len() * QUADS).map(activation).collect(), tiles }
    }
}

impl Kernel for Products {
    type Output = Vec<[i32; TILE_ROWS]>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        // Two rows of tiles: the second is the first one backwards.
        let mut unpacked = vec![UnpackedTile::ZERO; 2 * self.tiles.len()];
        for (tile, unpacked) in self.tiles.iter().chain(self.tiles.iter().rev()).zip(&mut unpacked) {
            simd.unpack(tile, unpacked);
        }
        let (mut many, mut one) = ([[[0; TILE_ROWS]; 2]; Self::TOKENS], [0; TILE_ROWS]);
        let (first, second) = unpacked.split_at(self.tiles.len());
        simd.dot_unpacked([first, second], &self.activations, &mut many);
        simd.dot_tiles(&self.tiles, &self.activations, &mut one);
        let mut sums = many.as_flattened().to_vec();
        sums.push(one);
        sums
    }
}

/// Every float operation on ordinary, huge, tiny and special values.
struct Floats;

impl Kernel for Floats {
    type Output = Vec<[u32; LANES]>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let mut noise = Noise(7);
        let mut results = Vec::new();
        for round in 0..64 {
            let mut lanes = |scale: f32| std::array::from_fn(|_| (noise.next() as i32 as f32) * scale);
            let spread = [1e-9, 1e-30, 1e20, 3e-8][round % 4];
            let (mut a, b, c): ([f32; LANES], _, [f32; LANES]) = (lanes(spread), lanes(1e-9), lanes(1e-9));
            a[round % LANES] = [0.0, -0.0, f32::INFINITY, 0.5][round / 4 % 4];
            let (a, b, c) = (simd.load(&a), simd.load(&b), simd.load(&c));
            let mut keep = |vector| {
                let mut lanes = [0.0; LANES];
                simd.store(vector, &mut lanes);
                results.push(lanes.map(f32::to_bits));
            };
            keep(simd.mul_add(a, b, c));
            keep(simd.add(simd.sub(a, b), c));
            keep(simd.div(simd.mul(a, b), c));
            keep(simd.max(simd.min(a, b), simd.abs(c)));
            keep(simd.round(a));
            keep(exp(simd, a));
            keep(simd.splat(sum(simd, b)));
            let mut codes = [0; LANES];
            simd.store_i8(
                simd.round(simd.max(simd.min(a, simd.splat(127.0)), simd.splat(-128.0))),
                &mut codes,
            );
            keep(simd.load_i32(&codes.map(i32::from)));
        }
        results
    }
}

/// Reproducible noise (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_instruction_set_passes() {
        for isa in Isa::available() {
            self_test(isa).unwrap();
        }
    }
}
