//! What can be wrong with a GGUF file: a problem, and the place where it was found.

use std::fmt;
use std::io;

use super::TensorType;

/// Why a file cannot be read as GGUF.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The magic number is missing.
    #[error("this is not a GGUF file: it {0}")]
    NotGguf(String),
    /// Written on, or for, a big-endian machine.
    #[error("this GGUF file is in big-endian byte order; only little-endian files can be read")]
    BigEndian,
    /// Neither version 2 nor 3.
    #[error(
        "GGUF version {0} is not supported (versions 2 and 3 are); convert the model again with a current tool"
    )]
    Version(u32),
    #[error("{place}: {problem}")]
    Malformed { place: Place, problem: Problem },
}

/// The part of the file in which a problem was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Magic, version and the two counts.
    Header,
    /// A metadata entry (counted from 0) whose key could not be read.
    Entry(u64),
    /// The metadata entry with this key.
    Key(String),
    /// A tensor (counted from 0) whose name could not be read.
    TensorNumber(u64),
    /// The tensor of this name.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("GGUF header"),
            Self::Entry(index) => write!(f, "metadata entry {index}"),
            Self::Key(key) => write!(f, "metadata key {}", shown(key)),
            Self::TensorNumber(index) => write!(f, "tensor number {index}"),
            Self::Tensor(name) => write!(f, "tensor {}", shown(name)),
        }
    }
}

/// What is wrong at a [`Place`].
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("the file cannot be read at byte {offset}: {error}")]
    Io { offset: u64, error: io::Error },
    #[error("{needed} bytes are needed at byte {offset}, but only {remaining} are left")]
    PastEnd { offset: u64, needed: u64, remaining: u64 },
    #[error("{count} elements cannot fit into the {remaining} bytes that are left")]
    TooMany { count: u64, remaining: u64 },
    #[error("a text of {length} bytes is too long here (at most {limit})")]
    TooLong { length: u64, limit: u64 },
    #[error("the text is not valid UTF-8")]
    NotUtf8,
    #[error("appears twice")]
    Duplicate,
    #[error("value type {0} does not exist")]
    UnknownValueType(u32),
    #[error("a boolean must be 0 or 1, not {0}")]
    InvalidBool(u8),
    #[error("arrays are nested deeper than {0} levels")]
    TooDeep(u32),
    #[error("must be {expected}, but is {found}")]
    WrongType { expected: &'static str, found: &'static str },
    #[error("the alignment must be a power of two, not {0}")]
    Alignment(u64),
    #[error("{count} dimensions (at most {limit} are possible)")]
    TooManyDimensions { count: u32, limit: u32 },
    #[error("shape {0:?} has a zero in it")]
    ZeroDimension(Vec<u64>),
    #[error("shape {0:?} is too large")]
    TooLarge(Vec<u64>),
    #[error(
        "has type {name} (id {id}), which is not supported; supported are {}",
        TensorType::ALL.map(TensorType::name).join(", ")
    )]
    UnsupportedTensorType { id: u32, name: &'static str },
    #[error("rows of {columns} elements are not whole {tensor_type} blocks of {block}")]
    PartialBlock { tensor_type: TensorType, columns: u64, block: u64 },
    #[error("its offset {offset} is not a multiple of the alignment {alignment}")]
    Misaligned { offset: u64, alignment: u64 },
    #[error(
        "its {bytes} bytes at offset {offset} of the data reach past the end of the file ({file_bytes} bytes)"
    )]
    DataPastEnd { offset: u64, bytes: u64, file_bytes: u64 },
    #[error("shares bytes with tensor {}", shown(.0))]
    Overlap(String),
}

impl Problem {
    pub(super) fn at(self, place: Place) -> GgufError {
        GgufError::Malformed { place, problem: self }
    }
}

/// Text from a file made fit for a message: quoted, control characters escaped, long ones cut.
pub(crate) fn shown(text: &str) -> String {
    const LIMIT: usize = 64;
    match text.char_indices().nth(LIMIT) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
    }
}
