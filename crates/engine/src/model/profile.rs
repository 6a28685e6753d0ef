//! Where the time of forward passes goes.

use std::time::{Duration, Instant};

/// A part of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking up embeddings, and checks.
    Embed,
    /// RMS norms and the quantization of activations.
    Norm,
    /// Queries, keys and values.
    Qkv,
    /// Rotation and storing keys and values.
    Append,
    /// Scores, softmax and weighted values.
    Attention,
    /// The output projection of attention.
    AttentionOutput,
    /// Gate and up, with the activation.
    GateUp,
    Down,
    LmHead,
}

impl Stage {
    /// All, in the order of a forward pass.
    pub const ALL: [Self; 9] = [
        Self::Embed,
        Self::Norm,
        Self::Qkv,
        Self::Append,
        Self::Attention,
        Self::AttentionOutput,
        Self::GateUp,
        Self::Down,
        Self::LmHead,
    ];

    /// A short name for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Norm => "norm and quantize",
            Self::Qkv => "qkv",
            Self::Append => "rope and cache",
            Self::Attention => "attention",
            Self::AttentionOutput => "attention output",
            Self::GateUp => "gate and up",
            Self::Down => "down",
            // As in the reports of all versions.
            Self::LmHead => "head",
        }
    }
}

/// Time spent in each stage since the last reset. Reading the clock some 250 times a pass costs a few microseconds.
#[derive(Clone, Debug)]
pub struct Profile {
    spent: [Duration; Stage::ALL.len()],
    last: Instant,
}

impl Default for Profile {
    fn default() -> Self {
        Self { spent: Default::default(), last: Instant::now() }
    }
}

impl Profile {
    /// Time spent in a stage.
    #[must_use]
    pub fn spent(&self, stage: Stage) -> Duration {
        self.spent[stage as usize]
    }

    /// Starts the clock of the first stage.
    pub(super) fn start(&mut self) {
        self.last = Instant::now();
    }

    /// Counts the time since the last call for `stage`.
    pub(super) fn end(&mut self, stage: Stage) {
        let now = Instant::now();
        self.spent[stage as usize] += now - self.last;
        self.last = now;
    }
}
