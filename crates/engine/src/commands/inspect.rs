//! `inspect`: what a model file contains, and how it would be used with this configuration.

use std::io::Write;

use anyhow::Result;
use bitnet_engine::config::{Config, ModelReference};
use bitnet_engine::engine;
use bitnet_engine::hub;
use bitnet_engine::inspect::inspect;
use bitnet_engine::tokenizer::Tokenizer;

use super::output::Output;
use super::progress;

/// Prints as far as the file can be used, then fails with the reason why it cannot.
pub(crate) fn run(config: &Config, reference: &ModelReference) -> Result<()> {
    let model = progress::shown(|stages| hub::resolve(reference, &config.hub(), stages))?;
    let mut out = Output::new();
    inspect(&model, &mut out)?;

    let checkpoint = engine::checkpoint(&model)?;
    let shape = checkpoint.hyperparameters();
    let (tokenizer, template) = engine::language(config, &checkpoint)?;
    let context = engine::context(config, shape)?;
    let footprint = engine::footprint(config, &checkpoint)?;
    let beginning = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    for (what, how) in [
        ("begins with", names(&tokenizer, beginning.as_slice())),
        ("stops at", names(&tokenizer, tokenizer.end_of_generation())),
        ("chat template", format!("{:?}", template.source())),
        ("kernels", format!("{}, {} threads", config.isa, engine::threads(config)?)),
        ("KV cache", format!("{} bytes for a context of {context} tokens", footprint.kv_cache(context))),
        (
            "memory",
            format!("{} bytes with one full context", footprint.weights + footprint.kv_cache(context)),
        ),
    ] {
        writeln!(out, "  {what:<13} {how}")?;
    }
    Ok(())
}

fn names(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let names: Vec<_> = ids.iter().map(|&id| format!("{id} {:?}", tokenizer.token_text(id))).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
