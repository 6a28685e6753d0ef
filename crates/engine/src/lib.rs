//! Inference for ternary language models (BitNet b1.58) on a plain CPU, and the server around it.
//!
//! The modules stand in the order in which data flows; each may use only those above it.

pub mod config;

pub mod memory;

pub mod container;

pub mod pool;

pub mod gguf;

pub mod hub;

pub mod checkpoint;

pub mod quant;

pub mod kernels;

pub mod model;

pub mod tokenizer;

pub mod chat_template;

pub mod sampling;

pub mod inspect;

pub mod bench;

mod generation;

pub mod scheduler;

pub mod serving;

pub mod engine;

mod http;

mod api;

pub mod server;
