//! A loaded model with all that is needed to talk to it: a [`Config`] flows in, an [`Engine`]
//! comes out, or the reason why this file cannot be served on this machine.

mod budget;
mod warm;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::chat_template::{ChatTemplate, Message};
use crate::checkpoint::{Checkpoint, Hyperparameters};
use crate::config::Config;
use crate::container;
use crate::generation::{Client, Defaults, FinishReason, Prompt};
use crate::hub::{self, DEMO_NOTICE, LocalModel, REAL_MODEL_STEPS, Stage};
use crate::kernels::{BLOCK, self_test};
use crate::kv::Store;
use crate::metrics::Metrics;
use crate::model::{Footprint, Inference, InferenceOptions, Model};
use crate::pool::Pool;
use crate::scheduler::Limits;
use crate::serving::{Event, Events, Handle, Options, Simulation};
use crate::tokenizer::Tokenizer;

/// Sequences that are computed together for each CPU, unless that are too few or too many.
const SEQUENCES_PER_CPU: usize = 4;
const SEQUENCES: RangeInclusive<usize> = 4..=16;

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
        Self::load_counting(config, stages, Arc::new(Metrics::new()))
    }

    /// The same, where what it does is counted.
    pub(crate) fn load_counting(
        config: &Config,
        stages: &watch::Sender<Stage>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let started = Instant::now();
        let isa = config.isa;
        self_test(isa).context("the kernels compute wrong results on this machine")?;

        let simulated = config.scheduling.simulate;
        // A simulation speaks the demo's language.
        let origin = match simulated {
            Some(_) => LocalModel::Demo,
            None => hub::resolve(&config.model, &config.hub(), stages)?,
        };
        let checkpoint = checkpoint(&origin)?;
        let hyperparameters = checkpoint.hyperparameters().clone();
        let context = context(config, &hyperparameters)?;
        let (tokenizer, template) = language(config, &checkpoint)?;
        let tokenizer = Arc::new(tokenizer);
        let serving = serving(config, context)?;
        let Limits { sequences, .. } = serving.limits;
        let footprint = footprint(config, &checkpoint)?;
        let warm = warm::tokens(config.warm.prompt(), &template, &tokenizer, context)?;
        let limit = container::memory_limit();
        let pages = budget::pages(&config.scheduling, footprint, context, sequences, warm.len(), limit)?;
        let mut store = Store::new(pages, BLOCK);
        let warm_pages = store.pin(&warm).context("the KV cache has no room for --warm-prompt")?;
        let handle = if let Some(speed) = simulated {
            let simulation = Simulation::new(speed, &tokenizer, hyperparameters.vocab_size)
                .context("this vocabulary has no words for a simulation")?;
            Handle::start(simulation, store, Arc::clone(&tokenizer), metrics, &serving)?
        } else {
            let mut inference = inference_with(config, &checkpoint, pages, sequences)?;
            warm::fill(&mut inference, &warm, &warm_pages, config, &checkpoint, &template)?;
            Handle::start(inference, store, Arc::clone(&tokenizer), metrics, &serving)?
        };

        let name = config.alias.clone().unwrap_or_else(|| match (&origin, config.model.short_name()) {
            _ if simulated.is_some() => "simulated".to_owned(),
            (LocalModel::Demo, _) => "bitnet-demo".to_owned(),
            (LocalModel::File(_), Some(name)) => name.to_owned(),
            (LocalModel::File(path), None) => {
                path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
            }
        });
        info!(model = name, %isa, threads = threads(config)?.get(), context, parallel = sequences, cache_mb = pages as u64 * footprint.page / 1_000_000, head = config.head_name(), time = ?started.elapsed(), "model loaded");
        if simulated.is_some() {
            warn!("This server has no model: all answers are simulated (--simulate).");
        } else if origin == LocalModel::Demo {
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
        let request = self.defaults.request(Client::Own, prompt, self.about.context);
        Ok(Answer(self.handle.submit(request)?.events))
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
                Some(Event::Failed(failure)) => bail!(failure),
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

/// The model of a checkpoint with threads, and a cache for one sequence, ready to compute.
pub fn inference(config: &Config, checkpoint: &Checkpoint) -> Result<Inference> {
    let pages = context(config, checkpoint.hyperparameters())?.div_ceil(BLOCK);
    inference_with(config, checkpoint, pages, 1)
}

/// The same with so many pages of cache, for so many sequences at once.
pub(crate) fn inference_with(
    config: &Config,
    checkpoint: &Checkpoint,
    pages: usize,
    sequences: usize,
) -> Result<Inference> {
    let context = context(config, checkpoint.hyperparameters())?;
    let mut pool = Pool::new(threads(config)?)?;
    let model = Model::load(checkpoint, config.head, config.isa, &mut pool)?;
    let options = InferenceOptions {
        context,
        pages,
        sequences,
        cache_type: config.cache_type,
        max_rows: rows(config, context),
    };
    Ok(Inference::new(model, pool, config.isa, options)?)
}

/// Rows of a forward pass.
fn rows(config: &Config, context: usize) -> usize {
    config.ubatch_size.min(context)
}

/// How requests are served.
fn serving(config: &Config, context: usize) -> Result<Options> {
    let flags = &config.scheduling;
    let rows = rows(config, context);
    let sequences = if let Some(sequences) = flags.parallel {
        ensure!(
            sequences <= rows,
            "--parallel {sequences} is more than the {rows} tokens of a step (--ubatch-size)"
        );
        sequences
    } else {
        let sequences = SEQUENCES_PER_CPU * threads(config)?.get();
        sequences.clamp(*SEQUENCES.start(), *SEQUENCES.end()).min(rows)
    };
    Ok(Options {
        limits: Limits { sequences, queue: flags.queue, rows },
        max_token_gap: flags.max_token_gap,
        timeout: flags.request_timeout,
    })
}

/// How much memory the model of a checkpoint takes with this configuration.
pub fn footprint(config: &Config, checkpoint: &Checkpoint) -> Result<Footprint> {
    Ok(Footprint::of(checkpoint, config.head, config.cache_type)?)
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
