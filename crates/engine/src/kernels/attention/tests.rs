//! Attention against its formula, and its bits against each other.

use std::num::NonZeroUsize;

use super::*;

const SHAPES: [HeadShape; 4] = [
    HeadShape { heads: 4, kv_heads: 1, head_dim: 64 },
    HeadShape { heads: 6, kv_heads: 1, head_dim: 20 },
    HeadShape { heads: 3, kv_heads: 3, head_dim: 128 },
    HeadShape { heads: 10, kv_heads: 2, head_dim: 100 },
];
const POSITIONS: usize = 300;
/// In no order, and not all.
const TABLE: [PageId; 3] = [4, 0, 3];
const PAGES: usize = 5;

fn noise(seed: usize) -> f32 {
    ((seed.wrapping_mul(2_654_435_761) >> 7) % 4_001) as f32 / 1_000.0 - 2.0
}

/// Queries, keys and values of some positions.
fn qkv(shape: HeadShape, positions: Range<usize>) -> Rows {
    let columns = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    let mut rows = Rows::with_capacity(positions.len(), columns).unwrap();
    rows.set_rows(positions.len());
    for (row, position) in positions.enumerate() {
        for (column, value) in rows.row_mut(row).iter_mut().enumerate() {
            *value = noise(position * columns + column);
        }
    }
    rows
}

/// Outputs `[positions, heads * head_dim]` when positions come in chunks.
fn attend(shape: HeadShape, isa: Isa, threads: usize, chunk: usize, kind: CacheType) -> Vec<Vec<f32>> {
    let mut pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    let mut attention = Attention::new(shape, 2, PAGES, kind).unwrap();
    let mut places = Places::default();
    let mut outputs = Vec::new();
    for start in (0..POSITIONS).step_by(chunk) {
        let positions = start..POSITIONS.min(start + chunk);
        let count = positions.len();
        places.clear();
        places.push(positions.clone(), TABLE);
        let mut angles = Angles::new(shape.head_dim, 10_000.0, count);
        angles.set_positions(positions.clone());
        let mut rows = qkv(shape, positions);
        let mut out = Rows::with_capacity(count, shape.heads * shape.head_dim).unwrap();
        out.set_rows(count);
        attention.append(&mut pool, isa, 1, &mut rows, &angles, &places);
        attention.attend(&mut pool, isa, 1, &rows, &places, &mut out);
        outputs.extend((0..count).map(|row| out.row(row).to_vec()));
    }
    outputs
}

/// The formula in f64.
fn expected(shape: HeadShape) -> Vec<Vec<f64>> {
    let (half, group) = (shape.head_dim / 2, shape.group());
    let rows = qkv(shape, 0..POSITIONS);
    let head = |position: usize, head: usize, rotated: bool| -> Vec<f64> {
        let x: Vec<f64> = rows.row(position)[shape.columns(head)].iter().copied().map(f64::from).collect();
        let rotate = |i: usize| {
            let angle = position as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
            let pair = if i < half { -x[i + half] } else { x[i - half] };
            x[i] * angle.cos() + pair * angle.sin()
        };
        if rotated { (0..shape.head_dim).map(rotate).collect() } else { x }
    };
    let kv = |kind: usize, position: usize, index: usize| {
        head(position, shape.heads + kind * shape.kv_heads + index, kind == 0)
    };
    let output = |position: usize| -> Vec<f64> {
        let one = |query_head: usize| {
            let query = head(position, query_head, true);
            let score = |t: usize| {
                let key = kv(0, t, query_head / group);
                query.iter().zip(&key).map(|(q, k)| q * k).sum::<f64>() / (shape.head_dim as f64).sqrt()
            };
            let weights: Vec<f64> = (0..=position).map(|t| score(t).exp()).collect();
            let total: f64 = weights.iter().sum();
            let values: Vec<_> = (0..=position).map(|t| kv(1, t, query_head / group)).collect();
            let mean = |i: usize| weights.iter().zip(&values).map(|(w, v)| w * v[i]).sum::<f64>() / total;
            (0..shape.head_dim).map(mean).collect::<Vec<_>>()
        };
        (0..shape.heads).flat_map(one).collect()
    };
    [0, 1, 127, 128, 129, 299].map(output).to_vec()
}

#[test]
fn attention_follows_the_formula() {
    for shape in SHAPES {
        let found = attend(shape, Isa::best(), 2, 64, CacheType::F32);
        for (position, expected) in [0, 1, 127, 128, 129, 299].into_iter().zip(expected(shape)) {
            for (found, expected) in found[position].iter().zip(&expected) {
                assert!(
                    (f64::from(*found) - expected).abs() < 2e-5,
                    "{shape:?} at {position}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn sequences_that_share_pages_are_computed_without_more_memory() {
    let shape = SHAPES[3];
    let mut pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
    let mut attention = Attention::new(shape, 1, PAGES, CacheType::F16).unwrap();
    let mut angles = Angles::new(shape.head_dim, 10_000.0, POSITIONS);
    let mut places = Places::default();
    places.push(0..POSITIONS, TABLE);
    angles.set_positions(0..POSITIONS);
    attention.append(&mut pool, Isa::best(), 0, &mut qkv(shape, 0..POSITIONS), &angles, &places);

    // Each sees the first two pages and one of its own: nine, and there are five.
    places.clear();
    for (position, page) in [(299, 3), (256, 1), (270, 2)] {
        places.push(position..position + 1, [TABLE[0], TABLE[1], page]);
    }
    let rows = qkv(shape, 297..300);
    let before = attention.scratch.partials.capacity();
    let outputs = [false, true].map(|by_block| {
        let mut out = Rows::with_capacity(3, shape.heads * shape.head_dim).unwrap();
        out.set_rows(3);
        attention.attend_divided(&mut pool, Isa::best(), 0, &rows, &places, &mut out, by_block);
        (0..3).map(|row| out.row(row).to_vec()).collect::<Vec<_>>()
    });
    assert!(outputs[0] == outputs[1] && outputs[0][0].iter().any(|&x| x != 0.0));
    assert_eq!(attention.scratch.partials.capacity(), before, "memory was reserved for all of it");
}

#[test]
fn attention_has_the_same_bits_for_any_division_of_the_work() {
    for shape in SHAPES {
        for kind in [CacheType::F16, CacheType::F32] {
            let expected = attend(shape, Isa::SCALAR, 1, POSITIONS, kind);
            for isa in Isa::available() {
                for (threads, chunk) in [(1, 64), (2, 300), (3, 5)] {
                    let found = attend(shape, isa, threads, chunk, kind);
                    assert!(
                        found == expected,
                        "{shape:?}, {isa}, {threads} threads, chunks of {chunk}, {kind:?}"
                    );
                }
            }
        }
    }
}
