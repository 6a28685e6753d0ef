//! The layout of a page of the KV cache: 128 positions, as the products of attention need them.
//!
//! A page holds one block of positions for all layers, so memory is touched only as far as sequences reach. Which page holds which
//! positions of which sequence is said by those who call. For each layer and key-value head a page has the keys as `[position / 32][head_dim][32 positions]` and the values as
//! `[element / 32][position][32 elements]`: both products of attention then add multiples of rows of 32.

use std::ops::Range;

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::HeadShape;
use super::places::PageId;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::lanes::{LANES, Simd};
use crate::memory::{Buffer, OutOfMemory};

/// Positions of a page.
pub(crate) const BLOCK: usize = 128;
/// Length of the rows that the products work on: two registers of the widest instruction set.
pub(super) const WIDTH: usize = 2 * LANES;

/// The number format of cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// Half precision: half the memory and bandwidth, rounded to 11 bits.
    F16,
    /// Single precision: as computed.
    F32,
}

impl CacheType {
    /// Size of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => size_of::<f16>(),
            Self::F32 => size_of::<f32>(),
        }
    }
}

/// Keys and values of all pages.
#[derive(Debug)]
pub(super) enum KvCache {
    F16(Pages<f16>),
    F32(Pages<f32>),
}

/// A number format of the cache.
pub(super) trait Element: Pod + Send + Sync {
    /// Converts at most [`WIDTH`] values; the others are zero.
    fn convert(values: &[f32]) -> [Self; WIDTH];
    fn load<S: Simd>(simd: S, values: &[Self; LANES]) -> S::Vector;
}

impl Element for f16 {
    fn convert(values: &[f32]) -> [Self; WIDTH] {
        // Saturated: an infinite key would turn a whole sequence into NaN.
        const LARGEST: f32 = f16::MAX.to_f32_const();
        let (mut limited, mut out) = ([0.0; WIDTH], [Self::ZERO; WIDTH]);
        for (limited, value) in limited.iter_mut().zip(values) {
            *limited = value.clamp(-LARGEST, LARGEST);
        }
        out.convert_from_f32_slice(&limited);
        out
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[Self; LANES]) -> S::Vector {
        simd.load_f16(values)
    }
}

impl Element for f32 {
    fn convert(values: &[f32]) -> [Self; WIDTH] {
        let mut out = [0.0; WIDTH];
        for (out, value) in out.iter_mut().zip(values) {
            *out = *value;
        }
        out
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[Self; LANES]) -> S::Vector {
        simd.load(values)
    }
}

/// Pages of one number format.
#[derive(Debug)]
pub(super) struct Pages<E> {
    elements: Buffer<E>,
    layout: Layout,
}

/// Where things are: page after page; in a page layers, in a layer heads, in a head the keys, then the values.
#[derive(Clone, Copy, Debug)]
struct Layout {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// One layer and key-value head of one page.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, E> {
    /// `[BLOCK / WIDTH * head_dim]` rows of 32 positions.
    pub(super) keys: &'a [[E; WIDTH]],
    /// `[head_dim / WIDTH (rounded up) * BLOCK]` rows of 32 elements.
    pub(super) values: &'a [[E; WIDTH]],
}

/// Stores keys and values from several threads at once.
pub(super) struct Writer<'a, E> {
    elements: Disjoint<'a, E>,
    layout: Layout,
}

impl<E: Element> Pages<E> {
    pub(super) fn new(shape: HeadShape, layers: usize, pages: usize) -> Result<Self, OutOfMemory> {
        let layout = Layout::new(shape, layers);
        // What overflows is refused like any other size that cannot be had.
        let elements = pages.saturating_mul(layout.page_elements());
        Ok(Self { elements: Buffer::zeroed(elements)?, layout })
    }

    /// Keys and values of a page.
    #[inline(always)]
    pub(super) fn head(&self, page: PageId, layer: usize, head: usize) -> Head<'_, E> {
        let start = self.layout.start(page, layer, head);
        let elements = &self.elements[start..start + self.layout.head_elements()];
        let (keys, values) = elements.split_at(self.layout.key_elements());
        Head { keys: keys.as_chunks().0, values: values.as_chunks().0 }
    }

    pub(super) fn copy(&mut self, from: PageId, to: PageId) {
        self.elements.copy_within(self.layout.page(from), self.layout.page(to).start);
    }

    /// A page as it is in memory.
    pub(super) fn bytes(&self, page: PageId) -> &[u8] {
        bytemuck::cast_slice(&self.elements[self.layout.page(page)])
    }

    /// The same, to be written: every bit pattern is a number.
    pub(super) fn bytes_mut(&mut self, page: PageId) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.elements[self.layout.page(page)])
    }

    pub(super) fn writer(&mut self) -> Writer<'_, E> {
        Writer { elements: Disjoint::new(&mut self.elements), layout: self.layout }
    }
}

/// Elements of a page.
pub(super) fn elements(shape: HeadShape, layers: usize) -> usize {
    Layout::new(shape, layers).page_elements()
}

impl Layout {
    fn new(shape: HeadShape, layers: usize) -> Self {
        Self { layers, kv_heads: shape.kv_heads, head_dim: shape.head_dim }
    }

    fn page_elements(self) -> usize {
        self.layers.saturating_mul(self.kv_heads).saturating_mul(self.head_elements())
    }

    fn page(self, page: PageId) -> Range<usize> {
        let start = page as usize * self.page_elements();
        start..start + self.page_elements()
    }

    fn key_elements(self) -> usize {
        self.head_dim * BLOCK
    }

    fn head_elements(self) -> usize {
        self.key_elements() + self.head_dim.next_multiple_of(WIDTH) * BLOCK
    }

    fn start(self, page: PageId, layer: usize, head: usize) -> usize {
        ((page as usize * self.layers + layer) * self.kv_heads + head) * self.head_elements()
    }
}

impl<E: Element> Writer<'_, E> {
    /// Stores the key of a position in its page.
    ///
    /// # Safety
    /// No other thread uses this key.
    #[expect(unsafe_code, reason = "keys are stored in parallel")]
    pub(super) unsafe fn store_key(
        &self,
        (page, position): (PageId, usize),
        layer: usize,
        head: usize,
        key: &[f32],
    ) {
        let start = self.layout.start(page, layer, head);
        let (group, lane) = (position % BLOCK / WIDTH, position % WIDTH);
        let first = start + group * self.layout.head_dim * WIDTH + lane;
        for (first, key) in (first..).step_by(WIDTH * WIDTH).zip(key.chunks(WIDTH)) {
            let values = E::convert(key);
            for (element, &value) in (first..).step_by(WIDTH).zip(&values[..key.len()]) {
                // SAFETY: by the caller's promise; the elements between belong to other keys.
                let element = unsafe { self.elements.part(element..element + 1) };
                element[0] = value;
            }
        }
    }

    /// Stores the value of a position in its page.
    ///
    /// # Safety
    /// No other thread uses this value.
    #[expect(unsafe_code, reason = "values are stored in parallel")]
    pub(super) unsafe fn store_value(
        &self,
        (page, position): (PageId, usize),
        layer: usize,
        head: usize,
        value: &[f32],
    ) {
        let start = self.layout.start(page, layer, head);
        let first = start + self.layout.key_elements() + position % BLOCK * WIDTH;
        for (row, value) in (first..).step_by(BLOCK * WIDTH).zip(value.chunks(WIDTH)) {
            // SAFETY: by the caller's promise; the rows between belong to other values.
            let row = unsafe { self.elements.part(row..row + value.len()) };
            row.copy_from_slice(&E::convert(value)[..value.len()]);
        }
    }
}
