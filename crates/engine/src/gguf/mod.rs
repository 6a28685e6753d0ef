//! GGUF: the bytes of a model file → its metadata and a directory of its tensors.
//!
//! The file comes from the internet and is not trusted: every count, length, depth, alignment and offset is checked
//! against the bytes that are really there before anything is allocated or read, so memory stays within a small
//! multiple of the size of the file's head, which is limited too, and no input can make this code panic. Everything is
//! read with positioned reads; a memory map is absent on purpose, since a file that shrinks while mapped kills the
//! process.
//!
//! What the metadata *means* is not decided here; see [`crate::checkpoint`].

mod directory;
mod error;
mod metadata;
mod reader;
mod source;
mod tensor_type;

#[cfg(test)]
pub(crate) mod writer;

#[cfg(test)]
mod tests;

pub(crate) use directory::TensorInfo;
pub(crate) use error::shown;
pub(crate) use error::{GgufError, Place, Problem};
pub(crate) use metadata::{Array, Metadata, Value};
pub(crate) use source::Source;
pub(crate) use tensor_type::TensorType;

use directory::Directory;
use reader::Reader;

/// The parsed head of a GGUF file: everything except the tensors' data.
#[derive(Debug)]
pub struct Gguf {
    /// GGUF version, 2 or 3.
    pub version: u32,
    /// Key-value pairs in file order.
    pub metadata: Metadata,
    /// Tensors in file order.
    pub tensors: Vec<TensorInfo>,
    by_name: std::collections::HashMap<String, usize>,
}

impl Gguf {
    /// Reads and checks header, metadata and tensor directory.
    pub fn read(source: &Source) -> Result<Self, GgufError> {
        Self::read_if(source, |_| Ok(()))
    }

    /// As [`Gguf::read`], but shows the metadata to `accept` before the tensors are looked at, so that a caller who
    /// will not use the file can say why before this code stumbles over a tensor type that it does not know.
    pub fn read_if<E: From<GgufError>>(
        source: &Source,
        accept: impl FnOnce(&Metadata) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut reader = Reader::new(source);
        let header = reader.header()?;
        let metadata = reader.metadata(header.entries)?;
        accept(&metadata)?;
        let alignment = alignment(&metadata)?;
        let Directory { tensors, by_name } = Directory::read(&mut reader, header.tensors, alignment)?;
        Ok(Self { version: header.version, metadata, tensors, by_name })
    }

    /// The tensor of that name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.by_name.get(name)?)
    }
}

/// Tensor data starts at, and every tensor's offset is, a multiple of this many bytes.
fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    const DEFAULT: u64 = 32;
    let alignment = metadata.u64(KEY)?.unwrap_or(DEFAULT);
    if alignment.is_power_of_two() {
        Ok(alignment)
    } else {
        Err(Problem::Alignment(alignment).at(Place::Key(KEY.to_owned())))
    }
}
