//! A loaded model with all that is needed to talk to it: a [`Config`] flows in, an [`Engine`]
//! comes out, or the reason why this file cannot be served on this machine.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::chat_template::ChatTemplate;
use crate::checkpoint::{Checkpoint, Hyperparameters};
use crate::config::{CacheType, Config, GenerationDefaults, Head, Isa};
use crate::container;
use crate::hub::{self, DEMO_NOTICE, LocalModel, REAL_MODEL_STEPS, Stage};
use crate::kernels::{self, self_test};
use crate::model::{Footprint, Inference, InferenceOptions, LmHeadType, Model};
use crate::pool::Pool;
use crate::sampling::SamplingParameters;
use crate::tokenizer::Tokenizer;
use crate::worker::{Generation, Worker};

/// Sequences that are computed together.
const SLOTS: usize = 1;

/// What answers requests.
pub struct Engine {
    /// The thread that computes.
    pub worker: Worker,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages to a prompt.
    pub template: ChatTemplate,
    /// The model, for those who ask about it.
    pub about: About,
    /// What a request that says nothing gets.
    pub defaults: GenerationDefaults,
}

/// Facts about the served model.
#[derive(Clone, Debug)]
pub struct About {
    /// The name that clients see.
    pub name: String,
    /// Where it is from.
    pub origin: LocalModel,
    /// Its shape.
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
        let isa = isa(config)?;
        self_test(isa).context("the kernels compute wrong results on this machine")?;

        let origin = hub::resolve(&config.model, &config.download, stages)?;
        let checkpoint = checkpoint(&origin)?;
        let hyperparameters = checkpoint.hyperparameters().clone();
        let context = context(config, &hyperparameters)?;
        check_memory(footprint(config, &checkpoint)?, container::memory_limit())?;
        let (tokenizer, template) = language(config, &checkpoint)?;
        let tokenizer = Arc::new(tokenizer);
        let inference = inference(config, &checkpoint)?;
        let worker = Worker::start(inference, Arc::clone(&tokenizer), SLOTS, config.queue)?;

        let name = config.alias.clone().unwrap_or_else(|| match (&origin, config.model.short_name()) {
            (LocalModel::Demo, _) => "bitnet-demo".to_owned(),
            (LocalModel::File(_), Some(name)) => name.to_owned(),
            (LocalModel::File(path), None) => {
                path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
            }
        });
        info!(model = name, %isa, threads = threads(config)?.get(), context, head = %config.head, time = ?started.elapsed(), "model loaded");
        if origin == LocalModel::Demo {
            warn!("{DEMO_NOTICE} {REAL_MODEL_STEPS}");
        }
        let loaded = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let about = About { name, origin, hyperparameters, context, loaded };
        Ok(Self { worker, tokenizer, template, about, defaults: config.generation.clone() })
    }

    /// What a request gets that has this prompt and says nothing else. The prompt is not empty.
    pub fn generation(&self, prompt: Vec<u32>) -> Result<Generation, PromptTooLong> {
        let (tokens, context) = (prompt.len(), self.about.context);
        if tokens >= context {
            return Err(PromptTooLong { tokens, context });
        }
        let defaults = &self.defaults;
        Ok(Generation {
            prompt,
            max_tokens: defaults.n_predict.unwrap_or(usize::MAX).min(context - tokens),
            sampling: SamplingParameters {
                temperature: defaults.temp,
                top_k: defaults.top_k,
                top_p: defaults.top_p,
                min_p: defaults.min_p,
                repeat_penalty: defaults.repeat_penalty,
                repeat_last_n: defaults.repeat_last_n.unwrap_or(context).min(context),
                presence_penalty: defaults.presence_penalty,
                frequency_penalty: defaults.frequency_penalty,
                logit_bias: Vec::new(),
                seed: defaults.seed.unwrap_or_else(random_seed),
            },
            stop: Vec::new(),
            logprobs: None,
            prompt_logprobs: false,
            cache_prompt: true,
        })
    }
}

/// A prompt does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prompt has {tokens} tokens, but the context has room for {context}, the answer included")]
pub struct PromptTooLong {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Tokens that prompt and answer may have together.
    pub context: usize,
}

/// 32 bits, so that every client can read it back without loss.
fn random_seed() -> u64 {
    // The standard library seeds its hash tables from the operating system.
    RandomState::new().build_hasher().finish() >> 32
}

/// A model, open.
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
    let isa = isa(config)?;
    let model = Model::load(checkpoint, head_type(config), isa, &mut pool)?;
    let options = InferenceOptions {
        context,
        slots: SLOTS,
        cache_type: cache_type(config),
        max_rows: config.ubatch_size.min(context),
    };
    Ok(Inference::new(model, pool, isa, options)?)
}

/// How much memory the model of a checkpoint takes with this configuration.
pub fn footprint(config: &Config, checkpoint: &Checkpoint) -> Result<Footprint> {
    let context = context(config, checkpoint.hyperparameters())?;
    Ok(Footprint::of(checkpoint, head_type(config), cache_type(config), context)?)
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

fn head_type(config: &Config) -> LmHeadType {
    match config.head {
        Head::Exact => LmHeadType::Exact,
        Head::Q8 => LmHeadType::Q8,
        Head::Q4 => LmHeadType::Q4,
    }
}

fn cache_type(config: &Config) -> kernels::CacheType {
    match config.cache_type {
        CacheType::F16 => kernels::CacheType::F16,
        CacheType::F32 => kernels::CacheType::F32,
    }
}

/// The instruction set to compute with.
pub fn isa(config: &Config) -> Result<kernels::Isa> {
    let name = match config.isa {
        Isa::Auto => return Ok(kernels::Isa::best()),
        Isa::Scalar => "scalar",
        Isa::Avx2 => "avx2",
        Isa::AvxVnni => "avxvnni",
        Isa::Avx512 => "avx512",
    };
    kernels::Isa::named(name).with_context(|| format!("--isa {name}"))
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
