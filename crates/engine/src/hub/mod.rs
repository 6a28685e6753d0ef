//! A model reference → the bytes of the model, downloaded first when they are not on this machine.
//!
//! `demo` is a model of this project, trained on a text of its own so that a first run answers without a download; it is part
//! of the program. Its card is `demo/README.md`.
//!
//! A file of the Hugging Face hub is looked for in the model folder, then among the downloads of the hub's own tools, and is
//! otherwise downloaded: [`remote`] asks the hub, [`partial`] is the file that grows, [`transfer`] brings the two together,
//! again and again while the network fails. What stands in the model folder under its own name is whole and verified.

mod cache;
mod error;
mod partial;
mod progress;
mod reference;
mod remote;
mod transfer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::gguf::Source;
use cache::Known;
pub use progress::{Progress, Stage};
pub use reference::{HubFile, ModelReference};
use remote::Remote;
use transfer::{Patience, Transfer};

/// What a person who talks to the demo model has to know, in one line.
pub const DEMO_NOTICE: &str = "This is the built-in demo model: tiny, and taught only a few hundred topics. For a real model, start with \
                               -m bitnet-2b, -m FILE, or set BITNET_MODEL.";

/// How to get a real model, line by line.
pub const REAL_MODEL_STEPS: &str =
    "To get the official model, microsoft/bitnet-b1.58-2B-4T-gguf (1,187,801,280 bytes, downloaded once):

  bitnet-engine -m bitnet-2b      or set BITNET_MODEL=bitnet-2b (LLAMA_ARG_MODEL)
  bitnet-engine pull bitnet-2b    downloads it ahead of time

A file that is here already is named by its path: -m FILE.";

static DEMO: &[u8] = include_bytes!("../../../../demo/bitnet-demo.gguf");

/// From where to where models are downloaded.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for downloads; `None` is `bitnet` in the user's cache folder.
    pub model_dir: Option<PathBuf>,
    /// The base address of the hub, with a `/` at its end.
    pub endpoint: Url,
    /// `Authorization` for repositories that are not public; sent to the hub itself and to no other host.
    pub token: Option<HeaderValue>,
    /// The folder of the hub's own tools; `None` is `huggingface` in the user's cache folder.
    pub hub_home: Option<PathBuf>,
    /// Their folder for downloads; `None` is `hub` in `hub_home`.
    pub hub_cache: Option<PathBuf>,
}

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalModel {
    /// The one inside this program.
    Demo,
    /// A GGUF file.
    File(PathBuf),
}

impl LocalModel {
    /// Opens the file, or the bytes in this program, without reading them.
    pub fn open(&self) -> Result<Source> {
        match self {
            Self::Demo => Ok(Source::from_static(DEMO)),
            Self::File(path) => Source::open(path).with_context(|| {
                format!(
                    "cannot open {} (besides files there are the models `demo`, `bitnet-2b` and hf:OWNER/REPO/FILE)",
                    path.display()
                )
            }),
        }
    }
}

impl Options {
    /// The folder for downloads, unless it was not said and there is no folder for the user's own.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        cache::model_folder(self).ok()
    }
}

impl fmt::Display for LocalModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("demo"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The model that is meant, on this machine. May download for minutes, and says in `stages` how far it is. Blocks, so it must
/// not run on a thread of an asynchronous runtime.
///
/// A folder, such as one that a container is given, means the model file in it, or the demo as long as it holds none.
pub fn resolve(
    reference: &ModelReference,
    options: &Options,
    stages: &watch::Sender<Stage>,
) -> Result<LocalModel> {
    match reference {
        ModelReference::Demo => Ok(LocalModel::Demo),
        ModelReference::Path(path) if path.is_dir() => in_folder(path),
        ModelReference::Path(path) => Ok(LocalModel::File(path.clone())),
        ModelReference::Hub(file) => {
            from_hub(reference, file, options, &Patience::default(), stages).map(LocalModel::File)
        }
    }
}

fn in_folder(folder: &Path) -> Result<LocalModel> {
    let mut files = model_files(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    match (files.pop(), files.len()) {
        (None, _) => {
            warn!("no .gguf file in {}", folder.display());
            Ok(LocalModel::Demo)
        }
        (Some(file), 0) => Ok(LocalModel::File(file)),
        (Some(file), others) => bail!(
            "{} holds {} model files; name one of them, such as {}",
            folder.display(),
            others + 1,
            file.display()
        ),
    }
}

fn model_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The file of the hub on this machine, downloaded when it is not there yet.
fn from_hub(
    reference: &ModelReference,
    file: &HubFile,
    options: &Options,
    patience: &Patience,
    stages: &watch::Sender<Stage>,
) -> Result<PathBuf> {
    let known = Known::of(file);
    let target = cache::model_folder(options)?.join(cache::place(file));
    if let Some(path) = cache::find(&target, file, options, known)? {
        info!(path = %path.display(), "{reference} is here already");
        return Ok(path);
    }
    let remote = Remote::new(options, patience)?;
    let transfer = Transfer::new(&remote, file, known, &target, patience, stages);
    // A runtime of its own, on this thread alone, where writing to the disk may block.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(transfer.run()).with_context(|| {
        format!(
            "cannot download {reference} from {}. There are two ways without this download: name a model file that is on this \
             machine (-m FILE, or BITNET_MODEL; in a container, a mounted one), or use the small model inside this program \
             (-m demo)",
            remote.host()
        )
    })?;
    stages.send_replace(Stage::Loading);
    info!(path = %target.display(), "{reference} is downloaded and verified");
    Ok(target)
}
