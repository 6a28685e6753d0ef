//! A ternary matrix in the kernels' layout, packed once at load.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::{TILE_COLUMNS, TILE_ROWS, Tile};
use crate::kernels::disjoint::Disjoint;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::quant::{QuantError, TernaryRows};

/// Columns at which no sum of any kernel can overflow 32 bits, whatever weights and activations are: see `avx512`.
pub const MAX_COLUMNS: usize = 1 << 18;

/// Rows of half a tile; the unit in which two matrices are interleaved.
const HALF: usize = TILE_ROWS / 2;

/// One or several weight matrices with equal columns, as tiles: tile rows one after the other, each from left to right.
///
/// Missing rows and columns are zero weights, so results beyond the last row are exactly zero.
#[derive(Debug)]
pub struct TernaryMatrix {
    tiles: Buffer<Tile>,
    /// Tiles in a row of tiles.
    row_tiles: usize,
    rows: usize,
    columns: usize,
    /// One factor a row, zero for rows added as padding.
    scales: Vec<f32>,
}

/// Why weights could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The file's tensor could not be read or decoded.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The system has no memory for the packed weights.
    #[error("cannot reserve memory for {bytes} bytes of weights")]
    Memory {
        /// Size of the packed matrix.
        bytes: usize,
        /// The system's answer.
        source: io::Error,
    },
}

impl TernaryMatrix {
    /// Stacks matrices one below the other: the outputs of `parts[1]` follow those of `parts[0]`.
    /// A part's second element multiplies its outputs, beyond its own scale.
    pub fn stack(pool: &mut Pool, parts: &[(TernaryRows<'_>, f32)]) -> Result<Self, PackError> {
        let rows = parts.iter().map(|(part, _)| part.rows()).sum();
        Self::gather(pool, parts, rows, |mut row| {
            for (index, (part, _)) in parts.iter().enumerate() {
                if row < part.rows() {
                    return Some((index, row));
                }
                row -= part.rows();
            }
            None
        })
    }

    /// Interleaves two matrices by sixteen rows, so that a tile holds the same rows of both.
    pub fn interleave(pool: &mut Pool, parts: &[(TernaryRows<'_>, f32); 2]) -> Result<Self, PackError> {
        let rows = parts[0].0.rows();
        Self::gather(pool, parts, rows.next_multiple_of(HALF) * 2, |row| {
            let source = row / TILE_ROWS * HALF + row % HALF;
            (source < rows).then_some((row / HALF % 2, source))
        })
    }

    /// Packs weights -1, 0 and +1 from memory; weights: `[rows, columns]`.
    ///
    /// # Panics
    /// When the weights are not whole rows.
    pub fn from_weights(
        pool: &mut Pool,
        weights: &[i8],
        columns: usize,
        scale: f32,
    ) -> Result<Self, PackError> {
        assert!(weights.len().is_multiple_of(columns), "whole rows");
        let rows = weights.len() / columns;
        Self::pack(pool, columns, (0..rows).map(|_| scale).collect(), |first, out| {
            let weights = &weights[weights.len().min(first * columns)..];
            let known = weights.len().min(out.len());
            out[..known].copy_from_slice(&weights[..known]);
            out[known..].fill(0);
            Ok(())
        })
    }

    /// Packs rows of several parts, in the order that `source` gives: for each row its part and its row there.
    fn gather(
        pool: &mut Pool,
        parts: &[(TernaryRows<'_>, f32)],
        rows: usize,
        source: impl Fn(usize) -> Option<(usize, usize)> + Sync,
    ) -> Result<Self, PackError> {
        let columns = parts.first().map_or(0, |(part, _)| part.columns());
        let scale = |row| source(row).map_or(0.0, |(part, _)| parts[part].0.scale() * parts[part].1);
        Self::pack(pool, columns, (0..rows).map(scale).collect(), |first, out| {
            let mut row = 0;
            while row < HALF {
                let Some((part, start)) = source(first + row) else {
                    out[row * columns..].fill(0);
                    return Ok(());
                };
                // Neighbours in the same part are read at once.
                let follows = |&next: &usize| source(first + next) == Some((part, start + next - row));
                let end = row + 1 + (row + 1..HALF).take_while(follows).count();
                parts[part].0.unpack(start, &mut out[row * columns..end * columns])?;
                row = end;
            }
            Ok(())
        })
    }

    /// `fill(first, out)` writes the sixteen rows from `first` on, zeros where there are none.
    fn pack(
        pool: &mut Pool,
        columns: usize,
        mut scales: Vec<f32>,
        fill: impl Fn(usize, &mut [i8]) -> Result<(), QuantError> + Sync,
    ) -> Result<Self, PackError> {
        let rows = scales.len();
        let row_tiles = columns.div_ceil(TILE_COLUMNS);
        let tile_rows = rows.div_ceil(TILE_ROWS);
        let count = tile_rows * row_tiles;
        let mut tiles = Buffer::<Tile>::zeroed(count)
            .map_err(|source| PackError::Memory { bytes: count * size_of::<Tile>(), source })?;
        scales.resize(tile_rows * TILE_ROWS, 0.0);

        let failure = Mutex::new(None);
        let shared = Disjoint::new(&mut tiles);
        pool.run_ranges(tile_rows, |range| {
            let mut weights = vec![0i8; HALF * columns];
            let mut padded = vec![0i8; row_tiles * TILE_COLUMNS];
            for tile_row in range {
                // SAFETY: each row of tiles belongs to one range.
                #[expect(unsafe_code, reason = "rows of tiles are packed in parallel")]
                let tiles = unsafe { shared.part(tile_row * row_tiles..(tile_row + 1) * row_tiles) };
                for half in 0..2 {
                    if let Err(error) = fill(tile_row * TILE_ROWS + half * HALF, &mut weights) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                    for (row, weights) in weights.chunks(columns).enumerate() {
                        padded[..columns].copy_from_slice(weights);
                        for (tile, weights) in tiles.iter_mut().zip(padded.as_chunks().0) {
                            tile.set_row(half * HALF + row, weights);
                        }
                    }
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => Ok(Self { tiles, row_tiles, rows, columns, scales }),
        }
    }

    /// Number of outputs; interleaved matrices count the rows of both, rounded up to sixteen.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn tile_rows(&self) -> usize {
        self.scales.len() / TILE_ROWS
    }

    pub(super) fn tile_row(&self, index: usize) -> &[Tile] {
        &self.tiles[index * self.row_tiles..(index + 1) * self.row_tiles]
    }

    pub(super) fn row_tiles(&self) -> usize {
        self.row_tiles
    }

    #[inline(always)]
    pub(super) fn tile(&self, row: usize, column: usize) -> &Tile {
        &self.tile_row(row)[column]
    }

    pub(super) fn scales(&self, tile_row: usize) -> &[f32; TILE_ROWS] {
        &self.scales.as_chunks().0[tile_row]
    }

    /// The packed weights as bytes, for measuring how fast they can be read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice::<Tile, u8>(&self.tiles)
    }
}
