//! From fresh queries, keys and values to rotated ones, keys and values stored in the cache.

use std::ops::Range;

use super::HeadShape;
use super::page::{BLOCK, Element, Pages, WIDTH};
use super::places::Places;
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::rope::Angles;
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// With fewer rows the work is less than a handoff to the threads.
const ROWS_WORTH_SHARING: usize = 8;
/// Rows of a piece: as many as lie side by side in the cache of keys.
const ROWS: usize = WIDTH;

#[expect(clippy::too_many_arguments, reason = "the one place where cache, shape and rows meet")]
pub(super) fn append<E: Element>(
    pool: &mut Pool,
    isa: Isa,
    shape: HeadShape,
    pages: &mut Pages<E>,
    layer: usize,
    qkv: &mut Rows,
    angles: &Angles,
    places: &Places,
) {
    let stride = qkv.stride();
    let rows = places.get();
    let qkv = Disjoint::new(qkv.padded_mut());
    let cache = pages.writer();
    // A piece is some rows of a key-value head and its query heads: long pieces of each row, and few lines of the cache.
    let append = |range: Range<usize>, kv_head: usize| {
        for (row, &place) in range.clone().zip(&rows[range]) {
            let head = |index: usize| {
                let columns = shape.columns(index);
                // SAFETY: each head of a row belongs to one piece, which uses one at a time.
                #[expect(unsafe_code, reason = "heads are rotated in parallel")]
                unsafe {
                    qkv.part(row * stride + columns.start..row * stride + columns.end)
                }
            };
            for query in kv_head * shape.group()..(kv_head + 1) * shape.group() {
                isa.run(angles.rotation(row, head(query)));
            }
            let key = head(shape.heads + kv_head);
            isa.run(angles.rotation(row, key));
            let place = (places.page(place, place.position / BLOCK), place.position);
            // SAFETY: no other piece has this head of this position: a page is that of one sequence, whose positions differ.
            #[expect(unsafe_code, reason = "keys and values are stored in parallel")]
            unsafe {
                cache.store_key(place, layer, kv_head, key);
                cache.store_value(place, layer, kv_head, head(shape.heads + shape.kv_heads + kv_head));
            }
        }
    };
    if rows.len() < ROWS_WORTH_SHARING {
        (0..shape.kv_heads).for_each(|kv_head| append(0..rows.len(), kv_head));
    } else {
        pool.run(rows.len().div_ceil(ROWS) * shape.kv_heads, |piece| {
            let first = piece / shape.kv_heads * ROWS;
            append(first..rows.len().min(first + ROWS), piece % shape.kv_heads);
        });
    }
}
