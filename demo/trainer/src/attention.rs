//! Causal attention with grouped queries inside each sequence of a batch, and the rotation of queries and keys.

use std::ops::Range;

use crate::matrix::{Matrix, MatrixMut};
use crate::shape::Shape;
use crate::vector::{dot, softmax};

/// Cosine and sine of each position's angles.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[positions, head_dim / 2]`
    cosines: Vec<f32>,
    /// `[positions, head_dim / 2]`
    sines: Vec<f32>,
    half: usize,
}

impl Rotation {
    /// For all positions of the context, with the roundings of the engine.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let half = shape.head_dim() / 2;
        let frequency = |i: usize| f64::from(shape.rope_theta).powf(-(i as f64) / half as f64) as f32;
        let angles = (0..shape.context).flat_map(|p| (0..half).map(move |i| p as f32 * frequency(i)));
        let (sines, cosines) = angles
            .map(|angle| f64::from(angle).sin_cos())
            .map(|(sine, cosine)| (sine as f32, cosine as f32))
            .unzip();
        Self { cosines, sines, half }
    }

    /// Rotates the queries and keys of one token, or back when `sign` is −1.
    fn apply(&self, position: usize, sign: f32, heads: &mut [f32]) {
        let angles = position * self.half..(position + 1) * self.half;
        let (cosines, sines) = (&self.cosines[angles.clone()], &self.sines[angles]);
        for head in heads.chunks_exact_mut(2 * self.half) {
            let (first, second) = head.split_at_mut(self.half);
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                let sine = sign * sine;
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    }
}

/// Elements of the attention weights of a batch: a square for each head of each sequence.
#[must_use]
pub fn weights_length(shape: &Shape, sequences: &[Range<usize>]) -> usize {
    sequences.iter().map(|sequence| shape.heads * sequence.len() * sequence.len()).sum()
}

/// Where the columns of head `index` are in a row of queries, keys and values.
fn columns(shape: &Shape, index: usize) -> [usize; 3] {
    let head_dim = shape.head_dim();
    let kv_head = index / (shape.heads / shape.kv_heads);
    let key = shape.hidden + kv_head * head_dim;
    [index * head_dim, key, key + shape.kv()]
}

/// qkv: `[tokens, hidden + 2 * kv]`, in which queries and keys are rotated; weights: see [`weights_length`]; out: `[tokens, hidden]`.
pub fn forward(
    shape: &Shape,
    rotation: &Rotation,
    sequences: &[Range<usize>],
    qkv: &mut [f32],
    weights: &mut [f32],
    out: &mut [f32],
) {
    let (width, hidden, head_dim) = (shape.qkv(), shape.hidden, shape.head_dim());
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut rest = weights;
    for sequence in sequences {
        let tokens = sequence.len();
        let qkv = &mut qkv[sequence.start * width..sequence.end * width];
        for (position, token) in qkv.chunks_exact_mut(width).enumerate() {
            rotation.apply(position, 1.0, &mut token[..hidden + shape.kv()]);
        }
        let out = &mut out[sequence.start * hidden..sequence.end * hidden];
        for head in 0..shape.heads {
            let [q, k, v] =
                columns(shape, head).map(|first| Matrix::strided(&qkv[first..], tokens, head_dim, width));
            let (weights, after) = rest.split_at_mut(tokens * tokens);
            rest = after;
            MatrixMut::new(weights, tokens).set(scale, q, k.transposed());
            for (position, weights) in weights.chunks_exact_mut(tokens).enumerate() {
                let (seen, future) = weights.split_at_mut(position + 1);
                softmax(seen);
                future.fill(0.0);
            }
            let out = MatrixMut::strided(&mut out[head * head_dim..], tokens, head_dim, hidden);
            out.set(1.0, Matrix::new(weights, tokens), v);
        }
    }
}

/// The gradient of queries, keys and values before the rotation.
///
/// qkv, weights: as [`forward`] left them; `d_out`: `[tokens, hidden]`; `d_qkv`: `[tokens, hidden + 2 * kv]`; scratch: any.
pub fn backward(
    shape: &Shape,
    rotation: &Rotation,
    sequences: &[Range<usize>],
    (qkv, weights): (&[f32], &[f32]),
    d_out: &[f32],
    d_qkv: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let (width, hidden, head_dim) = (shape.qkv(), shape.hidden, shape.head_dim());
    let scale = 1.0 / (head_dim as f32).sqrt();
    d_qkv.fill(0.0);
    let mut rest = weights;
    for sequence in sequences {
        let tokens = sequence.len();
        let qkv = &qkv[sequence.start * width..sequence.end * width];
        let d_qkv = &mut d_qkv[sequence.start * width..sequence.end * width];
        let d_out = &d_out[sequence.start * hidden..sequence.end * hidden];
        scratch.resize(tokens * tokens, 0.0);
        for head in 0..shape.heads {
            let first = columns(shape, head);
            let [q, k, v] = first.map(|first| Matrix::strided(&qkv[first..], tokens, head_dim, width));
            let (weights, after) = rest.split_at(tokens * tokens);
            rest = after;
            let d_head = Matrix::strided(&d_out[head * head_dim..], tokens, head_dim, hidden);
            MatrixMut::new(scratch, tokens).set(1.0, d_head, v.transposed());
            for (d_weights, weights) in scratch.chunks_exact_mut(tokens).zip(weights.chunks_exact(tokens)) {
                let mean = dot(d_weights, weights);
                // The weights of the future are 0, and so become their gradients.
                for (d_weight, weight) in d_weights.iter_mut().zip(weights) {
                    *d_weight = weight * (*d_weight - mean);
                }
            }
            let d_scores = Matrix::new(scratch, tokens);
            let mut gradient = |part: usize, scale, a, b| {
                MatrixMut::strided(&mut d_qkv[first[part]..], tokens, head_dim, width).add(scale, a, b);
            };
            gradient(0, scale, d_scores, k);
            gradient(1, scale, d_scores.transposed(), q);
            gradient(2, 1.0, Matrix::new(weights, tokens).transposed(), d_head);
        }
        for (position, token) in d_qkv.chunks_exact_mut(width).enumerate() {
            rotation.apply(position, -1.0, &mut token[..hidden + shape.kv()]);
        }
    }
}
