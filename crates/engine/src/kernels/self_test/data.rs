//! What the self-test computes with.

use crate::kernels::quantize::Activations;
use crate::kernels::rows::Rows;
use crate::memory::OutOfMemory;

/// Reproducible noise (splitmix64).
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32
    }

    /// In -1..1.
    pub(super) fn float(&mut self) -> f32 {
        self.next() as i32 as f32 / (1u32 << 31) as f32
    }

    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub(super) fn rows(&mut self, rows: usize, columns: usize) -> Result<Rows, OutOfMemory> {
        let mut out = Rows::with_capacity(rows, columns)?;
        out.set_rows(rows);
        for row in 0..rows {
            // Of different sizes, with a few that stand out.
            let scale = [1.0, 1e-4, 30.0][row % 3];
            out.row_mut(row).fill_with(|| self.float() * scale);
            out.row_mut(row)[row % columns] *= 20.0;
        }
        Ok(out)
    }
}

/// Weights and activations of a product.
#[derive(Clone, Copy, Debug)]
pub(super) enum Codes {
    Random,
    /// One weight and one activation everywhere: the largest sums.
    AllEqual(i8, i8),
}

impl Codes {
    pub(super) const ALL: [Self; 4] =
        [Self::Random, Self::AllEqual(1, 127), Self::AllEqual(-1, -128), Self::AllEqual(1, -128)];

    pub(super) fn weights(self, count: usize) -> Vec<i8> {
        let mut noise = Noise(1);
        let weight = |_| match self {
            Self::Random => (noise.next() % 3) as i8 - 1,
            Self::AllEqual(weight, _) => weight,
        };
        (0..count).map(weight).collect()
    }

    pub(super) fn activations(self, rows: usize, columns: usize) -> Result<Activations, OutOfMemory> {
        let mut noise = Noise(2);
        let mut code = || match self {
            Self::Random => noise.next() as i8,
            Self::AllEqual(_, code) => code,
        };
        let row = |row| ((0..columns).map(|_| code()).collect(), 0.01 + row as f32);
        let rows: Vec<_> = (0..rows).map(row).collect();
        let mut out = Activations::with_capacity(rows.len(), columns)?;
        out.set(&rows);
        Ok(out)
    }
}

/// All rows with their padding.
pub(super) fn bits_of(rows: &Rows) -> impl Iterator<Item = u32> {
    (0..rows.rows()).flat_map(|row| rows.padded(row)).map(|value| value.to_bits())
}
