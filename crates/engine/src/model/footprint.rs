//! How much memory a model takes, computed before any of it is taken.

use super::lm_head::{LmHeadType, WORTH_SEARCHING};
use super::weights::ternary_weights;
use crate::checkpoint::{Checkpoint, CheckpointError, Hyperparameters};
use crate::kernels::{Attention, BLOCK, CacheType, HeadShape};

/// For each token of the vocabulary: bounds of its logit and what is chosen from them, or the logit itself.
const PER_TOKEN: usize = 24;

/// Bytes that loading and using a model takes at least; what the program needs besides is a few dozen MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Weights in the kernels' layout and both ends of the model.
    pub weights: u64,
    /// Keys and values of a page, which has 128 positions.
    pub page: u64,
    /// What a sequence needs beside its pages to find its next token.
    pub sequence: u64,
}

impl Footprint {
    /// Of the model of a checkpoint.
    pub fn of(
        checkpoint: &Checkpoint,
        lm_head: LmHeadType,
        cache_type: CacheType,
    ) -> Result<Self, CheckpointError> {
        let shape = checkpoint.hyperparameters();
        let Hyperparameters { vocab_size, hidden, layers, heads, kv_heads, head_dim, tied_head, .. } = *shape;
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
        let heads = HeadShape { heads, kv_heads, head_dim };
        Ok(Self {
            weights: ternary_weights(shape) / 4 + lm_head,
            page: Attention::page_bytes(heads, layers, cache_type),
            sequence: (PER_TOKEN * vocab_size) as u64,
        })
    }

    /// Keys and values of so many tokens of a sequence, in whole pages.
    #[must_use]
    pub fn kv_cache(self, tokens: usize) -> u64 {
        self.page * tokens.div_ceil(BLOCK) as u64
    }
}
