//! The prompt that most conversations begin with: its keys and values are in the cache before anybody asks, read from where an earlier
//! start left them or computed now.
//!
//! What was read is not believed before it is compared with what this model computes: the last token is computed again on all that
//! stands before it, and has to leave the same bits. So weights that the key of the file does not tell apart are told here, at the price
//! of one token.

mod file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Error, Result, ensure};
use tracing::{info, warn};

use crate::chat_template::{ChatTemplate, Message};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::kernels::{BLOCK, PageId};
use crate::kv::disk::{Key, Reader, Writer};
use crate::model::{Inference, Run, Wanted};
use crate::tokenizer::Tokenizer;

/// What all conversations begin with that have this system prompt; nothing without one.
pub(super) fn tokens(
    prompt: Option<&str>,
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<Vec<u32>> {
    let Some(prompt) = prompt else { return Ok(Vec::new()) };
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let render = |messages: &[Message]| {
        let rendered = template.prompt(messages, true, tokenizer);
        rendered.context("--warm-prompt cannot be used with this chat template")
    };
    // Whatever a template makes of the messages: what two conversations have in common is the prompt's.
    let begin =
        |prompt: &str, question: &str| render(&[message("system", prompt), message("user", question)]);
    let (mut tokens, other) = (begin(prompt, "a")?, begin(prompt, "b")?);
    ensure!(
        tokens != begin(&format!("{prompt} a"), "a")?,
        "this chat template leaves the system prompt out, so --warm-prompt is of no use; another can be given with --chat-template"
    );
    let common = tokens.iter().zip(&other).take_while(|(token, other)| token == other).count();
    tokens.truncate(common);
    ensure!(
        common < context,
        "--warm-prompt has {common} tokens, but the context has room for {context}, question and answer included"
    );
    Ok(tokens)
}

/// Puts keys and values of these tokens into their pages.
pub(super) fn fill(
    inference: &mut Inference,
    tokens: &[u32],
    pages: &[PageId],
    config: &Config,
    checkpoint: &Checkpoint,
    template: &ChatTemplate,
) -> Result<()> {
    if tokens.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    let mut warm = Warm::new(inference, tokens, pages);
    let bytes = warm.bytes;
    let kept = KeptFile::of(config, checkpoint, template, &warm)?;
    let filled = warm.fill(&kept)?;
    let time = started.elapsed();
    let Filled::Computed(reason) = filled else {
        info!(tokens = tokens.len(), bytes, ?time, "warm prompt restored");
        return Ok(());
    };
    info!(tokens = tokens.len(), bytes, ?time, reason = %format_args!("{reason:#}"), "warm prompt computed");
    if let Err(reason) = warm.save(&kept) {
        warn!(reason = %format_args!("{reason:#}"), "the warm prompt cannot be kept, so the next start computes it again; --warm-dir names another folder");
    }
    Ok(())
}

/// How the pages got what they hold.
enum Filled {
    Restored,
    /// Why it could not be restored.
    Computed(Error),
}

/// Where the pages of a prompt are kept, and what they depend on.
struct KeptFile {
    /// One for each model, so that a new prompt takes the place of the one before. `None` when there is no folder.
    path: Option<PathBuf>,
    key: Key,
}

impl KeptFile {
    fn of(
        config: &Config,
        checkpoint: &Checkpoint,
        template: &ChatTemplate,
        warm: &Warm<'_>,
    ) -> Result<Self> {
        let shape = format!("{:?}", checkpoint.hyperparameters());
        let layout = format!("{:?} {BLOCK} {}", warm.inference.cache_type(), warm.bytes);
        let tokens: Vec<u8> = warm.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let fingerprint = checkpoint.fingerprint().context("the model cannot be read")?;
        let model = Key::of([&*fingerprint, shape.as_bytes()]);
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        let key = Key::of([model.bytes(), version, layout.as_bytes(), template.source().as_bytes(), &tokens]);
        let folder = config.warm.warm_dir.clone().or_else(|| Some(config.hub().folder()?.join("warm")));
        Ok(Self { path: folder.map(|folder| folder.join(model.short() + ".pages")), key })
    }

    fn path(&self) -> Result<&PathBuf> {
        self.path.as_ref().context("there is no folder for it")
    }
}

/// A prompt and the pages for it.
struct Warm<'a> {
    inference: &'a mut Inference,
    /// At least one.
    tokens: &'a [u32],
    pages: &'a [PageId],
    /// Of all pages.
    bytes: u64,
}

impl<'a> Warm<'a> {
    fn new(inference: &'a mut Inference, tokens: &'a [u32], pages: &'a [PageId]) -> Self {
        let bytes = pages.iter().map(|&page| inference.page(page).len() as u64).sum();
        Self { inference, tokens, pages, bytes }
    }

    fn fill(&mut self, kept: &KeptFile) -> Result<Filled> {
        let Err(reason) = self.restore(kept) else { return Ok(Filled::Restored) };
        // What is behind the last token is always the same, so that files are.
        self.pages.iter().for_each(|&page| self.inference.page_mut(page).fill(0));
        self.compute(0).context("the warm prompt cannot be computed")?;
        Ok(Filled::Computed(reason))
    }

    fn restore(&mut self, kept: &KeptFile) -> Result<()> {
        let path = kept.path()?;
        self.read(kept).with_context(|| path.display().to_string())?;
        let last = self.pages[self.pages.len() - 1];
        let read = self.inference.page(last).to_vec();
        self.compute(self.tokens.len() - 1)?;
        ensure!(self.inference.page(last) == read, "{}: it is not what this model computes", path.display());
        Ok(())
    }

    fn read(&mut self, kept: &KeptFile) -> Result<()> {
        let (file, length) = file::open(kept.path()?)?;
        let mut reader = Reader::new(file, length, &kept.key, self.bytes)?;
        for &page in self.pages {
            reader.page(self.inference.page_mut(page))?;
        }
        Ok(reader.finish()?)
    }

    /// Computes the tokens from `start` on.
    fn compute(&mut self, start: usize) -> Result<()> {
        let rows = self.inference.max_rows();
        for (start, tokens) in (start..).step_by(rows).zip(self.tokens[start..].chunks(rows)) {
            self.inference.forward(&[Run { pages: self.pages, start, tokens, logits: Wanted::None }])?;
        }
        Ok(())
    }

    fn save(&self, kept: &KeptFile) -> Result<()> {
        let path = kept.path()?;
        let written = file::replace(path, |file| {
            let mut writer = Writer::new(file, &kept.key, self.bytes)?;
            self.pages.iter().try_for_each(|&page| writer.page(self.inference.page(page)))?;
            writer.finish().map(drop)
        });
        written.with_context(|| path.display().to_string())
    }
}
