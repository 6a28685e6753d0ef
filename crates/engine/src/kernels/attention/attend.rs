//! How attention is spread over the threads: by blocks of positions when there are few rows, else by bundles of rows.

use std::io;
use std::ops::Range;

use super::cache::{BLOCK, Element, Pages};
use super::softmax::{Partial, QUERIES, together};
use super::{HeadShape, Place};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::rows::Rows;
use crate::kernels::simd::Simd;
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
    partials: Vec<Partial>,
}

impl Scratch {
    /// Room for the blocks of one row of each sequence, at their longest; touched only as far as sequences reach.
    pub(super) fn new(shape: HeadShape, slots: usize, context: usize) -> io::Result<Self> {
        let mut partials = Vec::new();
        let count =
            slots.checked_mul(context.div_ceil(BLOCK)).and_then(|blocks| blocks.checked_mul(shape.heads));
        let reserved = count.map(|count| partials.try_reserve_exact(count));
        reserved.and_then(Result::ok).ok_or(io::ErrorKind::OutOfMemory)?;
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
        places: &[Place],
        out: &mut Rows,
    ) {
        let stride = out.stride();
        let task =
            Task { isa, shape, pages, layer, qkv, places, out: Disjoint::new(out.padded_mut()), stride };
        let few = places.len() * shape.kv_heads < PIECES_PER_THREAD * pool.threads();
        if pool.threads() > 1 && few {
            task.by_block(pool, &mut self.partials);
        } else {
            bundle(places, (BUNDLE / shape.group()).max(1), &mut self.bundles);
            task.by_bundle(pool, &self.bundles);
        }
    }
}

/// Splits rows into runs of at most `size` in the same block of one sequence.
fn bundle(places: &[Place], size: usize, bundles: &mut Vec<Range<usize>>) {
    let block = |place: &Place| (place.slot, place.position / BLOCK);
    bundles.clear();
    for (row, place) in places.iter().enumerate() {
        match bundles.last_mut() {
            Some(last) if block(&places[last.start]) == block(place) && last.len() < size => {
                last.end = row + 1
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
    places: &'a [Place],
    out: Disjoint<'a, f32>,
    stride: usize,
}

impl<E: Element> Task<'_, E> {
    fn by_bundle(&self, pool: &mut Pool, bundles: &[Range<usize>]) {
        let heads = self.shape.kv_heads;
        pool.run(bundles.len() * heads, |piece| {
            // The last bundles see the most positions: first they.
            let rows = bundles[bundles.len() - 1 - piece / heads].clone();
            self.isa.run(Bundle { task: self, rows, kv_head: piece % heads });
        });
    }

    fn by_block(&self, pool: &mut Pool, partials: &mut Vec<Partial>) {
        let (heads, group) = (self.shape.kv_heads, self.shape.group());
        let blocks = self.places.iter().map(|place| place.position / BLOCK + 1).max().unwrap_or(0);
        let needed = self.places.len() * heads * blocks * group;
        if partials.len() < needed {
            partials.resize(needed, Partial::EMPTY);
        }
        let shared = Disjoint::new(&mut *partials);
        // Heads of a block lie side by side: long runs of pieces are one stream through memory.
        pool.run_ranges(self.places.len() * blocks * heads, |pieces| {
            for piece in pieces {
                let (kv_head, block, row) = (piece % heads, piece / heads % blocks, piece / heads / blocks);
                if block * BLOCK <= self.places[row].position {
                    // SAFETY: each piece has its own partials.
                    #[expect(unsafe_code, reason = "blocks are computed in parallel")]
                    let out = unsafe { shared.part(piece * group..(piece + 1) * group) };
                    self.isa.run(Block { task: self, row, kv_head, block, out });
                }
            }
        });
        pool.run(self.places.len() * heads, |piece| {
            let (kv_head, row) = (piece % heads, piece / heads);
            let used = self.places[row].position / BLOCK + 1;
            let partials = &partials[row * blocks * heads * group..][..used * heads * group];
            self.isa.run(Merge { task: self, row, kv_head, partials });
        });
    }

    /// Some queries of a group and one block of positions; query `n` is head `n % group` of the group for row
    /// `row + n / group`.
    #[inline(always)]
    fn block<S: Simd>(
        &self,
        simd: S,
        (row, kv_head): (usize, usize),
        block: usize,
        queries: Range<usize>,
        out: &mut [Partial],
    ) {
        let (group, slot) = (self.shape.group(), self.places[row].slot);
        let head = self.pages.head(slot, block, self.layer, kv_head);
        let (first, mut done) = (queries.start, 0);
        let query = |n: usize| self.query(row + (first + n) / group, kv_head * group + (first + n) % group);
        let positions =
            |n: usize| BLOCK.min(self.places[row + (first + n) / group].position + 1 - block * BLOCK);
        while done < queries.len() {
            let size = together::<S>(queries.len() - done);
            let out = &mut out[done..done + size];
            macro_rules! attend {
                ($n:literal) => {
                    Partial::of_block::<S, E, $n>(
                        simd,
                        std::array::from_fn(|n| query(done + n)),
                        std::array::from_fn(|n| positions(done + n)),
                        head,
                        out,
                    )
                };
            }
            match size {
                1 => attend!(1),
                2 => attend!(2),
                3 => attend!(3),
                4 => attend!(4),
                _ => attend!(12),
            }
            done += size;
        }
    }

    /// The query of head `head` of row `row`.
    fn query(&self, row: usize, head: usize) -> &[f32] {
        &self.qkv.padded(row)[self.shape.columns(head)]
    }

    /// Writes the output of head `head` of row `row`.
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
        #[expect(clippy::large_stack_arrays, reason = "49 KiB; a region must not allocate")]
        let (mut totals, mut partials) = ([Partial::EMPTY; BUNDLE], [Partial::EMPTY; BUNDLE]);
        for first in (0..queries).step_by(BUNDLE) {
            let count = BUNDLE.min(queries - first);
            for block in 0..=task.places[rows.start].position / BLOCK {
                task.block(simd, (rows.start, kv_head), block, first..first + count, &mut partials[..count]);
                for (total, partial) in totals.iter_mut().zip(&partials[..count]) {
                    if block == 0 {
                        *total = Partial::EMPTY;
                    }
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
        task.block(simd, (row, kv_head), block, 0..task.shape.group(), out);
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
