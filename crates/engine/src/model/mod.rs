//! The BitNet b1.58 decoder: weights in the kernels' layout, and the forward pass from tokens to logits.

mod float_matrix;
mod footprint;
mod forward;
mod lm_head;
mod output;
mod profile;
mod run;
#[cfg(test)]
mod tests;
mod weights;
mod work;

pub(crate) use footprint::Footprint;
pub use forward::Inference;
pub(crate) use forward::InferenceOptions;
pub use lm_head::LmHeadType;
pub(crate) use output::LogitRequest;
pub(crate) use profile::{Profile, Stage};
pub(crate) use run::{ForwardError, Run, Wanted};
pub(crate) use weights::Model;
