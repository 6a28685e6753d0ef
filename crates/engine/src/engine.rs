//! A loaded model with all that is needed to talk to it: a [`Config`] flows in, an [`Engine`]
//! comes out, or the reason why this file cannot be served on this machine.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::chat_template::{ChatTemplate, Message};
use crate::checkpoint::{Checkpoint, Hyperparameters};
use crate::config::Config;
use crate::container;
use crate::generation::{Defaults, FinishReason, Prompt};
use crate::hub::{self, DEMO_NOTICE, LocalModel, REAL_MODEL_STEPS, Stage};
use crate::kernels::self_test;
use crate::model::{Footprint, Inference, InferenceOptions, Model};
use crate::pool::Pool;
use crate::serving::{Event, Events, Handle};
use crate::tokenizer::Tokenizer;

/// Sequences that are computed together.
const SLOTS: usize = 1;

/// What answers requests.
pub struct Engine {
    /// The thread that computes.
    pub(crate) handle: Handle,
    /// Text to tokens and back.
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Messages to a prompt.
    pub(crate) template: ChatTemplate,
    /// The model, for those who ask about it.
    pub(crate) about: About,
    /// What a request that says nothing gets.
    pub(crate) defaults: Defaults,
}

/// Facts about the served model.
#[derive(Clone, Debug)]
pub struct About {
    /// The name that clients see.
    pub name: String,
    /// Where it is from.
    pub origin: LocalModel,
    /// Layers, heads and sizes, as the file says and the loader has checked.
    pub hyperparameters: Hyperparameters,
    /// Tokens that a prompt and its answer may have together.
    pub context: usize,
    /// When it was loaded, in seconds since 1970.
    pub loaded: u64,
}

impl About {
    /// What people have to know about this model before they take it for a good one.
    #[must_use]
    pub fn demo_notice(&self) -> Option<&'static str> {
        (self.origin == LocalModel::Demo).then_some(DEMO_NOTICE)
    }
}

impl Engine {
    /// Tests the kernels, then loads the model and starts the thread that computes. Takes a while, minutes when the model has
    /// to be downloaded first; `stages` says how far it is. Blocks, so it must not run on a thread of an asynchronous runtime.
    pub fn load(config: &Config, stages: &watch::Sender<Stage>) -> Result<Self> {
        let started = Instant::now();
        let isa = config.isa;
        self_test(isa).context("the kernels compute wrong results on this machine")?;

        let origin = hub::resolve(&config.model, &config.hub(), stages)?;
        let checkpoint = checkpoint(&origin)?;
        let hyperparameters = checkpoint.hyperparameters().clone();
        let context = context(config, &hyperparameters)?;
        check_memory(footprint(config, &checkpoint)?, container::memory_limit())?;
        let (tokenizer, template) = language(config, &checkpoint)?;
        let tokenizer = Arc::new(tokenizer);
        let inference = inference(config, &checkpoint)?;
        let handle = Handle::start(inference, Arc::clone(&tokenizer), SLOTS, config.queue)?;

        let name = config.alias.clone().unwrap_or_else(|| match (&origin, config.model.short_name()) {
            (LocalModel::Demo, _) => "bitnet-demo".to_owned(),
            (LocalModel::File(_), Some(name)) => name.to_owned(),
            (LocalModel::File(path), None) => {
                path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
            }
        });
        info!(model = name, %isa, threads = threads(config)?.get(), context, head = config.head_name(), time = ?started.elapsed(), "model loaded");
        if origin == LocalModel::Demo {
            warn!("{DEMO_NOTICE} {REAL_MODEL_STEPS}");
        }
        let loaded = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let about = About { name, origin, hyperparameters, context, loaded };
        Ok(Self { handle, tokenizer, template, about, defaults: config.defaults() })
    }

    /// Answers the last of these messages, with the defaults of a request.
    pub fn answer(&self, messages: &[Message]) -> Result<Answer> {
        let prompt = self.template.prompt(messages, true, &self.tokenizer)?;
        let prompt = Prompt::new(prompt, self.about.context).context("the conversation is too long")?;
        Ok(Answer(self.handle.submit(self.defaults.request(prompt, self.about.context))?))
    }
}

/// An answer as it is generated. Dropping it stops the engine.
pub struct Answer(Events);

/// What an answer goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Complete characters that follow those before.
    Text(String),
    /// The answer has come to its end.
    End {
        /// Whether there would be more, had it been allowed more tokens.
        cut_off: bool,
    },
}

impl Answer {
    /// Waits for what comes next.
    pub async fn next(&mut self) -> Result<Said> {
        loop {
            match self.0.recv().await {
                Some(Event::Piece(piece)) => return Ok(Said::Text(piece.text)),
                Some(Event::Finish(finish)) => {
                    return Ok(Said::End { cut_off: finish.reason == FinishReason::Length });
                }
                Some(Event::Prompt(_)) => {}
                Some(Event::Failed(reason)) => bail!(reason),
                None => bail!("the engine has stopped"),
            }
        }
    }
}

/// Opens a model and checks what its file says of itself; no weights are read.
pub fn checkpoint(model: &LocalModel) -> Result<Checkpoint> {
    Checkpoint::from_source(model.open()?).with_context(|| format!("cannot use {model}"))
}

/// How text and messages become tokens for the model of a checkpoint.
pub fn language(config: &Config, checkpoint: &Checkpoint) -> Result<(Tokenizer, ChatTemplate)> {
    let vocab_size = checkpoint.hyperparameters().vocab_size;
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata(), vocab_size)?;
    let from_file = checkpoint.metadata().string("tokenizer.chat_template")?;
    let template = ChatTemplate::select(config.chat_template(), from_file, &tokenizer)?;
    Ok((tokenizer, template))
}

/// The model of a checkpoint with threads and cache, ready to compute.
pub fn inference(config: &Config, checkpoint: &Checkpoint) -> Result<Inference> {
    let context = context(config, checkpoint.hyperparameters())?;
    let mut pool = Pool::new(threads(config)?)?;
    let model = Model::load(checkpoint, config.head, config.isa, &mut pool)?;
    let options = InferenceOptions {
        context,
        slots: SLOTS,
        cache_type: config.cache_type,
        max_rows: config.ubatch_size.min(context),
    };
    Ok(Inference::new(model, pool, config.isa, options)?)
}

/// How much memory the model of a checkpoint takes with this configuration.
pub fn footprint(config: &Config, checkpoint: &Checkpoint) -> Result<Footprint> {
    let context = context(config, checkpoint.hyperparameters())?;
    Ok(Footprint::of(checkpoint, config.head, config.cache_type, context)?)
}

/// An error now is better than a kill in the middle of an answer, which is what a container's limit does.
fn check_memory(footprint: Footprint, limit: Option<u64>) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    ensure!(
        footprint.total() <= limit,
        "this model takes {:.2} GB of memory ({:.2} for its weights and {:.2} for a full context), and this process may use {:.2} GB. \
         Raise the limit of the container, or take less: a smaller --ctx-size, or --head q8 or q4",
        gigabytes(footprint.total()),
        gigabytes(footprint.weights),
        gigabytes(footprint.kv_cache),
        gigabytes(limit),
    );
    Ok(())
}

/// The number of compute threads.
pub fn threads(config: &Config) -> Result<NonZeroUsize> {
    // Respects CPU affinity and the quota of a container.
    config
        .threads
        .map_or_else(std::thread::available_parallelism, Ok)
        .context("cannot tell the number of CPUs; use --threads")
}

/// The length of the context.
pub fn context(config: &Config, hyperparameters: &Hyperparameters) -> Result<usize> {
    let (asked, trained) = (config.ctx_size, hyperparameters.context_length);
    ensure!(
        asked <= trained,
        "--ctx-size {asked} is more than the {trained} tokens that this model was trained for"
    );
    Ok(if asked == 0 { trained } else { asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_cannot_fit_is_an_error_that_has_both_numbers() {
        let footprint = Footprint { weights: 1_500_000_000, kv_cache: 300_000_000 };
        assert!(
            check_memory(footprint, None).is_ok() && check_memory(footprint, Some(1_800_000_000)).is_ok()
        );
        let error = check_memory(footprint, Some(1_000_000_000)).unwrap_err().to_string();
        assert!(
            error.contains("1.80 GB") && error.contains("1.00 GB") && error.contains("--ctx-size"),
            "{error}"
        );
    }
}
