//! x
pub mod gguf;

pub mod checkpoint;

pub mod quant;
