//! Why a download does not go on, in words for the person who waits for it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

/// Why there is no model from the hub.
#[derive(Debug, thiserror::Error)]
pub(super) enum HubError {
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    #[error("the connection broke after {bytes} bytes: {cause}")]
    Broken { bytes: u64, cause: String },
    #[error("nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("{host} answers with status {status}")]
    Status { host: String, status: StatusCode },
    #[error("{host} asks to wait ({status}{})", .retry_after.map(|time| format!(", {} s", time.as_secs())).unwrap_or_default())]
    Busy { host: String, status: StatusCode, retry_after: Option<Duration> },
    #[error("there is no such file there (404); the reference is hf:OWNER/REPO/FILE[@REVISION]")]
    NotFound,
    #[error(
        "{host} refuses ({status}): the repository is private, or its license has to be accepted, or there is none of this name; \
             HF_TOKEN takes the token of an account that may read it"
    )]
    Denied { host: String, status: StatusCode },
    #[error("{host} redirects {problem}")]
    Redirect { host: String, problem: String },
    #[error(
        "{host} answers with a page ({content_type}) in place of the file: is HF_ENDPOINT right, and does this network let downloads \
             through?"
    )]
    Page { host: String, content_type: String },
    #[error("what comes is no GGUF file: it begins with {beginning:?}")]
    NotGguf { beginning: String },
    #[error("{what} says that the file has {found} bytes, but it has to have {expected}")]
    Size { what: &'static str, expected: u64, found: u64 },
    #[error("more bytes come than the {expected} that the file has")]
    TooMany { expected: u64 },
    #[error("the bytes are not those of the model: their sha256 is {found}, but it has to be {expected}")]
    Checksum { expected: String, found: String },
    #[error("the hub says that the file's sha256 is {found}, but that of this model is {expected}")]
    OtherContent { expected: String, found: String },
    #[error(
        "{host} tells neither the size nor the sha256 of the file, so nobody could say whether all of it has come"
    )]
    Unknown { host: String },
    #[error("the file on the hub was replaced during the download")]
    Replaced,
    #[error("{path} has {found} bytes, but this model has {expected}: remove that file")]
    WrongFile { path: PathBuf, expected: u64, found: u64 },
    #[error("no room in {folder}: the rest of the model has {needed} bytes and {free} are free, so {} are missing; --model-dir \
             (BITNET_MODEL_DIR) names another folder", needed.saturating_sub(*free))]
    DiskFull { folder: PathBuf, needed: u64, free: u64 },
    #[error("cannot write {path}; --model-dir (BITNET_MODEL_DIR) names another folder")]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "there is neither HOME nor XDG_CACHE_HOME to keep downloads in: give --model-dir (BITNET_MODEL_DIR)"
    )]
    NoFolder,
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

impl HubError {
    /// Whether what has been received so far is worth nothing.
    pub(super) fn is_about_content(&self) -> bool {
        matches!(self, Self::NotGguf { .. } | Self::TooMany { .. } | Self::Checksum { .. } | Self::Replaced)
    }
}

/// A failure, and what to do about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// The network's or the server's bad moment. `after` is what the server asks for.
    Passing { error: HubError, after: Option<Duration> },
    /// The same would happen again.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// One that may be gone the next time.
    pub(super) fn passing(error: HubError) -> Self {
        Self::Passing { error, after: None }
    }
}

/// The innermost reason: the outer ones repeat an address that may have a signature in it.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
