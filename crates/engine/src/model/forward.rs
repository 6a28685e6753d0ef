//! The forward pass: tokens in, logits out, keys and values kept.

use super::lm_head::Scratch;
use super::output::Block;
use super::profile::{Profile, Stage};
use super::run::{ForwardError, Limits, Run, Wanted, check};
use super::weights::Model;
use crate::checkpoint::Hyperparameters;
use crate::kernels::{
    Activations, Angles, Attention, BLOCK, CacheType, Isa, PageId, Places, Rows, matmul, matmul_add,
    matmul_gated, norm, norm_quantize,
};
use crate::memory::OutOfMemory;
use crate::pool::Pool;

/// What an [`Inference`] makes room for.
#[derive(Clone, Copy, Debug)]
pub struct InferenceOptions {
    /// Positions of a sequence.
    pub context: usize,
    /// Sequences that are kept at the same time.
    pub slots: usize,
    /// Number format of keys and values.
    pub cache_type: CacheType,
    /// Rows of one forward pass.
    pub max_rows: usize,
}

/// There is no memory for the KV cache or the intermediate results.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reserve memory for {slots} × {context} positions in the KV cache and {max_rows} rows at a time; \
     choose a smaller context or batch"
)]
pub struct InferenceError {
    slots: usize,
    context: usize,
    max_rows: usize,
    source: OutOfMemory,
}

/// A model with its threads, its KV cache and the memory for intermediate results: everything that computes.
#[derive(Debug)]
pub struct Inference {
    pub(super) model: Model,
    pub(super) pool: Pool,
    pub(super) isa: Isa,
    options: InferenceOptions,
    attention: Attention,
    /// Positions that each slot holds.
    held: Vec<usize>,
    places: Places,
    angles: Angles,
    /// The residual stream.
    x: Rows,
    hidden_codes: Activations,
    qkv: Rows,
    attended: Rows,
    gated: Rows,
    ffn_codes: Activations,
    /// The states after the last norm of the rows whose logits are wanted.
    pub(super) last: Rows,
    /// Their logits, once somebody asks.
    pub(super) block: Block,
    pub(super) scratch: Scratch,
    pub(super) profile: Profile,
}

impl Inference {
    /// Reserves all memory that forward passes need, but touches little of it.
    pub fn new(
        model: Model,
        pool: Pool,
        isa: Isa,
        options: InferenceOptions,
    ) -> Result<Self, InferenceError> {
        let Hyperparameters { layers, hidden, ffn, kv_heads, head_dim, rope_theta, .. } =
            model.hyperparameters;
        let InferenceOptions { context, slots, cache_type, max_rows } = options;
        let memory = |source| InferenceError { slots, context, max_rows, source };
        let pages = slots.saturating_mul(context.div_ceil(BLOCK));
        let attention = Attention::new(model.head_shape(), layers, pages, cache_type).map_err(memory)?;
        Ok(Self {
            attention,
            held: vec![0; slots],
            places: Places::with_capacity(max_rows, pages),
            angles: Angles::new(head_dim, rope_theta, max_rows),
            x: Rows::with_capacity(max_rows, hidden).map_err(memory)?,
            hidden_codes: Activations::with_capacity(max_rows, hidden).map_err(memory)?,
            qkv: Rows::with_capacity(max_rows, hidden + 2 * kv_heads * head_dim).map_err(memory)?,
            attended: Rows::with_capacity(max_rows, hidden).map_err(memory)?,
            gated: Rows::with_capacity(max_rows, ffn).map_err(memory)?,
            ffn_codes: Activations::with_capacity(max_rows, ffn).map_err(memory)?,
            last: Rows::with_capacity(max_rows, hidden).map_err(memory)?,
            block: Block::default(),
            scratch: model.lm_head.scratch().map_err(memory)?,
            profile: Profile::default(),
            model,
            pool,
            isa,
            options,
        })
    }

    /// The model's shape.
    #[must_use]
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.model.hyperparameters
    }

    /// Positions of a sequence.
    #[must_use]
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// Rows of one forward pass.
    #[must_use]
    pub fn max_rows(&self) -> usize {
        self.options.max_rows
    }

    /// Runs tokens through the model and appends their keys and values to the cache; then [`Inference::logits`] has the logits that
    /// were asked for, in the order of the runs.
    pub fn forward(&mut self, runs: &[Run<'_>]) -> Result<(), ForwardError> {
        self.profile.start();
        let InferenceOptions { context, max_rows: rows, .. } = self.options;
        let vocab_size = self.model.hyperparameters.vocab_size;
        check(runs, &Limits { held: &self.held, context, rows, vocab_size })?;
        self.embed(runs)?;
        self.admit(runs);
        self.profile.end(Stage::Embed);
        self.run_layers();
        self.keep_last(runs);
        self.profile.end(Stage::LmHead);
        Ok(())
    }

    #[must_use]
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Lends the threads, with the model, to measurements.
    pub fn with_pool<T>(&mut self, work: impl FnOnce(&Model, &mut Pool) -> T) -> T {
        work(&self.model, &mut self.pool)
    }

    /// Number format of keys and values.
    #[must_use]
    pub fn cache_type(&self) -> CacheType {
        self.options.cache_type
    }

    /// Where the time of the forward passes since the last call went.
    pub fn take_profile(&mut self) -> Profile {
        std::mem::take(&mut self.profile)
    }

    /// Looks the tokens up.
    fn embed(&mut self, runs: &[Run<'_>]) -> Result<(), ForwardError> {
        self.x.set_rows(runs.iter().map(|run| run.tokens.len()).sum());
        for (index, &token) in runs.iter().flat_map(|run| run.tokens).enumerate() {
            let embedded = self.model.lm_head.embed(token as usize, self.x.row_mut(index));
            embedded.map_err(|error| ForwardError::embedding(token, &error))?;
        }
        Ok(())
    }

    /// From here on nothing can fail.
    fn admit(&mut self, runs: &[Run<'_>]) {
        self.places.clear();
        for run in runs {
            let positions = run.start..run.start + run.tokens.len();
            self.held[run.slot] = positions.end;
            self.places.push(positions, pages_of(run.slot, self.options.context));
        }
        self.angles.set_positions(runs.iter().flat_map(|run| run.start..run.start + run.tokens.len()));
    }

    fn run_layers(&mut self) {
        let Self {
            model,
            pool,
            attention,
            places,
            angles,
            x,
            hidden_codes,
            qkv,
            attended,
            gated,
            ffn_codes,
            profile,
            ..
        } = self;
        let isa = self.isa;
        let Hyperparameters { rms_eps: eps, activation, .. } = model.hyperparameters;
        for rows in [&mut *qkv, &mut *attended, &mut *gated] {
            rows.set_rows(places.rows());
        }
        for (index, layer) in model.layers.iter().enumerate() {
            norm_quantize(pool, isa, x, &layer.attention_norm, eps, hidden_codes);
            profile.end(Stage::Norm);
            matmul(pool, isa, &layer.qkv, hidden_codes, qkv);
            profile.end(Stage::Qkv);
            attention.append(pool, isa, index, qkv, angles, places);
            profile.end(Stage::Append);
            attention.attend(pool, isa, index, qkv, places, attended);
            profile.end(Stage::Attention);
            norm_quantize(pool, isa, attended, &layer.attention_sub_norm, eps, hidden_codes);
            profile.end(Stage::Norm);
            matmul_add(pool, isa, &layer.attention_output, hidden_codes, x);
            profile.end(Stage::AttentionOutput);

            norm_quantize(pool, isa, x, &layer.ffn_norm, eps, hidden_codes);
            profile.end(Stage::Norm);
            matmul_gated(pool, isa, &layer.gate_up, hidden_codes, gated, activation);
            profile.end(Stage::GateUp);
            norm_quantize(pool, isa, gated, &layer.ffn_sub_norm, eps, ffn_codes);
            profile.end(Stage::Norm);
            matmul_add(pool, isa, &layer.down, ffn_codes, x);
            profile.end(Stage::Down);
        }
    }

    /// Normalizes the last states of the rows whose logits are wanted.
    fn keep_last(&mut self, runs: &[Run<'_>]) {
        let wanted = |run: &Run<'_>| match run.logits {
            Wanted::None => 0,
            Wanted::Last => 1,
            Wanted::All => run.tokens.len(),
        };
        self.last.set_rows(runs.iter().map(wanted).sum());
        let (mut end, mut kept) = (0, 0);
        for run in runs {
            end += run.tokens.len();
            for row in end - wanted(run)..end {
                self.last.row_mut(kept).copy_from_slice(self.x.row(row));
                kept += 1;
            }
        }
        norm(self.isa, &mut self.last, &self.model.output_norm, self.model.hyperparameters.rms_eps);
        self.block.forget();
    }
}

/// The pages of a slot, from position 0 on: each slot has as many as a sequence can fill, always the same.
fn pages_of(slot: usize, context: usize) -> impl Iterator<Item = PageId> {
    let pages = context.div_ceil(BLOCK);
    (slot * pages..(slot + 1) * pages).map(|page| page as PageId)
}
