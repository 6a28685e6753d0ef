//! One training step: conversations → gradients → new parameters.
//!
//! A step's conversations are drawn in [`LANES`] lanes, each with random numbers of its own that follow from seed, step and lane.
//! A lane is computed by one thread, and lanes are added in their order; so the result depends on the seed, but not on the number of
//! threads or on which was faster, and a training that was interrupted goes on as if it had not been.

use anyhow::Result;
use bitnet_demo_conversations::Random;
use rayon::prelude::*;

use crate::corpus::Lessons;
use crate::network::{Network, Trace};
use crate::optimizer::Optimizer;
use crate::quantize::Precision;
use crate::sequence::{Batch, Encoder};
use crate::shape::Shape;
use crate::weights::{Weights, initial};

/// Parts of a step that can be computed at the same time, and so the most threads that are of use.
pub const LANES: usize = 4;
/// Tokens that go through the network at once: enough for fast products, few enough that much stays in the second-level cache.
const TOKENS_AT_ONCE: usize = 1_024;

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    /// Layout and forward pass, without any parameter.
    pub network: Network,
    /// All parameters in full precision, from which ternary weights are rounded for each step.
    pub master: Vec<f32>,
    /// The optimizer's memory.
    pub optimizer: Optimizer,
    weights: Weights,
    seed: u64,
    lanes: Vec<Lane>,
}

/// What one thread needs.
#[derive(Debug)]
struct Lane {
    trace: Trace,
    gradient: Vec<f32>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// Sum of the loss of all targets, in nats.
    pub loss: f64,
    /// Tokens that were predicted.
    pub targets: usize,
    /// Tokens that were read.
    pub tokens: usize,
    /// Length of the gradient before clipping.
    pub gradient: f64,
}

impl Trainer {
    /// Begins with random parameters.
    #[must_use]
    pub fn new(shape: Shape, seed: u64) -> Self {
        let network = Network::new(shape);
        let master = initial(&network.layout, seed);
        let optimizer = Optimizer::new(master.len());
        Self::resume(network, master, optimizer, seed)
    }

    /// A model that was trained before.
    #[must_use]
    pub fn resume(network: Network, master: Vec<f32>, optimizer: Optimizer, seed: u64) -> Self {
        let weights = Weights::new(&network.layout, &master, Precision::Quantized);
        let lane = |_| Lane { trace: Trace::default(), gradient: vec![0.0; master.len()] };
        Self { lanes: (0..LANES).map(lane).collect(), network, master, optimizer, weights, seed }
    }

    /// A step with about `tokens` new tokens, at a learning rate and a weight decay.
    pub fn step(
        &mut self,
        lessons: &Lessons,
        encoder: &Encoder,
        tokens: usize,
        rates: (f32, f32),
    ) -> Result<Step> {
        let (seed, steps) = (self.seed, self.optimizer.steps);
        let context = self.network.layout.shape.context;
        self.step_with(rates, |lane| {
            let mut random = stream(seed, steps, lane);
            let mut rest = tokens / LANES;
            Ok(std::iter::from_fn(move || {
                (rest > 0).then(|| {
                    let batch = lessons.batch(encoder, &mut random, rest.min(TOKENS_AT_ONCE), context);
                    rest = batch.as_ref().map_or(0, |batch| rest.saturating_sub(batch.tokens.len()));
                    batch
                })
            }))
        })
    }

    /// A step with the batches that each lane is given.
    pub fn step_with<I: Iterator<Item = Result<Batch>>>(
        &mut self,
        rates: (f32, f32),
        batches: impl Fn(usize) -> Result<I> + Sync,
    ) -> Result<Step> {
        let (network, weights) = (&self.network, &self.weights);
        let parts = self.lanes.par_iter_mut().enumerate().map(|(index, lane)| {
            let mut part = Step::default();
            for batch in batches(index)? {
                let batch = batch?;
                part.loss += network.train(weights, &batch, &mut lane.trace, &mut lane.gradient);
                part.tokens += batch.tokens.len();
                part.targets += batch.targets.len();
            }
            Ok(part)
        });
        let mut step = Step::default();
        for part in parts.collect::<Result<Vec<Step>>>()? {
            step.loss += part.loss;
            step.tokens += part.tokens;
            step.targets += part.targets;
        }
        let scale = 1.0 / step.targets.max(1) as f32;
        let mut gradients: Vec<&mut [f32]> =
            self.lanes.iter_mut().map(|lane| lane.gradient.as_mut_slice()).collect();
        let layout = &self.network.layout;
        step.gradient = self.optimizer.step(layout, &mut self.master, &mut gradients, scale, rates);
        self.weights.update(layout, &self.master);
        Ok(step)
    }

    /// The mean loss of a target, in nats.
    pub fn loss(&mut self, batch: &Batch) -> f64 {
        let (network, weights) = (&self.network, &self.weights);
        let pieces = batch.split((batch.tokens.len() / TOKENS_AT_ONCE).next_multiple_of(LANES).max(LANES));
        let of_lane = pieces.len().div_ceil(LANES).max(1);
        let losses = self.lanes.par_iter_mut().zip(pieces.par_chunks(of_lane)).map(|(lane, pieces)| {
            pieces.iter().map(|piece| network.loss(weights, piece, &mut lane.trace)).sum::<f64>()
        });
        losses.collect::<Vec<_>>().iter().sum::<f64>() / batch.targets.len().max(1) as f64
    }
}

/// Random numbers of a lane in a step.
fn stream(seed: u64, step: u64, lane: usize) -> Random {
    let of_step = Random::new(seed ^ step.rotate_left(32)).bits();
    Random::new(of_step.wrapping_add(lane as u64))
}
