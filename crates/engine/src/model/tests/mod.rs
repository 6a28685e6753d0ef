//! The forward pass on fixture models: right, and the same however the work is divided.

mod invariance;
mod lm_heads;
mod reference;
mod support;
