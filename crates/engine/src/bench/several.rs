//! Several sequences that are decoded together on the thread of their caller, without a server around them.

use std::array;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::decoder::wait_for_threads;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::engine::{context, inference_with};
use crate::kernels::{BLOCK, PageId};
use crate::model::{Inference, LogitRequest, Run, Wanted};
use crate::sampling::Sampler;

/// Most sequences.
const MOST: usize = 16;

/// Sequences that each generate, all in the same steps: what a step costs that several readers share.
#[derive(Debug)]
pub struct Several {
    inference: Inference,
    sequences: Vec<Sequence>,
}

#[derive(Debug)]
struct Sequence {
    sampler: Sampler,
    pages: Vec<PageId>,
    /// Tokens whose keys and values are in the pages, and the one that follows them.
    read: usize,
    last: u32,
}

impl Several {
    /// Loads a model file and reads a prompt into each sequence.
    pub fn open(config: &Config, path: &Path, prompts: &[Vec<u32>]) -> Result<Self> {
        ensure!((1..=MOST).contains(&prompts.len()), "{} sequences, of at most {MOST}", prompts.len());
        let checkpoint = Checkpoint::open(path).with_context(|| format!("cannot use {}", path.display()))?;
        let pages = context(config, checkpoint.hyperparameters())?.div_ceil(BLOCK);
        let mut inference = inference_with(config, &checkpoint, pages * prompts.len(), prompts.len())?;
        wait_for_threads(&mut inference);
        let parameters = config.defaults().sampling(inference.context());
        let mut sequences = Vec::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let first = index * pages;
            let pages: Vec<PageId> = (first..first + pages).map(|page| page as PageId).collect();
            let Some((&last, before)) = prompt.split_last() else { continue };
            let mut read = 0;
            for chunk in before.chunks(inference.max_rows()) {
                inference.forward(&[Run {
                    pages: &pages,
                    start: read,
                    tokens: chunk,
                    logits: Wanted::None,
                }])?;
                read += chunk.len();
            }
            sequences.push(Sequence { sampler: Sampler::new(&parameters), pages, read, last });
        }
        Ok(Self { inference, sequences })
    }

    /// Every sequence gets its next token.
    pub fn step(&mut self) -> Result<()> {
        let Self { inference, sequences } = self;
        let runs: [Run; MOST] = array::from_fn(|index| {
            let Sequence { pages, read, last, .. } = &sequences[index % sequences.len()];
            Run { pages, start: *read, tokens: array::from_ref(last), logits: Wanted::Last }
        });
        inference.forward(&runs[..sequences.len()])?;
        inference.select_all(sequences.iter().enumerate().map(|(row, Sequence { sampler, .. })| {
            LogitRequest { row, demand: sampler.demand(), touched: sampler.touched() }
        }))?;
        for (row, sequence) in sequences.iter_mut().enumerate() {
            sequence.last = sequence.sampler.sample(inference.found(row)?)?;
            sequence.sampler.accept(sequence.last);
            sequence.read += 1;
        }
        Ok(())
    }

    /// The last token of each sequence.
    pub fn last(&self) -> impl Iterator<Item = u32> {
        self.sequences.iter().map(|sequence| sequence.last)
    }
}
