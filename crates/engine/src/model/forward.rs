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
    /// Pages of the KV cache, each for 128 positions of a sequence.
    pub pages: usize,
    /// Sequences of one forward pass.
    pub sequences: usize,
    /// Number format of keys and values.
    pub cache_type: CacheType,
    /// Rows of one forward pass.
    pub max_rows: usize,
}

/// There is no memory for the KV cache or the intermediate results.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reserve memory for {pages} pages of the KV cache and {max_rows} rows at a time; choose a smaller cache or batch"
)]
pub struct InferenceError {
    pages: usize,
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
        let InferenceOptions { context, pages, sequences, cache_type, max_rows } = options;
        let memory = |source| InferenceError { pages, max_rows, source };
        let attention = Attention::new(model.head_shape(), layers, pages, cache_type).map_err(memory)?;
        Ok(Self {
            attention,
            places: Places::with_capacity(max_rows, sequences * context.div_ceil(BLOCK)),
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

    /// The pages of a sequence that has the cache for itself, for those who compute only one.
    #[must_use]
    pub(crate) fn pages_of_one(&self) -> Vec<PageId> {
        (0..self.options.context.div_ceil(BLOCK) as PageId).collect()
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
        let InferenceOptions { context, pages, max_rows: rows, .. } = self.options;
        let vocab_size = self.model.hyperparameters.vocab_size;
        check(runs, &Limits { context, pages, rows, vocab_size })?;
        self.embed(runs)?;
        self.place(runs);
        self.profile.end(Stage::Embed);
        self.run_layers();
        self.keep_last(runs);
        self.profile.end(Stage::LmHead);
        Ok(())
    }

    /// Copies keys and values of a page.
    ///
    /// # Panics
    /// When there is no such page.
    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId) {
        self.attention.copy_page(from, to);
    }

    /// Keys and values of a page, as they are in memory.
    ///
    /// # Panics
    /// When there is no such page.
    #[must_use]
    pub(crate) fn page(&self, page: PageId) -> &[u8] {
        self.attention.page(page)
    }

    /// The same, to be written.
    ///
    /// # Panics
    /// When there is no such page.
    #[must_use]
    pub(crate) fn page_mut(&mut self, page: PageId) -> &mut [u8] {
        self.attention.page_mut(page)
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
    fn place(&mut self, runs: &[Run<'_>]) {
        self.places.clear();
        for run in runs {
            self.places.push(run.start..run.start + run.tokens.len(), run.pages.iter().copied());
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
