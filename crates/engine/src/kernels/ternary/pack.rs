//! A ternary matrix in the kernels' layout, packed once at load.

use super::tile::{TILE_COLUMNS, TILE_ROWS, Tile};
use crate::kernels::disjoint::Disjoint;
use crate::memory::{Buffer, OutOfMemory};
use crate::pool::Pool;

/// Columns at which no sum of any kernel can overflow 32 bits, whatever weights and activations are: see `avx512`.
pub(crate) const MAX_COLUMNS: usize = 1 << 18;

/// Rows of half a tile; the unit in which two matrices are interleaved.
const HALF: usize = TILE_ROWS / 2;

/// One or several weight matrices with equal columns, as tiles: tile rows one after the other, each from left to right.
///
/// Missing rows and columns are zero weights, so results beyond the last row are exactly zero.
#[derive(Debug)]
pub(crate) struct TernaryMatrix {
    tiles: Buffer<Tile>,
    /// Tiles in a row of tiles.
    row_tiles: usize,
    rows: usize,
    columns: usize,
    /// One factor a row, zero for rows added as padding.
    scales: Vec<f32>,
}

/// A matrix of weights that is read, row by row, to be packed.
pub(crate) trait TernarySource: Sync {
    type Error: From<OutOfMemory> + Send;

    fn rows(&self) -> usize;

    /// What every weight is to be multiplied with.
    fn scale(&self) -> f32;

    /// Writes as many whole rows from `first` on as `out` has room for, as -1, 0 and +1.
    fn read(&self, first: usize, out: &mut [i8]) -> Result<(), Self::Error>;
}

impl TernaryMatrix {
    /// Stacks matrices of `columns` inputs one below the other: the outputs of `parts[1]` follow those of `parts[0]`.
    pub(crate) fn stack<S: TernarySource>(
        pool: &mut Pool,
        columns: usize,
        parts: &[S],
    ) -> Result<Self, S::Error> {
        let rows = parts.iter().map(TernarySource::rows).sum();
        Self::pack(pool, columns, parts, rows, |mut row| {
            for (index, part) in parts.iter().enumerate() {
                if row < part.rows() {
                    return Some((index, row));
                }
                row -= part.rows();
            }
            None
        })
    }

    /// Interleaves two matrices by sixteen rows, so that a tile holds the same rows of both.
    pub(crate) fn interleave<S: TernarySource>(
        pool: &mut Pool,
        columns: usize,
        parts: &[S; 2],
    ) -> Result<Self, S::Error> {
        let rows = parts[0].rows();
        Self::pack(pool, columns, parts, rows.next_multiple_of(HALF) * 2, |row| {
            let source = row / TILE_ROWS * HALF + row % HALF;
            (source < rows).then_some((row / HALF % 2, source))
        })
    }

    /// Packs weights -1, 0 and +1 that are in memory; weights: `[rows, columns]`.
    ///
    /// # Panics
    /// When the weights are not whole rows.
    pub(crate) fn from_weights(
        pool: &mut Pool,
        weights: &[i8],
        columns: usize,
        scale: f32,
    ) -> Result<Self, OutOfMemory> {
        assert!(weights.len().is_multiple_of(columns), "whole rows");
        Self::stack(pool, columns, &[InMemory { weights, columns, scale }])
    }

    /// Packs rows of several parts, in the order that `source` gives: for each row its part and its row there.
    fn pack<S: TernarySource>(
        pool: &mut Pool,
        columns: usize,
        parts: &[S],
        rows: usize,
        source: impl Fn(usize) -> Option<(usize, usize)> + Sync,
    ) -> Result<Self, S::Error> {
        let row_tiles = columns.div_ceil(TILE_COLUMNS);
        let tile_rows = rows.div_ceil(TILE_ROWS);
        let mut tiles = Buffer::<Tile>::zeroed(tile_rows * row_tiles)?;
        let scale = |row| source(row).map_or(0.0, |(part, _)| parts[part].scale());
        let mut scales: Vec<f32> = (0..rows).map(scale).collect();
        scales.resize(tile_rows * TILE_ROWS, 0.0);

        let shared = Disjoint::new(&mut tiles);
        pool.try_run_ranges(tile_rows, |range| {
            let mut weights = vec![0i8; HALF * columns];
            let mut padded = vec![0i8; row_tiles * TILE_COLUMNS];
            for tile_row in range {
                // SAFETY: each row of tiles belongs to one range.
                #[expect(unsafe_code, reason = "rows of tiles are packed in parallel")]
                let tiles = unsafe { shared.part(tile_row * row_tiles..(tile_row + 1) * row_tiles) };
                for half in 0..2 {
                    let first = tile_row * TILE_ROWS + half * HALF;
                    read_half(columns, parts, &source, first, &mut weights)?;
                    for (row, weights) in weights.chunks(columns).enumerate() {
                        padded[..columns].copy_from_slice(weights);
                        for (tile, weights) in tiles.iter_mut().zip(padded.as_chunks().0) {
                            tile.set_row(half * HALF + row, weights);
                        }
                    }
                }
            }
            Ok::<_, S::Error>(())
        })?;
        Ok(Self { tiles, row_tiles, rows, columns, scales })
    }

    /// Number of outputs; interleaved matrices count the rows of both, rounded up to sixteen.
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    #[must_use]
    pub(crate) fn columns(&self) -> usize {
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
    pub(crate) fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice::<Tile, u8>(&self.tiles)
    }
}

struct InMemory<'a> {
    weights: &'a [i8],
    columns: usize,
    scale: f32,
}

impl TernarySource for InMemory<'_> {
    type Error = OutOfMemory;

    fn rows(&self) -> usize {
        self.weights.len() / self.columns
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn read(&self, first: usize, out: &mut [i8]) -> Result<(), OutOfMemory> {
        out.copy_from_slice(&self.weights[first * self.columns..][..out.len()]);
        Ok(())
    }
}

/// Writes the sixteen rows from `first` on, zeros where there are none.
fn read_half<S: TernarySource>(
    columns: usize,
    parts: &[S],
    source: impl Fn(usize) -> Option<(usize, usize)>,
    first: usize,
    out: &mut [i8],
) -> Result<(), S::Error> {
    let mut row = 0;
    while row < HALF {
        let Some((part, start)) = source(first + row) else {
            out[row * columns..].fill(0);
            return Ok(());
        };
        // Neighbours in the same part are read at once.
        let follows = |&next: &usize| source(first + next) == Some((part, start + next - row));
        let end = row + 1 + (row + 1..HALF).take_while(follows).count();
        parts[part].read(start, &mut out[row * columns..end * columns])?;
        row = end;
    }
    Ok(())
}
