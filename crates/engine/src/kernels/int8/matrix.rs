//! A matrix in 8 bits, made once at load.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::quantize::Quantize;
use super::{NIBBLE_COLUMNS, NibbleTile, Wide};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::simd::LANES;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::quant::QuantError;

/// `[rows, columns]` in 8 bits with a scale for each row, as two planes of half codes.
#[derive(Debug)]
pub struct Int8Matrix {
    /// The upper four bits: `[rows / 16, columns / 8]` tiles.
    pub(super) high: Buffer<NibbleTile>,
    /// The lower four, which are only read together with the upper.
    pub(super) low: Buffer<NibbleTile>,
    pub(in crate::kernels) groups: Buffer<Group>,
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) columns: usize,
    /// Tiles of a group of sixteen rows.
    group_tiles: usize,
}

/// What belongs to each of sixteen rows; see [`super::quantize::Measured`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Group {
    pub(in crate::kernels) upper_error: [f32; LANES],
    pub(in crate::kernels) scale: [f32; LANES],
    pub(in crate::kernels) error: [f32; LANES],
    pub(in crate::kernels) norm: [f32; LANES],
}

// SAFETY: arrays of f32 without padding; every bit pattern is valid.
#[expect(unsafe_code, reason = "plain floats")]
unsafe impl bytemuck::Zeroable for Group {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain floats")]
unsafe impl bytemuck::Pod for Group {}

/// The system has no memory for the matrix, or its rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Int8MatrixError {
    /// No memory.
    #[error("cannot reserve memory for the token embedding or the output head in 8 bits")]
    Memory(#[from] io::Error),
    /// The rows could not be read.
    #[error(transparent)]
    Quant(#[from] QuantError),
}

/// Codes are unsigned: this much is added to the signed ones.
pub(super) const OFFSET: i32 = 128;

impl Int8Matrix {
    /// Rounds a matrix whose rows `read(first, out)` yields, as many as `out` has room for. No more than sixteen rows a
    /// thread are held as floats.
    pub fn build(
        pool: &mut Pool,
        isa: Isa,
        rows: usize,
        columns: usize,
        read: impl Fn(usize, &mut [f32]) -> Result<(), QuantError> + Sync,
    ) -> Result<Self, Int8MatrixError> {
        let groups = rows.div_ceil(LANES);
        let group_tiles = columns.div_ceil(NIBBLE_COLUMNS);
        let mut high = Buffer::<NibbleTile>::zeroed(groups * group_tiles)?;
        let mut low = Buffer::<NibbleTile>::zeroed(groups * group_tiles)?;
        let mut about = Buffer::<Group>::zeroed(groups)?;
        let failure = Mutex::new(None);
        let shared = (Disjoint::new(&mut high), Disjoint::new(&mut low), Disjoint::new(&mut about));
        pool.run_ranges(groups, |range| {
            let padded = columns.next_multiple_of(LANES);
            let (mut values, mut row_values) = (vec![0.0; LANES * columns], vec![0.0; padded]);
            let mut codes = vec![0; padded];
            for group in range {
                let count = LANES.min(rows - group * LANES);
                if let Err(error) = read(group * LANES, &mut values[..count * columns]) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                let tiles = group * group_tiles..(group + 1) * group_tiles;
                // SAFETY: each group belongs to one range.
                #[expect(unsafe_code, reason = "groups are rounded in parallel")]
                let (high, low, about) = unsafe {
                    let about = &mut shared.2.part(group..group + 1)[0];
                    (shared.0.part(tiles.clone()), shared.1.part(tiles), about)
                };
                for (row, values) in values[..count * columns].chunks(columns).enumerate() {
                    row_values[..columns].copy_from_slice(values);
                    let measured = isa.run(Quantize { values: &row_values, codes: &mut codes });
                    about.scale[row] = measured.scale;
                    about.error[row] = measured.error;
                    about.norm[row] = measured.norm;
                    about.upper_error[row] = measured.upper_error;
                    for ((codes, high), low) in codes.chunks(NIBBLE_COLUMNS).zip(&mut *high).zip(&mut *low) {
                        store(row, codes, high, low);
                    }
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => Ok(Self { high, low, groups: about, rows, columns, group_tiles }),
        }
    }

    /// Number of rows: the vocabulary.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One row as f32; `out` has the length of a row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let (group, row) = (row / LANES, row % LANES);
        let (tiles, scale) = (self.tiles(group), self.groups[group].scale[row]);
        let tiles = self.high[tiles.clone()].iter().zip(&self.low[tiles]);
        for (out, (high, low)) in out.chunks_mut(NIBBLE_COLUMNS).zip(tiles) {
            for (column, out) in out.iter_mut().enumerate() {
                let code = i32::from(high.nibble(row, column)) << 4 | i32::from(low.nibble(row, column));
                *out = (code - OFFSET) as f32 * scale;
            }
        }
    }

    /// The upper halves, then the lower.
    #[must_use]
    pub fn planes(&self) -> [&[u8]; 2] {
        [&self.high, &self.low].map(|plane| bytemuck::cast_slice::<NibbleTile, u8>(plane))
    }

    /// Activations in the form that they are multiplied in.
    pub(in crate::kernels) fn widen(&self, x: &[f32]) -> Wide {
        Wide::new(x, self.group_tiles * NIBBLE_COLUMNS / 4)
    }

    /// Where the tiles of a group are in either plane.
    pub(super) fn tiles(&self, group: usize) -> Range<usize> {
        group * self.group_tiles..(group + 1) * self.group_tiles
    }
}

/// Splits eight codes of a row into halves.
fn store(row: usize, codes: &[i8], high: &mut NibbleTile, low: &mut NibbleTile) {
    const HALF: u32 = 0x0f0f_0f0f;
    let [first, second] = codes.as_chunks::<4>().0 else { unreachable!("codes come in eights") };
    let word = |codes: &[i8; 4]| u32::from_le_bytes(codes.map(|code| (i32::from(code) + OFFSET) as u8));
    let (first, second) = (word(first), word(second));
    let bytes = 4 * row..4 * row + 4;
    high.0[bytes.clone()].copy_from_slice(&((first >> 4 & HALF) | (second & !HALF)).to_le_bytes());
    low.0[bytes].copy_from_slice(&((first & HALF) | (second & HALF) << 4).to_le_bytes());
}
