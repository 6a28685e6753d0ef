//! x
pub mod gguf;

pub mod checkpoint;
