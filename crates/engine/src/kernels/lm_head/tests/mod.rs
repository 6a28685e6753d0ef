//! The copies and the search against computing everything.

mod copies;
mod select;

use std::num::NonZeroUsize;

use super::copies::IntMatrix;
use super::{EncodedRows, Encoding};
use crate::kernels::{Isa, Rows};
use crate::memory::OutOfMemory;
use crate::pool::Pool;

/// Reproducible noise in -1..1, roughly normal where it matters.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.next()).sum()
    }
}

fn normal(noise: &mut Noise, count: usize) -> Vec<f32> {
    (0..count).map(|_| noise.normal()).collect()
}

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

/// Rows of f32, as they are.
fn exact(values: &[f32], columns: usize) -> EncodedRows<'_> {
    let decode = |bytes: &[u8], out: &mut [f32]| out.copy_from_slice(bytemuck::cast_slice(bytes));
    let encoding = Encoding::Blocks { elements: 1, bytes: 4, decode };
    EncodedRows::new(bytemuck::cast_slice(values), columns, encoding)
}

/// A matrix of so many half bytes a code.
fn rounded<const NIBBLES: usize>(
    isa: Isa,
    threads: usize,
    columns: usize,
    values: &[f32],
) -> IntMatrix<NIBBLES> {
    let shape = [values.len() / columns, columns];
    let read = |first: usize, out: &mut [f32]| {
        out.copy_from_slice(&values[first * columns..][..out.len()]);
        Ok::<_, OutOfMemory>(())
    };
    IntMatrix::round(&mut pool(threads), isa, shape, read).unwrap()
}

fn rows(columns: usize, values: &[f32]) -> Rows {
    let mut rows = Rows::with_capacity(values.len() / columns, columns).unwrap();
    rows.set_rows(values.len() / columns);
    for (row, values) in values.chunks(columns).enumerate() {
        rows.row_mut(row).copy_from_slice(values);
    }
    rows
}
