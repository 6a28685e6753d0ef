//! Inference for ternary language models (BitNet b1.58) on a plain CPU, and the server around it.
//!
//! The modules stand in the order in which data flows; each may use only those above it.

mod memory;

mod container;

mod pool;

mod logits;

mod kernels;

mod gguf;

pub mod hub;

mod checkpoint;

mod quant;

mod model;

pub mod tokenizer;

pub mod chat_template;

mod text;

mod sampling;

mod generation;

mod scheduler;

mod metrics;

mod serving;

pub mod logging;

pub mod config;

pub mod engine;

pub mod inspect;

pub mod bench;

mod http;

mod api;

pub mod server;
