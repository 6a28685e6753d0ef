//! A model reference → the bytes of the model.
//!
//! `demo` is a model of this project, trained on a text of its own so that a first run answers without a download; it is part
//! of the program. Its card is `demo/README.md`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tracing::warn;

use crate::config::ModelReference;
use crate::gguf::Source;

/// What a person who talks to the demo model has to know, in one line.
pub const DEMO_NOTICE: &str = "This is the built-in demo model: tiny, and taught only a few hundred topics. For a real model, start with \
                               -m FILE or set BITNET_MODEL; the README says where to get one.";

/// How to get a real model, line by line.
pub const REAL_MODEL_STEPS: &str = "To get the official model (1,187,801,280 bytes):

  curl -L -o ggml-model-i2_s.gguf \\
    https://huggingface.co/microsoft/bitnet-b1.58-2B-4T-gguf/resolve/main/ggml-model-i2_s.gguf
  echo '4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162  ggml-model-i2_s.gguf' | sha256sum -c

Then start with -m ggml-model-i2_s.gguf, or set BITNET_MODEL (LLAMA_ARG_MODEL).";

static DEMO: &[u8] = include_bytes!("../../../demo/bitnet-demo.gguf");

/// The model that is meant: a folder, such as one that a container is given, means the model file in it, or the demo as long as
/// it holds none.
pub fn resolve(reference: &ModelReference) -> Result<ModelReference> {
    let ModelReference::File(folder) = reference else { return Ok(ModelReference::Demo) };
    if !folder.is_dir() {
        return Ok(reference.clone());
    }
    let mut files = model_files(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    match (files.pop(), files.len()) {
        (None, _) => {
            warn!("no .gguf file in {}", folder.display());
            Ok(ModelReference::Demo)
        }
        (Some(file), 0) => Ok(ModelReference::File(file)),
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

/// The bytes of the model that is meant.
pub fn open(reference: &ModelReference) -> Result<Source> {
    match resolve(reference)? {
        ModelReference::Demo => Ok(Source::from_static(DEMO)),
        ModelReference::File(path) => {
            Source::open(&path).with_context(|| format!("cannot open {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_one_model_in_it() {
        let folder = std::env::temp_dir().join(format!("bitnet-hub-{}", std::process::id()));
        fs::create_dir_all(folder.join("folder.gguf")).unwrap();
        fs::write(folder.join("notes.txt"), "").unwrap();
        let reference = ModelReference::File(folder.clone());
        let empty = resolve(&reference).unwrap();
        fs::write(folder.join("a.gguf"), "").unwrap();
        let one = resolve(&reference).unwrap();
        fs::write(folder.join("b.gguf"), "").unwrap();
        let two = resolve(&reference).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();

        assert_eq!((empty, one), (ModelReference::Demo, ModelReference::File(folder.join("a.gguf"))));
        assert!(two.contains("2 model files") && two.contains("b.gguf"), "{two}");
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        let error = open(&ModelReference::File("no/such.gguf".into())).unwrap_err().to_string();
        assert!(error.contains("no/such.gguf"), "{error}");
    }
}
