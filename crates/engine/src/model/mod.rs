//! The BitNet b1.58 decoder: weights in the kernels' layout, and the forward pass from tokens to logits.

mod float_matrix;
mod footprint;
mod forward;
mod lm_head;
mod output;
mod profile;
mod row;
mod run;
#[cfg(test)]
mod tests;
mod weights;
mod work;

pub use footprint::Footprint;
pub use forward::{Inference, InferenceOptions};
pub use lm_head::LmHeadType;
pub use profile::{Profile, Stage};
pub use row::Row;
pub use run::{ForwardError, Run, Wanted};
pub use weights::Model;
