//! Where a token's time goes, and what share of its own limit each stage reaches.
//!
//! A stage is held against the one resource that it cannot do without: products of many rows against multiply-adds, and
//! against reading their weights when there is one row. Norms, rotation and lookups have no limit here: what they touch is
//! in a cache, and they are a mixture of operations that no peak describes.

use serde::Serialize;

use super::limits::Resource;
use crate::model::{Inference, Profile, Stage};

/// The time of a stage of the forward pass.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageTime {
    /// As `--profile` prints it.
    pub stage: &'static str,
    /// Microseconds a token.
    pub microseconds: f64,
    /// What it could not be faster than.
    pub limit: Option<StageLimit>,
}

/// A stage beside its limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageLimit {
    /// What it needs most.
    pub resource: Resource,
    /// How much of it a token needs.
    pub amount: f64,
    /// How much of it the machine had a second, measured around the runs.
    pub per_second: f64,
    /// The time that the amount would take at this rate, divided by the stage's time.
    pub share: f64,
}

/// What a token needs in a stage, if that can be said.
pub(super) type Need = Option<(Resource, f64)>;

/// Mean of the tokens of a prompt of so many.
pub(super) fn prefill_need(inference: &Inference, tokens: usize, stage: Stage) -> Need {
    let all_positions = tokens * (tokens + 1) / 2;
    let (resource, amount) = match stage {
        Stage::Attention => {
            let multiply_adds = inference.attention_multiply_adds(all_positions);
            (Resource::FloatMultiplyAdds, multiply_adds as f64 / tokens as f64)
        }
        // lm_head is for one token of a prompt, and not part of the measurement.
        _ => (Resource::MultiplyAdds, inference.model().ternary_weights_of(stage) as f64),
    };
    (amount > 0.0).then_some((resource, amount))
}

/// Of a token with `depth` tokens before it.
pub(super) fn decode_need(inference: &Inference, depth: usize, stage: Stage) -> Need {
    let bytes = match stage {
        Stage::Attention => inference.kv_bytes(depth),
        _ => inference.model().weight_bytes_of(stage),
    };
    (bytes > 0).then_some((Resource::Bytes, bytes as f64))
}

/// All stages of a run of so many tokens; `per_second` has what was measured around it.
pub(super) fn stages(
    profile: &Profile,
    tokens: usize,
    need: impl Fn(Stage) -> Need,
    per_second: impl Fn(Resource) -> Option<f64>,
) -> Vec<StageTime> {
    let stage_time = |stage: Stage| {
        let seconds = profile.spent(stage).as_secs_f64() / tokens as f64;
        let limit = need(stage).and_then(|(resource, amount)| {
            let per_second = per_second(resource)?;
            Some(StageLimit { resource, amount, per_second, share: amount / per_second / seconds })
        });
        StageTime { stage: stage.name(), microseconds: seconds * 1e6, limit }
    };
    Stage::ALL.into_iter().map(stage_time).collect()
}
