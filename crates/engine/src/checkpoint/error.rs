//! Why a file is not a model that can be run.

use std::io;
use std::path::PathBuf;

use super::Architecture;
use crate::gguf::{GgufError, TensorType, shown};

/// Why a file is not a model that can be run, in words for the person who chose the file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{} cannot be opened: {error}", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(
        "the architecture {} is not supported; supported are {}",
        shown(.0),
        Architecture::ALL.map(Architecture::name).join(", ")
    )]
    UnsupportedArchitecture(String),
    #[error("the file lacks metadata key {0:?}")]
    MissingKey(String),
    #[error("metadata key {key:?}: {problem}")]
    InvalidKey { key: String, problem: String },
    #[error("the file lacks tensor {0:?}")]
    MissingTensor(String),
    #[error(
        "tensor {tensor:?}: must have {} rows of {} elements, but has {} of {}",
        expected[0], expected[1], found[0], found[1]
    )]
    Shape { tensor: String, expected: [usize; 2], found: [usize; 2] },
    #[error("tensor {tensor:?}: has type {found}, but must be F32, F16 or BF16")]
    NotFloat { tensor: String, found: TensorType },
    #[error("tensor {tensor:?}: element {index} is {value}")]
    NotFinite { tensor: String, index: usize, value: f32 },
    #[error("tensor {tensor:?}: {length} bytes at {offset} are not inside its {bytes} bytes")]
    OutOfRange { tensor: String, offset: u64, length: usize, bytes: u64 },
    #[error("tensor {tensor:?}: the file has become shorter since it was opened")]
    Shortened { tensor: String },
    #[error("tensor {tensor:?}: cannot be read from the file: {error}")]
    Read { tensor: String, error: io::Error },
}
