//! Inference for ternary language models (BitNet b1.58) on a plain CPU, and the server around it.
//!
//! The modules stand in the order in which data flows; each may use only those above it.

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

mod text;

pub mod sampling;

mod generation;

mod scheduler;

mod serving;

pub mod config;

pub mod engine;

pub mod inspect;

pub mod bench;

mod http;

mod api;

pub mod server;
