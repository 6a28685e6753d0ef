//! Forward and backward pass of the whole network over one batch.
//!
//! A batch is a row of sequences without padding: only attention and rotation know where one ends. The forward pass keeps what the
//! backward pass needs in a [`Trace`], whose memory is used again for the next batch.

use std::ops::Range;

use crate::attention::{self, Rotation, weights_length};
use crate::ffn;
use crate::loss::cross_entropy;
use crate::matrix::{Matrix, MatrixMut};
use crate::norm::{self, Into};
use crate::quantize::Precision;
use crate::sequence::Batch;
use crate::shape::{Layer, Layout, Shape};
use crate::weights::Weights;

/// What can compute: the layout and the constants that follow from the shape.
#[derive(Clone, Debug)]
pub struct Network {
    /// Where parameters are.
    pub layout: Layout,
    rotation: Rotation,
}

/// What one norm did: its output and the inverse root mean square of each token.
#[derive(Debug, Default)]
struct Normed {
    values: Vec<f32>,
    inverses: Vec<f32>,
}

impl Normed {
    fn resize(&mut self, tokens: usize, width: usize) {
        self.values.resize(tokens * width, 0.0);
        self.inverses.resize(tokens, 0.0);
    }

    fn compute(&mut self, x: &[f32], weight: &[f32], eps: f32, weights: &Weights) {
        norm::forward(x, weight, eps, weights.precision, &mut self.values, &mut self.inverses);
    }
}

/// What one block did.
#[derive(Debug, Default)]
struct LayerTrace {
    /// The residual stream before it: `[tokens, hidden]`.
    x: Vec<f32>,
    attention_input: Normed,
    /// `[tokens, hidden + 2 * kv]`, rotated.
    qkv: Vec<f32>,
    attention_weights: Vec<f32>,
    attended: Vec<f32>,
    attention_output: Normed,
    /// The residual stream between its halves.
    middle: Vec<f32>,
    ffn_input: Normed,
    /// `[tokens, 2 * ffn]`
    gate_up: Vec<f32>,
    /// `[tokens, ffn]`
    gated: Vec<f32>,
    ffn_output: Normed,
}

impl LayerTrace {
    fn resize(&mut self, shape: &Shape, batch: &Batch) {
        let tokens = batch.tokens.len();
        let Shape { hidden, ffn, .. } = *shape;
        for values in [&mut self.x, &mut self.attended, &mut self.middle] {
            values.resize(tokens * hidden, 0.0);
        }
        self.qkv.resize(tokens * shape.qkv(), 0.0);
        self.attention_weights.resize(weights_length(shape, &batch.sequences), 0.0);
        self.gate_up.resize(tokens * 2 * ffn, 0.0);
        self.gated.resize(tokens * ffn, 0.0);
        self.attention_input.resize(tokens, hidden);
        self.attention_output.resize(tokens, hidden);
        self.ffn_input.resize(tokens, hidden);
        self.ffn_output.resize(tokens, ffn);
    }
}

/// Everything that one pass over a batch computes.
#[derive(Debug, Default)]
pub struct Trace {
    layers: Vec<LayerTrace>,
    /// The residual stream: `[tokens, hidden]`.
    x: Vec<f32>,
    /// The residual stream where something is predicted: `[targets, hidden]`.
    last: Vec<f32>,
    head_input: Normed,
    /// `[targets, vocab]`
    logits: Vec<f32>,
    gradients: Gradients,
}

/// Gradients of what flows through the network.
#[derive(Debug, Default)]
struct Gradients {
    /// Of the residual stream: `[tokens, hidden]`.
    x: Vec<f32>,
    /// `[tokens, hidden]`
    hidden: Vec<f32>,
    /// `[tokens, hidden]`
    attended: Vec<f32>,
    qkv: Vec<f32>,
    ffn: Vec<f32>,
    gated: Vec<f32>,
    gate_up: Vec<f32>,
    head: Vec<f32>,
    last: Vec<f32>,
    scores: Vec<f32>,
}

impl Trace {
    /// Logits `[targets, vocab]` of the last [`Network::forward`].
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    fn resize(&mut self, shape: &Shape, batch: &Batch) {
        let (tokens, targets) = (batch.tokens.len(), batch.targets.len());
        self.layers.resize_with(shape.layers, LayerTrace::default);
        for layer in &mut self.layers {
            layer.resize(shape, batch);
        }
        self.x.resize(tokens * shape.hidden, 0.0);
        self.last.resize(targets * shape.hidden, 0.0);
        self.head_input.resize(targets, shape.hidden);
        self.logits.resize(targets * shape.vocab, 0.0);
    }
}

impl Gradients {
    fn resize(&mut self, shape: &Shape, batch: &Batch) {
        let (tokens, targets) = (batch.tokens.len(), batch.targets.len());
        for values in [&mut self.x, &mut self.hidden, &mut self.attended] {
            values.resize(tokens * shape.hidden, 0.0);
        }
        for values in [&mut self.ffn, &mut self.gated] {
            values.resize(tokens * shape.ffn, 0.0);
        }
        self.qkv.resize(tokens * shape.qkv(), 0.0);
        self.gate_up.resize(tokens * 2 * shape.ffn, 0.0);
        self.head.resize(targets * shape.hidden, 0.0);
        self.last.resize(targets * shape.hidden, 0.0);
    }
}

impl Network {
    /// A network of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { layout: Layout::new(shape), rotation: Rotation::new(&shape) }
    }

    /// The loss of a batch, summed over its targets, in nats. Its gradient is added to `gradient`, which has the layout of the parameters.
    pub fn train(&self, weights: &Weights, batch: &Batch, trace: &mut Trace, gradient: &mut [f32]) -> f64 {
        self.forward(weights, batch, trace);
        let loss = cross_entropy(&mut trace.logits, self.layout.shape.vocab, &batch.targets);
        self.backward(weights, batch, trace, gradient);
        loss
    }

    /// The loss of a batch, summed over its targets, in nats.
    pub fn loss(&self, weights: &Weights, batch: &Batch, trace: &mut Trace) -> f64 {
        self.forward(weights, batch, trace);
        cross_entropy(&mut trace.logits, self.layout.shape.vocab, &batch.targets)
    }

    /// Computes the logits of all targets.
    pub fn forward(&self, weights: &Weights, batch: &Batch, trace: &mut Trace) {
        let shape = &self.layout.shape;
        let hidden = shape.hidden;
        let values = &weights.values;
        trace.resize(shape, batch);
        let embedding = &values[self.layout.embedding.clone()];
        for (x, &token) in trace.x.chunks_exact_mut(hidden).zip(&batch.tokens) {
            x.copy_from_slice(row(embedding, token as usize, hidden));
        }
        for (layer, layer_trace) in self.layout.layers.iter().zip(&mut trace.layers) {
            self.forward_layer(weights, layer, batch, layer_trace, &mut trace.x);
        }
        for (last, target) in trace.last.chunks_exact_mut(hidden).zip(&batch.targets) {
            last.copy_from_slice(row(&trace.x, target.position, hidden));
        }
        let (head_input, norm) = (&mut trace.head_input, &values[self.layout.output_norm.clone()]);
        let (out, inverses) = (&mut head_input.values, &mut head_input.inverses);
        // The head is not a ternary map: its input stays as it is.
        norm::forward(&trace.last, norm, shape.rms_eps, Precision::Exact, out, inverses);
        let embedding = Matrix::new(embedding, hidden).transposed();
        MatrixMut::new(&mut trace.logits, shape.vocab).set(1.0, Matrix::new(out, hidden), embedding);
    }

    fn forward_layer(
        &self,
        weights: &Weights,
        layer: &Layer,
        batch: &Batch,
        trace: &mut LayerTrace,
        x: &mut [f32],
    ) {
        let Shape { hidden, ffn, rms_eps: eps, .. } = self.layout.shape;
        let shape = &self.layout.shape;
        let values = &weights.values;
        let linear =
            |range: &Range<usize>, columns| Matrix::new(&values[range.clone()], columns).transposed();

        trace.x.copy_from_slice(x);
        trace.attention_input.compute(x, &values[layer.attention_norm.clone()], eps, weights);
        let input = Matrix::new(&trace.attention_input.values, hidden);
        MatrixMut::new(&mut trace.qkv, shape.qkv()).set(1.0, input, linear(&layer.qkv, hidden));
        let (attention_weights, attended) = (&mut trace.attention_weights, &mut trace.attended);
        attention::forward(
            shape,
            &self.rotation,
            &batch.sequences,
            &mut trace.qkv,
            attention_weights,
            attended,
        );
        let norm = &values[layer.attention_sub_norm.clone()];
        trace.attention_output.compute(&trace.attended, norm, eps, weights);
        let input = Matrix::new(&trace.attention_output.values, hidden);
        MatrixMut::new(x, hidden).add(1.0, input, linear(&layer.output, hidden));

        trace.middle.copy_from_slice(x);
        trace.ffn_input.compute(x, &values[layer.ffn_norm.clone()], eps, weights);
        let input = Matrix::new(&trace.ffn_input.values, hidden);
        MatrixMut::new(&mut trace.gate_up, 2 * ffn).set(1.0, input, linear(&layer.gate_up, hidden));
        ffn::forward(&trace.gate_up, ffn, &mut trace.gated);
        trace.ffn_output.compute(&trace.gated, &values[layer.ffn_sub_norm.clone()], eps, weights);
        let input = Matrix::new(&trace.ffn_output.values, ffn);
        MatrixMut::new(x, hidden).add(1.0, input, linear(&layer.down, ffn));
    }

    /// Adds the gradient of the parameters to `gradient`; the trace's logits hold those of the logits.
    fn backward(&self, weights: &Weights, batch: &Batch, trace: &mut Trace, gradient: &mut [f32]) {
        let shape = &self.layout.shape;
        let hidden = shape.hidden;
        let values = &weights.values;
        let Trace { layers, last, head_input, logits, gradients, .. } = trace;
        gradients.resize(shape, batch);
        let embedding = Matrix::new(&values[self.layout.embedding.clone()], hidden);
        let d_logits = Matrix::new(logits, shape.vocab);
        let d_embedding = &mut gradient[self.layout.embedding.clone()];
        MatrixMut::new(d_embedding, hidden).add(
            1.0,
            d_logits.transposed(),
            Matrix::new(&head_input.values, hidden),
        );
        MatrixMut::new(&mut gradients.head, hidden).set(1.0, d_logits, embedding);
        norm::backward(
            last,
            &values[self.layout.output_norm.clone()],
            &head_input.inverses,
            &mut gradients.head,
            &mut gradients.last,
            Into::Set,
            &mut gradient[self.layout.output_norm.clone()],
        );
        gradients.x.fill(0.0);
        for (target, d_last) in batch.targets.iter().zip(gradients.last.chunks_exact(hidden)) {
            gradients.x[target.position * hidden..][..hidden].copy_from_slice(d_last);
        }
        for (layer, trace) in self.layout.layers.iter().zip(layers).rev() {
            self.backward_layer(weights, layer, batch, trace, gradients, gradient);
        }
        let d_embedding = &mut gradient[self.layout.embedding.clone()];
        for (&token, d_x) in batch.tokens.iter().zip(gradients.x.chunks_exact(hidden)) {
            let d_row = &mut d_embedding[token as usize * hidden..][..hidden];
            d_row.iter_mut().zip(d_x).for_each(|(d_row, d_x)| *d_row += d_x);
        }
    }

    fn backward_layer(
        &self,
        weights: &Weights,
        layer: &Layer,
        batch: &Batch,
        trace: &LayerTrace,
        d: &mut Gradients,
        gradient: &mut [f32],
    ) {
        let shape = &self.layout.shape;
        let Shape { hidden, ffn, .. } = *shape;
        let values = &weights.values;

        // The feed-forward half, from its end to its beginning.
        linear(values, gradient, (&layer.down, ffn), &d.x, &trace.ffn_output.values, &mut d.ffn);
        norm::backward(
            &trace.gated,
            &values[layer.ffn_sub_norm.clone()],
            &trace.ffn_output.inverses,
            &mut d.ffn,
            &mut d.gated,
            Into::Set,
            &mut gradient[layer.ffn_sub_norm.clone()],
        );
        ffn::backward(&trace.gate_up, &d.gated, ffn, &mut d.gate_up);
        linear(
            values,
            gradient,
            (&layer.gate_up, hidden),
            &d.gate_up,
            &trace.ffn_input.values,
            &mut d.hidden,
        );
        norm::backward(
            &trace.middle,
            &values[layer.ffn_norm.clone()],
            &trace.ffn_input.inverses,
            &mut d.hidden,
            &mut d.x,
            Into::Add,
            &mut gradient[layer.ffn_norm.clone()],
        );

        // The attention half.
        linear(
            values,
            gradient,
            (&layer.output, hidden),
            &d.x,
            &trace.attention_output.values,
            &mut d.hidden,
        );
        norm::backward(
            &trace.attended,
            &values[layer.attention_sub_norm.clone()],
            &trace.attention_output.inverses,
            &mut d.hidden,
            &mut d.attended,
            Into::Set,
            &mut gradient[layer.attention_sub_norm.clone()],
        );
        let kept = (trace.qkv.as_slice(), trace.attention_weights.as_slice());
        let scores = &mut d.scores;
        attention::backward(shape, &self.rotation, &batch.sequences, kept, &d.attended, &mut d.qkv, scores);
        linear(values, gradient, (&layer.qkv, hidden), &d.qkv, &trace.attention_input.values, &mut d.hidden);
        norm::backward(
            &trace.x,
            &values[layer.attention_norm.clone()],
            &trace.attention_input.inverses,
            &mut d.hidden,
            &mut d.x,
            Into::Add,
            &mut gradient[layer.attention_norm.clone()],
        );
    }
}

/// The gradients of a linear map `out = x · wᵀ`: adds that of `w`, sets that of `x`.
///
/// `d_out`: `[tokens, rows]`; x, `d_x`: `[tokens, columns]`.
fn linear(
    values: &[f32],
    gradient: &mut [f32],
    (range, columns): (&Range<usize>, usize),
    d_out: &[f32],
    x: &[f32],
    d_x: &mut [f32],
) {
    let rows = range.len() / columns;
    let d_out = Matrix::new(d_out, rows);
    MatrixMut::new(&mut gradient[range.clone()], columns).add(
        1.0,
        d_out.transposed(),
        Matrix::new(x, columns),
    );
    MatrixMut::new(d_x, columns).set(1.0, d_out, Matrix::new(&values[range.clone()], columns));
}

fn row(values: &[f32], index: usize, width: usize) -> &[f32] {
    &values[index * width..(index + 1) * width]
}
