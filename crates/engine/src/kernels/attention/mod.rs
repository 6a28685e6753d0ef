//! Causal attention with grouped queries over a cache of keys and values.
//!
//! The cache is walked in blocks of 128 positions that begin at multiples of 128. A block gives each query a maximum, a sum
//! and a weighted sum of values; the blocks of a query are merged in order. How rows are bundled, split and spread over
//! threads never changes that arithmetic, so prefill in any chunks and decode have the same bits.

mod append;
mod attend;
mod page;
mod places;
mod softmax;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use page::{BLOCK, CacheType};
pub(crate) use places::{PageId, Places};

use self::attend::Scratch;
use self::page::{KvCache, Pages};
use super::Isa;
use super::rope::Angles;
use super::rows::Rows;
use crate::memory::OutOfMemory;
use crate::pool::Pool;

/// The largest head that fits the kernels' stack buffers.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// Heads of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl HeadShape {
    fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Columns of query head `index`.
    fn columns(self, index: usize) -> Range<usize> {
        index * self.head_dim..(index + 1) * self.head_dim
    }
}

/// The cache of a model, attention on it, and the scratch memory that it needs.
#[derive(Debug)]
pub(crate) struct Attention {
    shape: HeadShape,
    cache: KvCache,
    scratch: Scratch,
}

impl Attention {
    /// A cache of so many pages, each for [`BLOCK`] positions of a sequence.
    ///
    /// # Panics
    /// When a head is larger than [`MAX_HEAD_DIM`].
    pub(crate) fn new(
        shape: HeadShape,
        layers: usize,
        pages: usize,
        kind: CacheType,
    ) -> Result<Self, OutOfMemory> {
        assert!(shape.head_dim <= MAX_HEAD_DIM, "heads of {} elements", shape.head_dim);
        let cache = match kind {
            CacheType::F16 => KvCache::F16(Pages::new(shape, layers, pages)?),
            CacheType::F32 => KvCache::F32(Pages::new(shape, layers, pages)?),
        };
        Ok(Self { shape, cache, scratch: Scratch::new(shape, pages)? })
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(shape: HeadShape, layers: usize, kind: CacheType) -> u64 {
        page::elements(shape, layers) as u64 * kind.bytes() as u64
    }

    /// Copies what a page holds.
    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId) {
        match &mut self.cache {
            KvCache::F16(pages) => pages.copy(from, to),
            KvCache::F32(pages) => pages.copy(from, to),
        }
    }

    /// Keys and values of a page, as they are in memory.
    pub(crate) fn page(&self, page: PageId) -> &[u8] {
        match &self.cache {
            KvCache::F16(pages) => pages.bytes(page),
            KvCache::F32(pages) => pages.bytes(page),
        }
    }

    /// The same, to be written.
    pub(crate) fn page_mut(&mut self, page: PageId) -> &mut [u8] {
        match &mut self.cache {
            KvCache::F16(pages) => pages.bytes_mut(page),
            KvCache::F32(pages) => pages.bytes_mut(page),
        }
    }

    /// Rotates queries and keys of `qkv` (`[rows, queries | keys | values]`) to their positions, and appends keys and values
    /// to the cache.
    pub(crate) fn append(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        layer: usize,
        qkv: &mut Rows,
        angles: &Angles,
        places: &Places,
    ) {
        match &mut self.cache {
            KvCache::F16(pages) => append::append(pool, isa, self.shape, pages, layer, qkv, angles, places),
            KvCache::F32(pages) => append::append(pool, isa, self.shape, pages, layer, qkv, angles, places),
        }
    }

    /// Attends from the queries of `qkv` to all positions of their sequences up to their own; out: `[rows, heads * head_dim]`.
    pub(crate) fn attend(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        layer: usize,
        qkv: &Rows,
        places: &Places,
        out: &mut Rows,
    ) {
        let by_block = attend::few(pool, self.shape, places);
        self.attend_divided(pool, isa, layer, qkv, places, out, by_block);
    }

    /// The same, with the blocks of a row spread over the threads or all done by one.
    #[expect(clippy::too_many_arguments, reason = "the one place where cache, shape and rows meet")]
    pub(super) fn attend_divided(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        layer: usize,
        qkv: &Rows,
        places: &Places,
        out: &mut Rows,
        by_block: bool,
    ) {
        let (shape, scratch) = (self.shape, &mut self.scratch);
        match &self.cache {
            KvCache::F16(pages) => scratch.attend(pool, isa, shape, pages, layer, qkv, places, out, by_block),
            KvCache::F32(pages) => scratch.attend(pool, isa, shape, pages, layer, qkv, places, out, by_block),
        }
    }
}
