//! The forward pass: tokens in, logits out, keys and values kept.

use std::io;

use super::profile::{Profile, Stage};
use super::weights::Model;
use crate::checkpoint::Hyperparameters;
use crate::kernels::{
    Activations, Angles, Attention, CacheType, Candidate, Demand, Isa, Place, Rows, Search, Wide, matmul,
    matmul_add, matmul_gated, norm, norm_quantize,
};
use crate::pool::Pool;
use crate::quant::QuantError;

/// One token of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token id.
    pub token: u32,
    /// Which sequence it belongs to.
    pub slot: usize,
    /// Its position in the sequence, from 0.
    pub position: usize,
    /// Whether the logits after it are wanted.
    pub logits: bool,
}

/// The logits of one row: all, or those that were asked for.
#[derive(Clone, Copy, Debug)]
pub enum Logits<'a> {
    /// `[vocabulary]`
    All(&'a [f32]),
    /// Sorted by id.
    Some(&'a [Candidate]),
}

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
    source: io::Error,
}

/// A forward pass that was asked for something impossible, or rows of the model that cannot be read. What slots hold is as
/// before.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForwardError {
    /// No rows, or more than there is room for.
    #[error("{rows} rows in a forward pass; between 1 and {limit} are possible")]
    Rows {
        /// Rows given.
        rows: usize,
        /// The limit that was chosen.
        limit: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is not in the vocabulary of {vocab_size}")]
    Token {
        /// Token given.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A position that the cache has no room for, or before which something is missing.
    #[error("position {position} of slot {slot}, which holds {held} of at most {context} positions")]
    Position {
        /// Position given.
        position: usize,
        /// Slot given.
        slot: usize,
        /// Positions that the slot holds.
        held: usize,
        /// Positions that a slot can hold.
        context: usize,
    },
    /// The embedding of a token could not be read or decoded.
    #[error("the embedding of token {token}: {reason}")]
    Embedding {
        /// Token given.
        token: u32,
        /// What the decoder or the system says.
        reason: String,
    },
    /// Rows of the output head could not be read or decoded.
    #[error("the output head: {reason}")]
    Head {
        /// What the decoder or the system says.
        reason: String,
    },
}

impl ForwardError {
    fn head(error: &QuantError) -> Self {
        Self::Head { reason: error.to_string() }
    }
}

/// A model with its threads, its KV cache and the memory for intermediate results: everything that computes.
#[derive(Debug)]
pub struct Inference {
    model: Model,
    pool: Pool,
    isa: Isa,
    options: InferenceOptions,
    attention: Attention,
    /// Positions that each slot holds.
    held: Vec<usize>,
    places: Vec<Place>,
    angles: Angles,
    /// The residual stream.
    x: Rows,
    hidden_codes: Activations,
    qkv: Rows,
    attended: Rows,
    gated: Rows,
    ffn_codes: Activations,
    /// The states after the last norm of the rows whose logits are wanted.
    last: Rows,
    /// Their logits, once somebody asks; empty before.
    logits: Vec<f32>,
    search: Search,
    /// Memory of a full pass over a head in 8 bits.
    wide: Vec<Wide>,
    profile: Profile,
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
        let attention =
            Attention::new(model.head_shape(), layers, slots, context, cache_type).map_err(memory)?;
        Ok(Self {
            attention,
            held: vec![0; slots],
            places: Vec::with_capacity(max_rows),
            angles: Angles::new(head_dim, rope_theta, max_rows),
            x: Rows::with_capacity(max_rows, hidden).map_err(memory)?,
            hidden_codes: Activations::with_capacity(max_rows, hidden).map_err(memory)?,
            qkv: Rows::with_capacity(max_rows, hidden + 2 * kv_heads * head_dim).map_err(memory)?,
            attended: Rows::with_capacity(max_rows, hidden).map_err(memory)?,
            gated: Rows::with_capacity(max_rows, ffn).map_err(memory)?,
            ffn_codes: Activations::with_capacity(max_rows, ffn).map_err(memory)?,
            last: Rows::with_capacity(max_rows, hidden).map_err(memory)?,
            logits: Vec::new(),
            search: Search::default(),
            wide: Vec::new(),
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

    /// Runs rows through the model and appends their keys and values to the cache; then [`Inference::logits`] has the
    /// logits of those that asked for them. A position below what a slot holds forgets everything from there on.
    pub fn forward(&mut self, rows: &[Row]) -> Result<(), ForwardError> {
        self.profile.start();
        self.check(rows)?;
        self.embed(rows)?;
        self.admit(rows);
        self.profile.end(Stage::Embed);
        self.run_layers();
        self.keep_last(rows);
        self.profile.end(Stage::Head);
        Ok(())
    }

    /// The logits `[vocabulary]` of the `index`-th row of the last forward pass that asked for them.
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub fn logits(&mut self, index: usize) -> Result<&[f32], ForwardError> {
        let vocab_size = self.model.hyperparameters.vocab_size;
        if self.logits.is_empty() {
            // For all rows at once, so that the head is read once; the memory is kept.
            self.profile.start();
            self.logits.resize(self.last.rows() * vocab_size, 0.0);
            let (x, out) = (&self.last, &mut self.logits);
            let computed = self.model.head.logits(&mut self.pool, self.isa, x, &mut self.wide, out);
            self.profile.end(Stage::Head);
            if let Err(error) = computed {
                self.logits.clear();
                return Err(ForwardError::head(&error));
            }
        }
        Ok(&self.logits[index * vocab_size..(index + 1) * vocab_size])
    }

    /// Those logits of the `index`-th row that `demand` asks for, if they can be found without computing all; see [`Search`].
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub fn select(
        &mut self,
        index: usize,
        demand: Option<Demand>,
        touched: impl Iterator<Item = u32>,
    ) -> Result<Logits<'_>, ForwardError> {
        if let (Some(demand), Some(head)) = (demand, self.model.head.searchable()) {
            self.profile.start();
            let x = (&self.last, index);
            let found = self.search.run(&mut self.pool, self.isa, head, x, demand, touched);
            self.profile.end(Stage::Head);
            if found.map_err(|error| ForwardError::head(&error))? {
                return Ok(Logits::Some(self.search.candidates()));
            }
        }
        self.logits(index).map(Logits::All)
    }

    /// Takes over the states before the head that another inference of a model of the same shape has reached: logits are then
    /// what this head makes of them.
    ///
    /// # Panics
    /// When the shapes differ, or there is no room for so many rows.
    pub fn take_states(&mut self, other: &Self) {
        self.last.set_rows(other.last.rows());
        for row in 0..other.last.rows() {
            self.last.row_mut(row).copy_from_slice(other.last.row(row));
        }
        self.logits.clear();
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
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

    /// Checks all rows before anything changes.
    fn check(&self, rows: &[Row]) -> Result<(), ForwardError> {
        let (limit, context) = (self.options.max_rows, self.options.context);
        let vocab_size = self.model.hyperparameters.vocab_size;
        if rows.is_empty() || rows.len() > limit {
            return Err(ForwardError::Rows { rows: rows.len(), limit });
        }
        for (index, &Row { token, slot, position, .. }) in rows.iter().enumerate() {
            if token as usize >= vocab_size {
                return Err(ForwardError::Token { token, vocab_size });
            }
            let before = rows[..index].iter().rev().find(|row| row.slot == slot);
            let held = before.map_or(self.held.get(slot).copied(), |row| Some(row.position + 1));
            if position >= context || held.is_none_or(|held| position > held) {
                return Err(ForwardError::Position { position, slot, held: held.unwrap_or(0), context });
            }
        }
        Ok(())
    }

    /// From here on nothing can fail.
    fn admit(&mut self, rows: &[Row]) {
        self.places.clear();
        for &Row { slot, position, .. } in rows {
            self.held[slot] = position + 1;
            self.places.push(Place { slot, position });
        }
        self.angles.set_positions(rows.iter().map(|row| row.position));
    }

    fn embed(&mut self, rows: &[Row]) -> Result<(), ForwardError> {
        self.x.set_rows(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let decoded = self.model.head.embed(row.token as usize, self.x.row_mut(index));
            decoded.map_err(|reason: QuantError| ForwardError::Embedding {
                token: row.token,
                reason: reason.to_string(),
            })?;
        }
        Ok(())
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
            rows.set_rows(places.len());
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
    fn keep_last(&mut self, rows: &[Row]) {
        let wanted = rows.iter().filter(|row| row.logits).count();
        self.last.set_rows(wanted);
        let indices = rows.iter().enumerate().filter(|(_, row)| row.logits).map(|(index, _)| index);
        for (last, index) in indices.enumerate() {
            self.last.row_mut(last).copy_from_slice(self.x.row(index));
        }
        norm(self.isa, &mut self.last, &self.model.output_norm, self.model.hyperparameters.rms_eps);
        self.logits.clear();
    }
}
