//! From fresh queries, keys and values to rotated ones, keys and values stored in the cache.

use super::cache::{Element, Pages};
use super::{HeadShape, Place};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::rope::Angles;
use crate::kernels::rows::Rows;
use crate::pool::Pool;

/// With fewer rows the work is less than a handoff to the threads.
const ROWS_WORTH_SHARING: usize = 8;

#[expect(clippy::too_many_arguments, reason = "the one place where cache, shape and rows meet")]
pub(super) fn append<E: Element>(
    pool: &mut Pool,
    isa: Isa,
    shape: HeadShape,
    pages: &mut Pages<E>,
    layer: usize,
    qkv: &mut Rows,
    angles: &Angles,
    places: &[Place],
) {
    let stride = qkv.stride();
    let qkv = Disjoint::new(qkv.padded_mut());
    let cache = pages.writer();
    let (keys, values) = (shape.heads, shape.heads + shape.kv_heads);
    let pieces = shape.heads + 2 * shape.kv_heads;
    let head = |piece: usize| {
        for (row, &place) in places.iter().enumerate() {
            let start = row * stride + piece * shape.head_dim;
            // SAFETY: a piece is one head of the queries, keys or values, in `qkv` and in the cache.
            #[expect(unsafe_code, reason = "heads are rotated and stored in parallel")]
            unsafe {
                let head = qkv.part(start..start + shape.head_dim);
                if piece < values {
                    isa.run(angles.rotation(row, head));
                }
                if piece >= values {
                    cache.store_value(place, layer, piece - values, head);
                } else if piece >= keys {
                    cache.store_key(place, layer, piece - keys, head);
                }
            }
        }
    };
    if places.len() < ROWS_WORTH_SHARING {
        (0..pieces).for_each(head);
    } else {
        pool.run(pieces, head);
    }
}
