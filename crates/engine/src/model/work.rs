//! How much the stages of a forward pass have to do for a token: what measured times are held against.

use super::forward::Inference;
use super::profile::Stage;
use super::weights::{Layer, Model};
use crate::checkpoint::Hyperparameters;
use crate::kernels::TernaryMatrix;

impl Model {
    /// Ternary weights that a stage multiplies for each token, in all layers; zero where there are none.
    #[must_use]
    pub fn ternary_weights_of(&self, stage: Stage) -> u64 {
        self.sum(stage, |matrix| matrix.rows() * matrix.columns())
    }

    /// Bytes of weights that a stage reads when a token is decoded; zero where there are none, or a few as in norms.
    #[must_use]
    pub fn weight_bytes_of(&self, stage: Stage) -> u64 {
        let ternary = |stage| self.sum(stage, |matrix| matrix.as_bytes().len());
        if stage == Stage::LmHead {
            // Whatever form of lm_head is read.
            let all: u64 = self.buffers().iter().map(|buffer| buffer.len() as u64).sum();
            all - Stage::ALL.into_iter().map(ternary).sum::<u64>()
        } else {
            ternary(stage)
        }
    }

    fn sum(&self, stage: Stage, size: impl Fn(&TernaryMatrix) -> usize) -> u64 {
        self.layers.iter().filter_map(|layer| matrix(layer, stage)).map(|matrix| size(matrix) as u64).sum()
    }
}

fn matrix(layer: &Layer, stage: Stage) -> Option<&TernaryMatrix> {
    match stage {
        Stage::Qkv => Some(&layer.qkv),
        Stage::AttentionOutput => Some(&layer.attention_output),
        Stage::GateUp => Some(&layer.gate_up),
        Stage::Down => Some(&layer.down),
        Stage::Embed | Stage::Norm | Stage::Append | Stage::Attention | Stage::LmHead => None,
    }
}

impl Inference {
    /// Bytes of keys and values that decoding one token reads when `depth` tokens are before it.
    #[must_use]
    pub fn kv_bytes(&self, depth: usize) -> u64 {
        let Hyperparameters { layers, kv_heads, head_dim, .. } = *self.hyperparameters();
        (2 * depth * layers * kv_heads * head_dim * self.cache_type().bytes()) as u64
    }

    /// Multiply-adds with keys and values for a token that attends to `positions`.
    #[must_use]
    pub fn attention_multiply_adds(&self, positions: usize) -> u64 {
        let Hyperparameters { layers, heads, head_dim, .. } = *self.hyperparameters();
        (2 * positions * layers * heads * head_dim) as u64
    }
}
