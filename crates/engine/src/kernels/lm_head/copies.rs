//! Copies of a matrix in 8 or 4 bits, made once at load.
//!
//! Rows of floats flow in, each gets a scale and codes. Codes have one or two half bytes, and one kernel multiplies both. What a copy leaves out is measured for each row, for the [search](super::select) that wants to know
//! how far a product can be from the row's own.

use super::codes::{CodeTile, tile_quads};
use super::round::{Measured, Quantize};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::lanes::LANES;
use crate::memory::{Buffer, OutOfMemory};
use crate::pool::Pool;

/// `[rows, columns]` in codes of so many half bytes, with a scale for each row.
#[derive(Debug)]
pub(crate) struct IntMatrix<const NIBBLES: usize> {
    /// `[rows / 16, columns / columns of a tile]`
    tiles: Buffer<CodeTile>,
    pub(in crate::kernels) groups: Buffer<Group>,
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) columns: usize,
}

/// A matrix in 8 bits.
pub(crate) type Int8Matrix = IntMatrix<2>;
/// A matrix in 4 bits.
pub(crate) type Int4Matrix = IntMatrix<1>;

/// What belongs to each of sixteen rows; see [`Measured`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Group {
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

impl<const NIBBLES: usize> IntMatrix<NIBBLES> {
    /// Rounds a matrix of this shape: `read` writes as many of its rows, from the given one on, as there is room for.
    /// No more than sixteen rows a thread are held as floats.
    pub(crate) fn round<E: From<OutOfMemory> + Send>(
        pool: &mut Pool,
        isa: Isa,
        [rows, columns]: [usize; 2],
        read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let groups = rows.div_ceil(LANES);
        let group_tiles = columns.div_ceil(4 * tile_quads(NIBBLES));
        let mut tiles = Buffer::<CodeTile>::zeroed(groups * group_tiles)?;
        let mut about = Buffer::<Group>::zeroed(groups)?;
        let shared = (Disjoint::new(&mut tiles), Disjoint::new(&mut about));
        pool.try_run_ranges(groups, |range| {
            let padded = columns.next_multiple_of(LANES);
            let (mut values, mut row_values) = (vec![0.0; LANES * columns], vec![0.0; padded]);
            let mut levels = vec![0; padded];
            for group in range {
                let count = LANES.min(rows - group * LANES);
                let values = &mut values[..count * columns];
                read(group * LANES, values)?;
                // SAFETY: each group belongs to one range.
                #[expect(unsafe_code, reason = "groups are rounded in parallel")]
                let (tiles, about) = unsafe {
                    let tiles = shared.0.part(group * group_tiles..(group + 1) * group_tiles);
                    (tiles, &mut shared.1.part(group..group + 1)[0])
                };
                for (row, values) in values.chunks(columns).enumerate() {
                    row_values[..columns].copy_from_slice(values);
                    let quantize = Quantize::<NIBBLES> { values: &row_values, levels: &mut levels };
                    let Measured { scale, error, norm } = isa.run(quantize);
                    (about.scale[row], about.error[row], about.norm[row]) = (scale, error, norm);
                    store::<NIBBLES>(row, &levels, tiles);
                }
            }
            Ok::<_, E>(())
        })?;
        Ok(Self { tiles, groups: about, rows, columns })
    }

    /// The codes, for measuring how fast they can be read.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.tiles)
    }

    /// The tiles of a group.
    pub(super) fn tiles(&self, group: usize) -> &[CodeTile] {
        let count = self.columns.div_ceil(4 * tile_quads(NIBBLES));
        &self.tiles[group * count..(group + 1) * count]
    }
}

/// Puts the levels of a row, padded to whole tiles, into the tiles of its group.
fn store<const NIBBLES: usize>(row: usize, levels: &[i8], tiles: &mut [CodeTile]) {
    // Codes are unsigned.
    let word = |levels: &[i8; 4]| {
        let codes = u32::from_le_bytes(levels.map(i8::cast_unsigned)) ^ 0x0101_0101 << (4 * NIBBLES - 1);
        if NIBBLES == 2 { codes } else { codes & 0x0f0f_0f0f }
    };
    for (quads, tile) in levels.as_chunks::<4>().0.chunks(tile_quads(NIBBLES)).zip(tiles) {
        let packed = quads.iter().rev().fold(0, |packed, quad| packed << 4 | word(quad));
        tile.0[4 * row..4 * row + 4].copy_from_slice(&packed.to_le_bytes());
    }
}
