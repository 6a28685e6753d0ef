//! The BitNet b1.58 decoder: weights in the kernels' layout, and the forward pass from tokens to logits.

mod footprint;
mod forward;
mod lm_head;
mod profile;
mod weights;
mod work;

pub use footprint::Footprint;
pub use forward::{ForwardError, Inference, InferenceError, InferenceOptions, Logits, Row};
pub use lm_head::HeadType;
pub use profile::{Profile, Stage};
pub use weights::{LoadError, Model};
