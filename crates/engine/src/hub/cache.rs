//! Where a file of the hub is on this machine: in the model folder, or among the downloads of the hub's own tools.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::HubError;
use super::{HubFile, Options};

/// What is known of a file before the hub is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// In bytes.
    pub size: u64,
    /// 64 digits, lower case.
    pub sha256: &'static str,
}

impl Known {
    /// The models that have a short name, at the revision that the name stands for.
    pub(super) fn of(file: &HubFile) -> Option<Self> {
        let HubFile { repository, file, revision } = file;
        match (repository.as_str(), file.as_str(), revision.as_str()) {
            (
                "microsoft/bitnet-b1.58-2B-4T-gguf",
                "ggml-model-i2_s.gguf",
                "a1f2f1c765812aa8af3f6eda4a313707064bba15",
            ) => Some(Self {
                size: 1_187_801_280,
                sha256: "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162",
            }),
            _ => None,
        }
    }
}

/// Where downloads go.
pub(super) fn model_folder(options: &Options) -> Result<PathBuf, HubError> {
    match &options.model_dir {
        Some(folder) => Ok(folder.clone()),
        None => user_cache().map(|folder| folder.join("bitnet")).ok_or(HubError::NoFolder),
    }
}

/// Where a file belongs in the model folder. The revision is part of it, so that no file stands for another one.
pub(super) fn place(file: &HubFile) -> PathBuf {
    Path::new(&file.repository).join(&file.revision).join(&file.file)
}

/// The file, if it is on this machine.
pub(super) fn find(
    target: &Path,
    file: &HubFile,
    options: &Options,
    known: Option<Known>,
) -> Result<Option<PathBuf>, HubError> {
    if let Ok(about) = fs::metadata(target) {
        return match known {
            Some(Known { size, .. }) if about.len() != size => {
                Err(HubError::WrongFile { path: target.to_owned(), expected: size, found: about.len() })
            }
            _ => Ok(Some(target.to_owned())),
        };
    }
    let cache = options.hub_cache.clone().or_else(|| {
        let home = options.hub_home.clone().or_else(|| Some(user_cache()?.join("huggingface")));
        Some(home?.join("hub"))
    });
    Ok(cache.and_then(|cache| in_hub_cache(&cache, file, known)))
}

/// The hub's own tools keep files as `models--OWNER--REPO/snapshots/COMMIT/FILE`, each a link to `blobs/SHA256`, and what a
/// branch or tag was when it was asked for last in `refs/NAME`.
fn in_hub_cache(cache: &Path, file: &HubFile, known: Option<Known>) -> Option<PathBuf> {
    let repository = cache.join(format!("models--{}", file.repository.replace('/', "--")));
    let at = |commit: &str| repository.join("snapshots").join(commit).join(&file.file);
    let by_name = || {
        let commit = fs::read_to_string(repository.join("refs").join(&file.revision)).ok()?;
        let commit = commit.trim();
        commit.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| at(commit))
    };
    let path = Some(at(&file.revision)).filter(|path| path.is_file()).or_else(by_name)?;
    let about = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let Some(Known { size, sha256 }) = known else { return Some(path) };
    // Where links are not possible the file itself stands there, and its name says nothing.
    let blob = fs::canonicalize(&path).ok()?;
    let name = blob.file_name()?.to_str()?;
    let named_by_sum = name.len() == sha256.len() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (about.len() == size && (!named_by_sum || name == sha256)).then_some(path)
}

/// The user's folder for what can be had again.
fn user_cache() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))
}
