//! Parameters: as they are trained (`master`, f32), and as the forward pass sees them.

use bitnet_demo_conversations::Random;
use half::f16;
use rayon::prelude::*;

use crate::quantize::{Precision, absmean, ternary};
use crate::shape::{Kind, Layout, Tensor};

/// Standard deviation of embeddings at the beginning.
const EMBEDDING_DEVIATION: f32 = 0.02;

/// Parameters at the beginning: norms are 1, the rest is normal, linear maps so that they keep the size of their input.
#[must_use]
pub fn initial(layout: &Layout, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut master = Vec::with_capacity(layout.parameters());
    for tensor in &layout.tensors {
        let deviation = match tensor.kind {
            Kind::Norm => {
                master.extend(tensor.range.clone().map(|_| 1.0));
                continue;
            }
            Kind::Embedding => EMBEDDING_DEVIATION,
            Kind::Ternary => 1.0 / (tensor.columns as f32).sqrt(),
        };
        master.extend(tensor.range.clone().map(|_| deviation * normal(&mut random)));
    }
    master
}

/// A normally distributed number (Box and Muller, 1958).
fn normal(random: &mut Random) -> f32 {
    let mut unit = || ((random.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let radius = (-2.0 * unit().ln()).sqrt();
    (radius * (std::f64::consts::TAU * unit()).cos()) as f32
}

/// Parameters as the forward pass sees them; the vector has the layout of the master.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Linear maps as `code · scale`, the embedding as F16 can hold it.
    pub values: Vec<f32>,
    /// Whether activations are rounded as well.
    pub precision: Precision,
}

impl Weights {
    /// Rounds all parameters.
    #[must_use]
    pub fn new(layout: &Layout, master: &[f32], precision: Precision) -> Self {
        let mut weights = Self { values: master.to_vec(), precision };
        weights.update(layout, master);
        weights
    }

    /// Rounds all parameters again.
    pub fn update(&mut self, layout: &Layout, master: &[f32]) {
        let mut tasks = Vec::new();
        let mut rest = self.values.as_mut_slice();
        for tensor in &layout.tensors {
            let (values, after) = rest.split_at_mut(tensor.range.len());
            tasks.push((tensor, values));
            rest = after;
        }
        let precision = self.precision;
        tasks.into_par_iter().for_each(|(tensor, values)| {
            values.copy_from_slice(&master[tensor.range.clone()]);
            if precision == Precision::Quantized {
                round(tensor, values);
            }
        });
    }
}

fn round(tensor: &Tensor, values: &mut [f32]) {
    match tensor.kind {
        Kind::Norm => {}
        Kind::Embedding => {
            for value in values {
                *value = f16::from_f32(*value).to_f32();
            }
        }
        Kind::Ternary => {
            let scale = absmean(values);
            for value in values {
                *value = ternary(*value, scale) * scale;
            }
        }
    }
}
