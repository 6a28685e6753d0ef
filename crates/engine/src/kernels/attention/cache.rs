//! The KV cache: pages of 128 positions, laid out for the products that attention needs.
//!
//! A page holds one block of positions for all layers, so memory is touched only as far as sequences reach. For each layer
//! and key-value head it has the keys as `[position / 32][head_dim][32 positions]` and the values as
//! `[element / 32][position][32 elements]`: both products of attention then add multiples of rows of 32.

use std::io;

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{HeadShape, MAX_HEAD_DIM, Place};
use crate::kernels::disjoint::Disjoint;
use crate::kernels::simd::{LANES, Simd};
use crate::memory::Buffer;

/// Positions of a page.
pub(super) const BLOCK: usize = 128;
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

/// Keys and values of all sequences.
#[derive(Debug)]
pub(super) enum KvCache {
    F16(Pages<f16>),
    F32(Pages<f32>),
}

/// A number format of the cache.
pub(super) trait Element: Pod + Send + Sync {
    /// Converts values, as many as there are in both.
    fn convert(values: &[f32], out: &mut [Self]);
    fn load<S: Simd>(simd: S, values: &[Self; LANES]) -> S::Vector;
}

impl Element for f16 {
    fn convert(values: &[f32], out: &mut [Self]) {
        // Saturated: an infinite key would turn a whole sequence into NaN.
        let mut limited = [0.0; MAX_HEAD_DIM];
        for (limited, value) in limited.iter_mut().zip(values) {
            *limited = value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
        }
        out[..values.len()].convert_from_f32_slice(&limited[..values.len()]);
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: &[Self; LANES]) -> S::Vector {
        simd.load_f16(values)
    }
}

impl Element for f32 {
    fn convert(values: &[f32], out: &mut [Self]) {
        out[..values.len()].copy_from_slice(values);
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

/// Where things are: pages of the first sequence, then those of the second, and so on; in a page layers, in a layer heads,
/// in a head the keys, then the values.
#[derive(Clone, Copy, Debug)]
struct Layout {
    pages_per_slot: usize,
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
    pub(super) fn new(shape: HeadShape, layers: usize, slots: usize, context: usize) -> io::Result<Self> {
        let pages_per_slot = context.div_ceil(BLOCK);
        let layout = Layout { pages_per_slot, layers, kv_heads: shape.kv_heads, head_dim: shape.head_dim };
        let elements = [slots, pages_per_slot, layers, shape.kv_heads, layout.head_elements()]
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { elements: Buffer::zeroed(elements)?, layout })
    }

    /// Keys and values of `BLOCK` positions from `page * BLOCK` on.
    pub(super) fn head(&self, slot: usize, page: usize, layer: usize, head: usize) -> Head<'_, E> {
        let start = self.layout.start(slot, page, layer, head);
        let elements = &self.elements[start..start + self.layout.head_elements()];
        let (keys, values) = elements.split_at(self.layout.key_elements());
        Head { keys: keys.as_chunks().0, values: values.as_chunks().0 }
    }

    pub(super) fn writer(&mut self) -> Writer<'_, E> {
        Writer { elements: Disjoint::new(&mut self.elements), layout: self.layout }
    }
}

impl Layout {
    fn key_elements(self) -> usize {
        self.head_dim * BLOCK
    }

    fn head_elements(self) -> usize {
        self.key_elements() + self.head_dim.next_multiple_of(WIDTH) * BLOCK
    }

    fn start(self, slot: usize, page: usize, layer: usize, head: usize) -> usize {
        let page = slot * self.pages_per_slot + page;
        ((page * self.layers + layer) * self.kv_heads + head) * self.head_elements()
    }
}

impl<E: Element> Writer<'_, E> {
    /// Stores a key.
    ///
    /// # Safety
    /// No other thread uses the keys of this head.
    #[expect(unsafe_code, reason = "heads are stored in parallel")]
    pub(super) unsafe fn store_key(&self, place: Place, layer: usize, head: usize, key: &[f32]) {
        let start = self.layout.start(place.slot, place.position / BLOCK, layer, head);
        // SAFETY: by the caller's promise.
        let keys = unsafe { self.elements.part(start..start + self.layout.key_elements()) };
        let (group, lane) = (place.position % BLOCK / WIDTH, place.position % WIDTH);
        let rows = keys.as_chunks_mut::<WIDTH>().0[group * self.layout.head_dim..].iter_mut();
        let mut converted = [E::zeroed(); MAX_HEAD_DIM];
        E::convert(key, &mut converted);
        for (row, &value) in rows.zip(&converted[..key.len()]) {
            row[lane] = value;
        }
    }

    /// Stores a value.
    ///
    /// # Safety
    /// No other thread uses the values of this head.
    #[expect(unsafe_code, reason = "heads are stored in parallel")]
    pub(super) unsafe fn store_value(&self, place: Place, layer: usize, head: usize, value: &[f32]) {
        let start = self.layout.start(place.slot, place.position / BLOCK, layer, head);
        let values = start + self.layout.key_elements()..start + self.layout.head_elements();
        // SAFETY: by the caller's promise.
        let rows = unsafe { self.elements.part(values) }.as_chunks_mut::<WIDTH>().0;
        for (rows, value) in rows.chunks_mut(BLOCK).zip(value.chunks(WIDTH)) {
            E::convert(value, &mut rows[place.position % BLOCK]);
        }
    }
}
