//! A model on the thread of its caller, without a server around it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::chat_template::{ChatTemplate, Message};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::engine::{inference, language};
use crate::kernels::PageId;
use crate::model::{Inference, Run, Wanted};
use crate::sampling::Sampler;
use crate::tokenizer::Tokenizer;

/// A loaded model that computes one sequence. For programs and tests that look at what a model computes, not at how it is served.
#[derive(Debug)]
pub struct Decoder {
    inference: Inference,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    sampler: Sampler,
    pages: Vec<PageId>,
    /// Tokens of the sequence.
    read: usize,
}

impl Decoder {
    /// Loads a model file; of the configuration counts what is about the model: threads, instruction set, context, chunks, the types of
    /// `lm_head` and cache, the template, and how tokens are chosen.
    pub fn open(config: &Config, path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path).with_context(|| format!("cannot use {}", path.display()))?;
        Self::new(config, &checkpoint)
    }

    /// The same with the bytes of a file.
    pub fn from_bytes(config: &Config, bytes: impl Into<Bytes>) -> Result<Self> {
        Self::new(config, &Checkpoint::from_bytes(bytes.into())?)
    }

    fn new(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let (tokenizer, template) = language(config, checkpoint)?;
        let mut inference = inference(config, checkpoint)?;
        wait_for_threads(&mut inference);
        let sampler = Sampler::new(&config.defaults().sampling(inference.context()));
        let pages = inference.pages_of_one();
        Ok(Self { inference, tokenizer, template, sampler, pages, read: 0 })
    }

    /// Text to tokens and back.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens of a conversation whose next answer is to be generated.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        Ok(self.template.prompt(messages, true, &self.tokenizer)?)
    }

    /// Tokens that the sequence can have.
    #[must_use]
    pub fn context(&self) -> usize {
        self.inference.context()
    }

    /// Begins a new sequence with these tokens, chunk by chunk.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        self.read = 0;
        for chunk in tokens.chunks(self.inference.max_rows()) {
            self.append(chunk, Wanted::Last)?;
        }
        Ok(())
    }

    /// Adds a token to the sequence.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.append(&[token], Wanted::Last)
    }

    /// The logits `[vocabulary]` after the last token.
    pub fn logits(&mut self) -> Result<&[f32]> {
        Ok(self.inference.logits(0)?)
    }

    /// The likeliest token after the last one; of equal ones the last.
    pub fn likeliest(&mut self) -> Result<u32> {
        let logits = self.logits()?;
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        Ok(likeliest.unwrap_or_default() as u32)
    }

    /// Chooses a token after the last one, as a request that says nothing would, and adds it to the sequence.
    pub fn step(&mut self) -> Result<u32> {
        let sampler = &mut self.sampler;
        let token = sampler.sample(self.inference.select(0, sampler.demand(), sampler.touched())?)?;
        sampler.accept(token);
        self.push(token)?;
        Ok(token)
    }

    /// The logits `[tokens, vocabulary]` after each token of a new sequence.
    pub fn logits_of(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::new();
        self.read = 0;
        for chunk in tokens.chunks(self.inference.max_rows()) {
            self.append(chunk, Wanted::All)?;
            for index in 0..chunk.len() {
                all.push(self.inference.logits(index)?.to_vec());
            }
        }
        Ok(all)
    }

    fn append(&mut self, tokens: &[u32], logits: Wanted) -> Result<()> {
        self.inference.forward(&[Run { pages: &self.pages, start: self.read, tokens, logits }])?;
        self.read += tokens.len();
        Ok(())
    }
}

/// Returns when each compute thread has begun to work: one that starts allocates, however late the system lets it run, and who
/// counts or measures would find that in some later step.
pub(super) fn wait_for_threads(inference: &mut Inference) {
    inference.with_pool(|_, pool| {
        let (threads, begun) = (pool.threads(), AtomicUsize::new(0));
        pool.run(threads, |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < threads {
                std::thread::yield_now();
            }
        });
    });
}
