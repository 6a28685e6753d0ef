//! `inspect`: what a model file contains, and how it would be used with this configuration.

use std::io::{Write, stdout};

use anyhow::Result;
use bitnet_engine::checkpoint::Hyperparameters;
use bitnet_engine::config::{CacheType, Config, ModelReference};
use bitnet_engine::engine;
use bitnet_engine::hub;
use bitnet_engine::inspect::inspect;
use bitnet_engine::tokenizer::Tokenizer;

use super::progress;

/// Prints as far as the file can be used, then fails with the reason why it cannot.
pub(crate) fn run(config: &Config, reference: &ModelReference) -> Result<()> {
    let model = progress::shown(|stages| hub::resolve(reference, &config.download, stages))?;
    let mut out = stdout().lock();
    inspect(&model, &mut out)?;

    let checkpoint = engine::checkpoint(&model)?;
    let shape = checkpoint.hyperparameters();
    let (tokenizer, template) = engine::language(config, &checkpoint)?;
    let context = engine::context(config, shape)?;
    let beginning = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    for (what, how) in [
        ("begins with", names(&tokenizer, beginning.as_slice())),
        ("stops at", names(&tokenizer, tokenizer.end_of_generation())),
        ("chat template", format!("{:?}", template.source())),
        ("kernels", format!("{}, {} threads", engine::isa(config)?, engine::threads(config)?)),
        ("KV cache", format!("{context} tokens, {} bytes", kv_cache_bytes(shape, config, context))),
    ] {
        writeln!(out, "  {what:<13} {how}")?;
    }
    Ok(())
}

fn kv_cache_bytes(shape: &Hyperparameters, config: &Config, context: usize) -> usize {
    let element = match config.cache_type {
        CacheType::F16 => 2,
        CacheType::F32 => 4,
    };
    2 * context * shape.layers * shape.kv_heads * shape.head_dim * element
}

fn names(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let names: Vec<_> = ids.iter().map(|&id| format!("{id} {:?}", tokenizer.token_text(id))).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
