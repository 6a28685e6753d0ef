//! How attention is spread over the threads: by blocks of positions when there are few rows, else by bundles of rows.

use std::io;
use std::ops::Range;

use super::cache::{BLOCK, Element, Pages};
use super::softmax::{Partial, QUERIES};
use super::{HeadShape, Place};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::rows::Rows;
use crate::kernels::simd::Simd;
use crate::pool::Pool;

/// Rows of one sequence that one piece attends for: they share each block of the cache while it is near.
const BUNDLE: usize = 8;
/// With fewer pieces a thread than this, blocks are spread over the threads as well.
const PIECES_PER_THREAD: usize = 8;

/// Memory that is reused from call to call, so that decoding does not allocate.
#[derive(Debug)]
pub(super) struct Scratch {
    bundles: Vec<Range<usize>>,
    /// Results of single blocks: `[row, key-value head, block, query head of its group]`.
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
            bundle(places, &mut self.bundles);
            task.by_bundle(pool, &self.bundles);
        }
    }
}

/// Splits rows into runs of one sequence.
fn bundle(places: &[Place], bundles: &mut Vec<Range<usize>>) {
    bundles.clear();
    for (row, place) in places.iter().enumerate() {
        match bundles.last_mut() {
            Some(last) if places[last.start].slot == place.slot && last.len() < BUNDLE => last.end = row + 1,
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
        pool.run(self.places.len() * heads * blocks, |piece| {
            let (block, kv_head, row) = (piece % blocks, piece / blocks % heads, piece / blocks / heads);
            if block * BLOCK <= self.places[row].position {
                // SAFETY: each piece has its own partials.
                #[expect(unsafe_code, reason = "blocks are computed in parallel")]
                let out = unsafe { shared.part(piece * group..(piece + 1) * group) };
                self.isa.run(Block { task: self, row, kv_head, block, heads: 0..group, out });
            }
        });
        pool.run(self.places.len() * heads, |piece| {
            let (kv_head, row) = (piece % heads, piece / heads);
            let used = self.places[row].position / BLOCK + 1;
            let partials = &partials[piece * blocks * group..][..used * group];
            self.isa.run(Merge { task: self, row, kv_head, partials });
        });
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

/// Some rows of a sequence, for one key-value head and its group of query heads.
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
        let last = rows.clone().map(|row| task.places[row].position).max().unwrap_or(0);
        for first in (0..group).step_by(QUERIES) {
            let heads = first..group.min(first + QUERIES);
            #[expect(clippy::large_stack_arrays, reason = "33 KiB; a region must not allocate")]
            let mut totals = [[Partial::EMPTY; QUERIES]; BUNDLE];
            let mut partial = [Partial::EMPTY; QUERIES];
            for block in 0..=last / BLOCK {
                for (row, totals) in rows.clone().zip(&mut totals) {
                    if block * BLOCK <= task.places[row].position {
                        let out = &mut partial[..heads.len()];
                        Block { task, row, kv_head, block, heads: heads.clone(), out }.run(simd);
                        for (total, partial) in totals.iter_mut().zip(&*out) {
                            total.merge(simd, partial, task.shape.head_dim);
                        }
                    }
                }
            }
            for (row, totals) in rows.clone().zip(&totals) {
                for (head, total) in heads.clone().zip(totals) {
                    task.finish(row, kv_head * group + head, total);
                }
            }
        }
    }
}

/// One row and one block of positions, for some query heads of a group.
struct Block<'a, 'b, E> {
    task: &'a Task<'b, E>,
    row: usize,
    kv_head: usize,
    block: usize,
    heads: Range<usize>,
    out: &'a mut [Partial],
}

impl<E: Element> Kernel for Block<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { task, row, kv_head, block, heads, out } = self;
        let place = task.places[row];
        let head = task.pages.head(place.slot, block, task.layer, kv_head);
        let positions = BLOCK.min(place.position + 1 - block * BLOCK);
        let first = kv_head * task.shape.group() + heads.start;
        for (chunk, out) in out.chunks_mut(QUERIES).enumerate() {
            let query = |n: usize| task.query(row, first + chunk * QUERIES + n);
            match out.len() {
                1 => Partial::of_block(simd, [query(0)], head, positions, out),
                2 => Partial::of_block(simd, [query(0), query(1)], head, positions, out),
                3 => Partial::of_block(simd, [query(0), query(1), query(2)], head, positions, out),
                _ => Partial::of_block(simd, [query(0), query(1), query(2), query(3)], head, positions, out),
            }
        }
    }
}

/// The blocks of one row, for one key-value head and its group of query heads.
struct Merge<'a, 'b, E> {
    task: &'a Task<'b, E>,
    row: usize,
    kv_head: usize,
    /// `[block, query head of the group]`
    partials: &'a [Partial],
}

impl<E: Element> Kernel for Merge<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let group = self.task.shape.group();
        for head in 0..group {
            let mut total = Partial::EMPTY;
            for partial in self.partials[head..].iter().step_by(group) {
                total.merge(simd, partial, self.task.shape.head_dim);
            }
            self.task.finish(self.row, self.kv_head * group + head, &total);
        }
    }
}
