//! x
pub mod gguf;

pub mod checkpoint;

pub mod quant;

pub mod inspect;
