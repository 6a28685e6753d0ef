//! Products of many tokens by adding sums that were made before, for CPUs that multiply int8 slowly.
//!
//! A byte of a tile is the codes of four columns of a row, so it has one of 81 values. For each of them the sum of the four
//! activations is computed once, for 32 tokens side by side. Then four columns of a row of weights cost one addition: the
//! byte is the index. Four tables, those of a tile's bytes, stay in the first-level cache while all rows pass.
//!
//! Sums are kept in 16 bits until the activations that went into them could make one overflow. They are the same integers
//! as those of [`mod@super::gemm`].

use std::ops::Range;

use super::epilogue::Product;
use super::tile::{BLOCK_TOKENS, QUADS, Quad, TILE_COLUMNS, TILE_ROWS, Tile};
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::Simd;
use crate::kernels::prefetch::LINE;
use crate::kernels::quantize::Activations;

/// Tokens whose sums lie side by side: a cache line of 16-bit sums.
pub(super) const LOOKUP_TOKENS: usize = 32;
/// Rows of tiles in a piece, at most. Making the tables takes as long as adding for some 150 rows of weights, so that more
/// rows are better; their sums are on the stack, 6 KiB for each row of tiles.
pub(super) const LOOKUP_TILE_ROWS: usize = 80;
/// How many rows of tiles ahead the next tile is fetched: tiles of a column lie far apart.
const AHEAD: usize = 8;

/// Something for each of 32 tokens.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Words([i16; LOOKUP_TOKENS]);

impl Words {
    const ZERO: Self = Self([0; LOOKUP_TOKENS]);

    #[inline(always)]
    fn plus(mut self, other: &Self) -> Self {
        for (sum, &other) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.wrapping_add(other);
        }
        self
    }

    #[inline(always)]
    fn minus(mut self, other: &Self) -> Self {
        for (sum, &other) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.wrapping_sub(other);
        }
        self
    }
}

/// Sums of four activations for each value of a byte of a tile: 81 of the 256 entries are in use.
///
/// The gaps between them, and 13 lines between two tables, spread the four tables over all 64 sets of a first-level cache, 4
/// to 6 lines in each.
#[repr(C)]
struct Table {
    sums: [Words; 256],
    between: [Words; 13],
}

impl Table {
    const ZERO: Self = Self { sums: [Words::ZERO; 256], between: [Words::ZERO; 13] };

    /// Field `p` of the index says what `x[p]` counts.
    #[inline(always)]
    fn fill(&mut self, x: [&Words; 4]) {
        let mut third = Words::ZERO.minus(x[3]);
        for code3 in 0..3 {
            let mut second = third.minus(x[2]);
            for code2 in 0..3 {
                let mut first = second.minus(x[1]);
                for code1 in 0..3 {
                    let index = usize::from(entry(code3 << 6 | code2 << 4 | code1 << 2));
                    self.sums[index] = first.minus(x[0]);
                    self.sums[index + 1] = first;
                    self.sums[index + 2] = first.plus(x[0]);
                    first = first.plus(x[1]);
                }
                second = second.plus(x[2]);
            }
            third = third.plus(x[3]);
        }
    }
}

/// What a piece works in, on the stack, because a region must not allocate.
struct Space {
    tables: [Table; 4],
    narrow: [[Words; TILE_ROWS]; LOOKUP_TILE_ROWS],
    wide: [[[i32; LOOKUP_TOKENS]; TILE_ROWS]; LOOKUP_TILE_ROWS],
}

#[expect(clippy::large_stack_arrays, reason = "563 KB of the 2 MB that a thread has")]
impl Space {
    const ZERO: Self = Self {
        tables: [const { Table::ZERO }; 4],
        narrow: [[Words::ZERO; TILE_ROWS]; LOOKUP_TILE_ROWS],
        wide: [[[0; LOOKUP_TOKENS]; TILE_ROWS]; LOOKUP_TILE_ROWS],
    };
}

/// Some rows of tiles times at most 32 tokens.
pub(super) struct LookedUp<'a> {
    pub product: &'a Product<'a>,
    /// At most [`LOOKUP_TILE_ROWS`].
    pub tile_rows: Range<usize>,
    pub tokens: Range<usize>,
}

impl Kernel for LookedUp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product, tile_rows, tokens } = self;
        let mut space = Space::ZERO;
        let Space { tables, narrow, wide } = &mut space;
        let (narrow, wide) = (&mut narrow[..tile_rows.len()], &mut wide[..tile_rows.len()]);
        // The greatest absolute value that a sum in 16 bits can have reached.
        let mut bounds = [0u16; LOOKUP_TOKENS];
        for column in 0..product.w.row_tiles() {
            let x = activations(product.x, &tokens, column);
            let added = magnitudes(&x);
            if (0..LOOKUP_TOKENS).any(|lane| bounds[lane] + added[lane] > i16::MAX as u16) {
                widen(narrow, wide);
                bounds = [0; LOOKUP_TOKENS];
            }
            for (bound, added) in bounds.iter_mut().zip(added) {
                *bound += added;
            }
            for (b, table) in tables.iter_mut().enumerate() {
                table.fill([&x[b], &x[4 + b], &x[8 + b], &x[12 + b]]);
            }
            for (tile_row, sums) in tile_rows.clone().zip(&mut *narrow) {
                let tile = product.w.tile(tile_row, column);
                let ahead = (&raw const *tile).wrapping_add(AHEAD * product.w.row_tiles()).cast::<u8>();
                simd.prefetch(ahead);
                simd.prefetch(ahead.wrapping_add(LINE));
                add(tables, tile, sums);
            }
        }
        widen(narrow, wide);
        for (tile_row, wide) in tile_rows.zip(wide) {
            for (lane, token) in tokens.clone().enumerate() {
                let mut sums = [0; TILE_ROWS];
                for row in 0..TILE_ROWS {
                    sums[row] = wide[row][lane];
                }
                product.finish(simd, tile_row, token, &sums);
            }
        }
    }
}

/// The activations of a column of tiles, column by column; zero where there are fewer tokens.
#[inline(always)]
fn activations(x: &Activations, tokens: &Range<usize>, column: usize) -> [Words; TILE_COLUMNS] {
    let mut quads = [[Quad::default(); LOOKUP_TOKENS]; QUADS];
    let mut token = tokens.start;
    while token < tokens.end {
        let (block, place) = (token / BLOCK_TOKENS, token % BLOCK_TOKENS);
        let width = BLOCK_TOKENS.min(x.rows() - block * BLOCK_TOKENS);
        let count = (width - place).min(tokens.end - token);
        let block = &x.block(block)[column * QUADS * width..];
        for (quad, quads) in quads.iter_mut().enumerate() {
            let lane = token - tokens.start;
            quads[lane..lane + count].copy_from_slice(&block[quad * width + place..][..count]);
        }
        token += count;
    }
    let mut columns = [Words::ZERO; TILE_COLUMNS];
    for quad in 0..QUADS {
        for b in 0..4 {
            for (x, quad) in columns[4 * quad + b].0.iter_mut().zip(&quads[quad]) {
                *x = i16::from(quad[b]);
            }
        }
    }
    columns
}

/// What sixteen activations can add to a sum, at most 2,048.
#[inline(always)]
fn magnitudes(x: &[Words; TILE_COLUMNS]) -> [u16; LOOKUP_TOKENS] {
    let mut magnitudes = [0; LOOKUP_TOKENS];
    for x in x {
        for (magnitude, x) in magnitudes.iter_mut().zip(x.0) {
            *magnitude += x.unsigned_abs();
        }
    }
    magnitudes
}

/// Adds to each row's sums what the tables have for its four bytes.
#[inline(always)]
fn add(tables: &[Table; 4], tile: &Tile, sums: &mut [Words; TILE_ROWS]) {
    let mut entries = [[0; 4]; TILE_ROWS];
    for (entries, bytes) in entries.iter_mut().zip(tile.rows()) {
        for b in 0..4 {
            entries[b] = entry(bytes[b]);
        }
    }
    for (sums, entries) in sums.iter_mut().zip(entries) {
        // One load for four bytes.
        let entries = u32::from_le_bytes(entries);
        let mut sum = *sums;
        for (b, table) in tables.iter().enumerate() {
            sum = sum.plus(&table.sums[(entries >> (8 * b)) as usize & 0xff]);
        }
        *sums = sum;
    }
}

/// Where the sums for a byte of a tile are: see [`Table`] for the gaps.
#[inline(always)]
fn entry(byte: u8) -> u8 {
    byte.wrapping_add(10 * (byte >> 6))
}

/// Moves sums into 32 bits.
#[inline(always)]
fn widen(narrow: &mut [[Words; TILE_ROWS]], wide: &mut [[[i32; LOOKUP_TOKENS]; TILE_ROWS]]) {
    for (narrow, wide) in narrow.as_flattened_mut().iter_mut().zip(wide.as_flattened_mut()) {
        for (wide, narrow) in wide.iter_mut().zip(narrow.0) {
            *wide += i32::from(narrow);
        }
        *narrow = Words::ZERO;
    }
}
