//! Trains a tiny BitNet b1.58 chat model on a plain CPU and writes it as a GGUF file.
//!
//! Forward and backward pass are written by hand for exactly this architecture: nearly all time is spent in matrix products, and
//! what lies between them needs no general machinery. Text becomes tokens by the engine's own tokenizer and chat template, so that the
//! model is trained on the tokens that it will see. Absent on purpose: other architectures, GPUs, automatic differentiation.
//!
//! The modules stand in the order in which data flows; each uses only those above it.

pub mod shape;

pub mod vector;

pub mod matrix;

pub mod quantize;

pub mod weights;

pub mod vocabulary;

pub mod sequence;

pub mod corpus;

pub mod norm;

pub mod attention;

pub mod ffn;

pub mod loss;

pub mod network;

pub mod optimizer;

pub mod trainer;

pub mod gguf;

pub mod export;

pub mod checkpoint;

pub mod curve;

pub mod evaluate;

pub mod train;
