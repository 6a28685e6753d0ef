//! A model file → one [`Checkpoint`]: validated hyperparameters and tensors that are found by name.
//!
//! Everything after this module may trust the hyperparameters: they are not zero, bounded, divide where they must and
//! their products fit into a `usize`. Whether the tensors have the shapes that follow from them is checked when a
//! tensor is asked for. Weights are not read here, and no type is decoded except plain floats; see [`crate::quant`].

mod error;
mod hyperparameters;
mod tensor;

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is stored comes back exactly")]
pub(crate) mod tests;

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::gguf::{Gguf, Metadata, Source};

pub(crate) use error::CheckpointError;
pub(crate) use hyperparameters::{Architecture, Hyperparameters};
pub(crate) use tensor::{StoredTensor, Tensor};

/// An open model file.
#[derive(Debug)]
pub struct Checkpoint {
    source: Source,
    gguf: Gguf,
    hyperparameters: Hyperparameters,
}

impl Checkpoint {
    /// Opens a GGUF file. It stays open, and is read when tensors are.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let source =
            Source::open(path).map_err(|error| CheckpointError::Open { path: path.to_owned(), error })?;
        Self::from_source(source)
    }

    /// Takes the bytes of a GGUF file.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, CheckpointError> {
        Self::from_source(bytes.into())
    }

    /// Takes the bytes of a GGUF file, wherever they are.
    pub fn from_source(source: Source) -> Result<Self, CheckpointError> {
        let gguf = Gguf::read_if(&source, |metadata| Architecture::from_metadata(metadata).map(drop))?;
        let hyperparameters = Hyperparameters::from_gguf(&gguf)?;
        Ok(Self { source, gguf, hyperparameters })
    }

    /// What tells its file from others: its size and both its ends, in which are the metadata and some weights. Cheap, and so not
    /// sure to tell files of different weights apart.
    pub(crate) fn fingerprint(&self) -> io::Result<Vec<u8>> {
        const END: u64 = 1 << 20;
        let length = self.source.len();
        let mut bytes = length.to_le_bytes().to_vec();
        for offset in [0, length.saturating_sub(END)] {
            let mut end = vec![0; length.min(END) as usize];
            self.source.read_at(offset, &mut end)?;
            bytes.extend(end);
        }
        Ok(bytes)
    }

    /// What shape the model has.
    #[must_use]
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// Key-value pairs of the file.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.gguf.metadata
    }

    /// The file's metadata and tensor directory.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The tensor of that name, whatever its shape.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        Tensor::new(self.gguf.tensor(name)?, &self.source)
    }

    /// The tensor of that name, which must have this shape.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Tensor<'_>, CheckpointError> {
        let tensor = self.tensor(name).ok_or_else(|| CheckpointError::MissingTensor(name.to_owned()))?;
        if (tensor.rows, tensor.columns) == (rows, columns) {
            return Ok(tensor);
        }
        Err(CheckpointError::Shape {
            tensor: name.to_owned(),
            expected: [rows, columns],
            found: [tensor.rows, tensor.columns],
        })
    }

    /// The values of a tensor of one row (F32, F16 or BF16), which must be finite.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, CheckpointError> {
        self.matrix(name, 1, length)?.floats()
    }

    /// The factor that is stored beside a weight (`blk.0.attn_q.scale` for `blk.0.attn_q.weight`); 1 when there is none.
    pub fn separate_scale(&self, weight: &str) -> Result<f32, CheckpointError> {
        let name = format!("{}.scale", weight.strip_suffix(".weight").unwrap_or(weight));
        if self.tensor(&name).is_none() {
            return Ok(1.0);
        }
        Ok(self.vector(&name, 1)?.first().copied().unwrap_or(1.0))
    }
}
