//! How attention is spread over the threads: by blocks of positions when there are few rows, else by bundles of rows.

use std::ops::Range;

use super::page::{BLOCK, Element, Pages};
use super::places::{Place, Places};
use super::softmax::{Partial, QUERIES, Query, together};
use super::{HeadShape, MAX_HEAD_DIM};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::Simd;
use crate::kernels::rows::Rows;
use crate::memory::OutOfMemory;
use crate::pool::Pool;

/// Queries that one piece attends for: they share each block of the cache while it is near.
const BUNDLE: usize = 2 * QUERIES;
/// With fewer pieces a thread than this, blocks are spread over the threads as well.
const PIECES_PER_THREAD: usize = 8;

/// Memory that is reused from call to call, so that decoding does not allocate.
#[derive(Debug)]
pub(super) struct Scratch {
    bundles: Vec<Range<usize>>,
    /// Results of single blocks: `[row, block, query head]`.
    pub(super) partials: Vec<Partial>,
}

impl Scratch {
    /// Room for a row that sees all pages; touched only as far as sequences reach. More rows are computed one after the other when they
    /// do not fit: sequences that share pages see more than there are.
    pub(super) fn new(shape: HeadShape, pages: usize) -> Result<Self, OutOfMemory> {
        let mut partials = Vec::new();
        let count = pages.saturating_mul(shape.heads);
        let bytes = count.saturating_mul(size_of::<Partial>());
        partials.try_reserve_exact(count).map_err(|_| OutOfMemory { bytes })?;
        Ok(Self { bundles: Vec::new(), partials })
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where cache, shape and rows meet")]
    pub(super) fn attend<E: Element>(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        shape: HeadShape,
        pages: &Pages<E>,
        layer: usize,
        qkv: &Rows,
        places: &Places,
        out: &mut Rows,
        by_block: bool,
    ) {
        let (stride, rows) = (out.stride(), places.get());
        let out = Disjoint::new(out.padded_mut());
        let task = Task { isa, shape, pages, layer, qkv, places, rows, out, stride };
        if by_block {
            task.by_block(pool, &mut self.partials);
        } else {
            bundle(rows, (BUNDLE / shape.group()).max(1), &mut self.bundles);
            task.by_bundle(pool, &self.bundles);
        }
    }
}

/// Whether there are so few rows that their blocks are to be spread over the threads.
pub(super) fn few(pool: &Pool, shape: HeadShape, places: &Places) -> bool {
    pool.threads() > 1 && places.rows() * shape.kv_heads < PIECES_PER_THREAD * pool.threads()
}

/// The blocks of the row that has the most.
fn most_blocks(rows: &[Place]) -> usize {
    rows.iter().map(|place| place.position / BLOCK + 1).max().unwrap_or(0)
}

/// How many of the first rows have room for their blocks: as many for each as the longest has, of so many in all. At least one.
fn fitting(rows: &[Place], room: usize) -> usize {
    (1..rows.len()).find(|&count| (count + 1) * most_blocks(&rows[..=count]) > room).unwrap_or(rows.len())
}

/// Splits rows into runs of at most `size` in the same block of one sequence.
fn bundle(rows: &[Place], size: usize, bundles: &mut Vec<Range<usize>>) {
    let block = |place: &Place| (place.table, place.position / BLOCK);
    bundles.clear();
    for (row, place) in rows.iter().enumerate() {
        match bundles.last_mut() {
            Some(last) if block(&rows[last.start]) == block(place) && last.len() < size => {
                last.end = row + 1;
            }
            _ => bundles.push(row..row + 1),
        }
    }
}

/// One layer's attention of some rows.
struct Task<'a, E> {
    isa: Isa,
    shape: HeadShape,
    pages: &'a Pages<E>,
    layer: usize,
    qkv: &'a Rows,
    places: &'a Places,
    /// The rows of `places`.
    rows: &'a [Place],
    out: Disjoint<'a, f32>,
    stride: usize,
}

impl<E: Element> Task<'_, E> {
    fn by_bundle(&self, pool: &mut Pool, bundles: &[Range<usize>]) {
        let heads = self.shape.kv_heads;
        pool.run(bundles.len() * heads, |piece| {
            // The last bundles see the most positions: first they.
            let rows = bundles[bundles.len() - 1 - piece % bundles.len()].clone();
            self.isa.run(Bundle { task: self, rows, kv_head: piece / bundles.len() });
        });
    }

    fn by_block(&self, pool: &mut Pool, partials: &mut Vec<Partial>) {
        let room = partials.capacity() / self.shape.heads;
        let mut first = 0;
        while first < self.rows.len() {
            let rows = fitting(&self.rows[first..], room);
            self.blocks_of(first..first + rows, pool, partials);
            first += rows;
        }
    }

    /// The blocks of some rows, spread over the threads.
    fn blocks_of(&self, range: Range<usize>, pool: &mut Pool, partials: &mut Vec<Partial>) {
        let (first, rows) = (range.start, &self.rows[range]);
        let (heads, group) = (self.shape.kv_heads, self.shape.group());
        let blocks = most_blocks(rows);
        let needed = rows.len() * heads * blocks * group;
        if partials.len() < needed {
            partials.resize(needed, Partial::EMPTY);
        }
        let shared = Disjoint::new(&mut *partials);
        // Heads of a block lie side by side: long runs of pieces are one stream through memory.
        pool.run_ranges(rows.len() * blocks * heads, |pieces| {
            for piece in pieces {
                let (kv_head, block, row) = (piece % heads, piece / heads % blocks, piece / heads / blocks);
                if block * BLOCK <= rows[row].position {
                    // SAFETY: each piece has its own partials.
                    #[expect(unsafe_code, reason = "blocks are computed in parallel")]
                    let out = unsafe { shared.part(piece * group..(piece + 1) * group) };
                    self.isa.run(Block { task: self, row: first + row, kv_head, block, out });
                }
            }
        });
        pool.run(rows.len() * heads, |piece| {
            let (kv_head, row) = (piece % heads, piece / heads);
            let used = rows[row].position / BLOCK + 1;
            let partials = &partials[row * blocks * heads * group..][..used * heads * group];
            self.isa.run(Merge { task: self, row: first + row, kv_head, partials });
        });
    }

    /// Copies some queries of a group, counted over rows from `row` on: query `n` is head `n % group` of the group for row
    /// `row + n / group`.
    #[inline(always)]
    fn queries(&self, (row, kv_head): (usize, usize), numbers: Range<usize>, out: &mut [Query]) {
        let group = self.shape.group();
        for (n, out) in numbers.zip(out) {
            let columns = self.shape.columns(kv_head * group + n % group);
            out[..columns.len()].copy_from_slice(&self.qkv.padded(row + n / group)[columns]);
        }
    }

    /// Attends from the queries with these numbers to one block of positions.
    #[inline(always)]
    fn block<S: Simd>(
        &self,
        simd: S,
        (row, kv_head): (usize, usize),
        block: usize,
        (first, queries): (usize, &[Query]),
        out: &mut [Partial],
    ) {
        let HeadShape { head_dim, .. } = self.shape;
        let group = self.shape.group();
        let head = self.pages.head(self.places.page(self.rows[row], block), self.layer, kv_head);
        let mut done = 0;
        while done < queries.len() {
            let size = together::<S>(queries.len() - done);
            macro_rules! attend {
                ($n:expr) => {{
                    let mut positions = [0; $n];
                    for (n, positions) in (first + done..).zip(&mut positions) {
                        *positions = BLOCK.min(self.rows[row + n / group].position + 1 - block * BLOCK);
                    }
                    if let Some(queries) = queries[done..].first_chunk::<{ $n }>() {
                        Partial::of_block::<S, E, { $n }>(
                            simd,
                            queries,
                            head_dim,
                            positions,
                            head,
                            &mut out[done..],
                        );
                    }
                }};
            }
            match size {
                1 => attend!(1),
                2 => attend!(2),
                3 => attend!(3),
                4 => attend!(4),
                _ => attend!(QUERIES),
            }
            done += size;
        }
    }

    /// Writes the output of head `head` of row `row`.
    #[inline(always)]
    fn finish(&self, row: usize, head: usize, partial: &Partial) {
        let columns = self.shape.columns(head);
        let start = row * self.stride;
        // SAFETY: exactly one piece finishes a head of a row.
        #[expect(unsafe_code, reason = "heads are finished in parallel")]
        partial.finish(unsafe { self.out.part(start + columns.start..start + columns.end) });
    }
}

/// Some rows of a sequence in the same block, for one key-value head and its group of query heads.
struct Bundle<'a, 'b, E> {
    task: &'a Task<'b, E>,
    rows: Range<usize>,
    kv_head: usize,
}

impl<E: Element> Kernel for Bundle<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { task, rows, kv_head } = self;
        let group = task.shape.group();
        let queries = rows.len() * group;
        #[expect(clippy::large_stack_arrays, reason = "74 KiB; a region must not allocate")]
        let (mut copies, mut totals, mut partials) =
            ([[0.0; MAX_HEAD_DIM]; BUNDLE], [Partial::EMPTY; BUNDLE], [Partial::EMPTY; BUNDLE]);
        for first in (0..queries).step_by(BUNDLE) {
            let count = BUNDLE.min(queries - first);
            let at = (rows.start, kv_head);
            task.queries(at, first..first + count, &mut copies);
            let queries = (first, &copies[..count]);
            // The first block is the total so far: what merging it with nothing would give.
            task.block(simd, at, 0, queries, &mut totals);
            for block in 1..=task.rows[rows.start].position / BLOCK {
                task.block(simd, at, block, queries, &mut partials);
                for (total, partial) in totals.iter_mut().zip(&partials[..count]) {
                    total.merge(simd, partial, task.shape.head_dim);
                }
            }
            for (query, total) in (first..).zip(&totals[..count]) {
                task.finish(rows.start + query / group, kv_head * group + query % group, total);
            }
        }
    }
}

/// One row and one block of positions, for a group of query heads.
struct Block<'a, 'b, E> {
    task: &'a Task<'b, E>,
    row: usize,
    kv_head: usize,
    block: usize,
    out: &'a mut [Partial],
}

impl<E: Element> Kernel for Block<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { task, row, kv_head, block, out } = self;
        let mut queries = [[0.0; MAX_HEAD_DIM]; QUERIES];
        for (chunk, out) in out.chunks_mut(QUERIES).enumerate() {
            let first = chunk * QUERIES;
            task.queries((row, kv_head), first..first + out.len(), &mut queries);
            task.block(simd, (row, kv_head), block, (first, &queries[..out.len()]), out);
        }
    }
}

/// The blocks of one row, for one key-value head and its group of query heads.
struct Merge<'a, 'b, E> {
    task: &'a Task<'b, E>,
    row: usize,
    kv_head: usize,
    /// `[block, query head]`
    partials: &'a [Partial],
}

impl<E: Element> Kernel for Merge<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let HeadShape { heads, head_dim, .. } = self.task.shape;
        let group = self.task.shape.group();
        for head in self.kv_head * group..(self.kv_head + 1) * group {
            let mut total = Partial::EMPTY;
            for partial in self.partials[head..].iter().step_by(heads) {
                total.merge(simd, partial, head_dim);
            }
            self.task.finish(self.row, head, &total);
        }
    }
}
