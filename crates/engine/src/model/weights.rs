//! From a checkpoint to weights in memory, each read and repacked once.

use super::lm_head::{LmHead, LmHeadType};
use crate::checkpoint::{Checkpoint, CheckpointError, Hyperparameters};
use crate::kernels::{HeadShape, Isa, MAX_COLUMNS, MAX_HEAD_DIM, PaddedVector, TernaryMatrix, TernarySource};
use crate::memory::OutOfMemory;
use crate::pool::Pool;
use crate::quant::{QuantError, TernaryRows};

/// All weights of a model, and its shape.
#[derive(Debug)]
pub struct Model {
    pub(super) hyperparameters: Hyperparameters,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: PaddedVector,
    /// With the token embedding.
    pub(super) lm_head: LmHead,
}

/// The weights of one transformer block.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: PaddedVector,
    /// Queries, keys and values: `[hidden + 2 * kv_heads * head_dim, hidden]`.
    pub(super) qkv: TernaryMatrix,
    pub(super) attention_sub_norm: PaddedVector,
    pub(super) attention_output: TernaryMatrix,
    pub(super) ffn_norm: PaddedVector,
    /// Gate and up, interleaved.
    pub(super) gate_up: TernaryMatrix,
    pub(super) ffn_sub_norm: PaddedVector,
    pub(super) down: TernaryMatrix,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A tensor is missing, has another shape or cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor cannot be decoded.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The system has no memory for the weights.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The model is larger in some direction than the kernels allow for.
    #[error("{what} is {value}; the kernels allow at most {limit}")]
    TooLarge {
        what: &'static str,
        /// Its value in the file.
        value: usize,
        /// The most that is supported.
        limit: usize,
    },
}

impl Model {
    /// Reads all weights. The checkpoint is not needed afterwards, but with a lossy `lm_head` its file stays open and is read.
    pub fn load(
        checkpoint: &Checkpoint,
        lm_head: LmHeadType,
        isa: Isa,
        pool: &mut Pool,
    ) -> Result<Self, LoadError> {
        let hyperparameters = checkpoint.hyperparameters().clone();
        let Hyperparameters { hidden, ffn, head_dim, .. } = hyperparameters;
        for (what, value, limit) in [
            ("embedding_length", hidden, MAX_COLUMNS),
            ("feed_forward_length", ffn, MAX_COLUMNS),
            ("the size of a head", head_dim, MAX_HEAD_DIM),
        ] {
            if value > limit {
                return Err(LoadError::TooLarge { what, value, limit });
            }
        }
        let lm_head = LmHead::load(checkpoint, lm_head, isa, pool)?;
        let layers = (0..hyperparameters.layers)
            .map(|index| Layer::load(checkpoint, pool, &hyperparameters, index))
            .collect::<Result<_, _>>()?;
        let output_norm = checkpoint.vector("output_norm.weight", hidden)?.into();
        Ok(Self { hyperparameters, layers, output_norm, lm_head })
    }

    /// The model's shape.
    #[must_use]
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// Number of ternary weights, each multiplied once for every token.
    #[must_use]
    pub fn ternary_weights(&self) -> u64 {
        ternary_weights(&self.hyperparameters)
    }

    /// All weights in memory that decoding a token reads, in the order in which it does, without the few rows of `lm_head` that
    /// are computed after a search.
    #[must_use]
    pub fn buffers(&self) -> Vec<&[u8]> {
        fn matrices(layer: &Layer) -> [&TernaryMatrix; 4] {
            [&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down]
        }
        let ternary = self.layers.iter().flat_map(matrices).map(TernaryMatrix::as_bytes);
        ternary.chain([self.lm_head.buffer()]).collect()
    }

    pub(super) fn head_shape(&self) -> HeadShape {
        let Hyperparameters { heads, kv_heads, head_dim, .. } = self.hyperparameters;
        HeadShape { heads, kv_heads, head_dim }
    }
}

/// Number of ternary weights of a model with this shape.
pub(super) fn ternary_weights(shape: &Hyperparameters) -> u64 {
    let Hyperparameters { layers, hidden, ffn, kv_heads, head_dim, .. } = *shape;
    (layers * hidden * (2 * hidden + 2 * kv_heads * head_dim + 3 * ffn)) as u64
}

impl Layer {
    fn load(
        checkpoint: &Checkpoint,
        pool: &mut Pool,
        shape: &Hyperparameters,
        index: usize,
    ) -> Result<Self, LoadError> {
        let Hyperparameters { hidden, ffn, kv_heads, head_dim, .. } = *shape;
        let kv = kv_heads * head_dim;
        let norm = |name, length| -> Result<PaddedVector, CheckpointError> {
            Ok(checkpoint.vector(&format!("blk.{index}.{name}.weight"), length)?.into())
        };
        let linear = |name, rows, columns| -> Result<_, LoadError> {
            let name = format!("blk.{index}.{name}.weight");
            let rows = TernaryRows::new(checkpoint.matrix(&name, rows, columns)?)?;
            Ok(Linear { rows, factor: checkpoint.separate_scale(&name)? })
        };
        let qkv =
            [linear("attn_q", hidden, hidden)?, linear("attn_k", kv, hidden)?, linear("attn_v", kv, hidden)?];
        let gate_up = [linear("ffn_gate", ffn, hidden)?, linear("ffn_up", ffn, hidden)?];
        Ok(Self {
            attention_norm: norm("attn_norm", hidden)?,
            qkv: TernaryMatrix::stack(pool, hidden, &qkv)?,
            attention_sub_norm: norm("attn_sub_norm", hidden)?,
            attention_output: TernaryMatrix::stack(pool, hidden, &[linear("attn_output", hidden, hidden)?])?,
            ffn_norm: norm("ffn_norm", hidden)?,
            gate_up: TernaryMatrix::interleave(pool, hidden, &gate_up)?,
            ffn_sub_norm: norm("ffn_sub_norm", ffn)?,
            down: TernaryMatrix::stack(pool, ffn, &[linear("ffn_down", hidden, ffn)?])?,
        })
    }
}

/// A ternary tensor, and a factor beyond its own scale.
struct Linear<'a> {
    rows: TernaryRows<'a>,
    factor: f32,
}

impl TernarySource for Linear<'_> {
    type Error = LoadError;

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn scale(&self) -> f32 {
        self.rows.scale() * self.factor
    }

    fn read(&self, first: usize, out: &mut [i8]) -> Result<(), LoadError> {
        Ok(self.rows.unpack(first, out)?)
    }
}
