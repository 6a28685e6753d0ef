//! How much memory a model takes, computed before any of it is taken.

use super::lm_head::{LmHeadType, WORTH_SEARCHING};
use super::weights::ternary_weights;
use crate::checkpoint::{Checkpoint, CheckpointError, Hyperparameters};
use crate::kernels::CacheType;

/// Bytes that loading and using a model takes at least; what the program needs besides is a few dozen MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Weights in the kernels' layout and both ends of the model.
    pub weights: u64,
    /// Keys and values of a full context.
    pub kv_cache: u64,
}

impl Footprint {
    /// Of the model of a checkpoint with a context of so many tokens.
    pub fn of(
        checkpoint: &Checkpoint,
        lm_head: LmHeadType,
        cache_type: CacheType,
        context: usize,
    ) -> Result<Self, CheckpointError> {
        let shape = checkpoint.hyperparameters();
        let Hyperparameters { vocab_size, hidden, layers, kv_heads, head_dim, tied_head, .. } = *shape;
        let bytes = |name| Ok::<_, CheckpointError>(checkpoint.matrix(name, vocab_size, hidden)?.bytes());
        let elements = vocab_size * hidden;
        let lm_head = match lm_head {
            LmHeadType::Exact => {
                let rows = bytes("token_embd.weight")?;
                let output = if tied_head { 0 } else { bytes("output.weight")? };
                let copy = if elements < WORTH_SEARCHING { 0 } else { elements };
                rows + output + copy as u64
            }
            LmHeadType::Q8 => elements as u64,
            LmHeadType::Q4 => elements as u64 / 2,
        };
        let element = match cache_type {
            CacheType::F16 => 2,
            CacheType::F32 => 4,
        };
        Ok(Self {
            weights: ternary_weights(shape) / 4 + lm_head,
            kv_cache: (2 * context * layers * kv_heads * head_dim * element) as u64,
        })
    }

    #[must_use]
    pub fn total(self) -> u64 {
        self.weights + self.kv_cache
    }
}
