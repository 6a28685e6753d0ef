//! A named piece of the file with a shape.

use std::io;

use half::{bf16, f16};

use super::CheckpointError;
use crate::gguf::{Source, TensorInfo, TensorType};

/// A tensor of a [`super::Checkpoint`]: a view, cheap to copy and to share between threads.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Number of rows (outputs, for a weight).
    pub rows: usize,
    /// Elements of a row (inputs, for a weight).
    pub columns: usize,
    /// How the elements are stored.
    pub tensor_type: TensorType,
    source: &'a Source,
    offset: u64,
    bytes: u64,
}

impl<'a> Tensor<'a> {
    /// `None` if the number of elements does not fit into this machine's `usize`.
    pub(super) fn new(info: &'a TensorInfo, source: &'a Source) -> Option<Self> {
        let rows = usize::try_from(info.rows()).ok()?;
        let columns = usize::try_from(info.columns()).ok()?;
        rows.checked_mul(columns)?;
        let TensorInfo { name, tensor_type, offset, bytes, .. } = info;
        Some(Self { name, rows, columns, tensor_type: *tensor_type, source, offset: *offset, bytes: *bytes })
    }

    /// The same tensor for longer than its checkpoint is there.
    #[must_use]
    pub fn keep(&self) -> StoredTensor {
        let Self { name, rows, columns, tensor_type, source, offset, bytes } = *self;
        let (name, source) = (name.to_owned(), source.clone());
        StoredTensor { name, rows, columns, tensor_type, source, offset, bytes }
    }

    /// Size of the data in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `out` with the data from `offset` (in bytes, within the tensor) on.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        let tensor = || self.name.to_owned();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.bytes) {
            let (length, bytes) = (out.len(), self.bytes);
            return Err(CheckpointError::OutOfRange { tensor: tensor(), offset, length, bytes });
        }
        self.source.read_at(self.offset + offset, out).map_err(|error| match error.kind() {
            // The directory was checked against the file's length.
            io::ErrorKind::UnexpectedEof => CheckpointError::Shortened { tensor: tensor() },
            _ => CheckpointError::Read { tensor: tensor(), error },
        })
    }

    /// All elements of a small tensor of plain floats.
    pub(super) fn floats(&self) -> Result<Vec<f32>, CheckpointError> {
        let mut bytes = vec![0; self.bytes as usize];
        self.read(0, &mut bytes)?;
        let values: Vec<f32> = match self.tensor_type {
            TensorType::F32 => decode(&bytes, f32::from_le_bytes),
            TensorType::F16 => decode(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            TensorType::BF16 => decode(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            found => return Err(CheckpointError::NotFloat { tensor: self.name.to_owned(), found }),
        };
        match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(values),
            Some((index, &value)) => {
                Err(CheckpointError::NotFinite { tensor: self.name.to_owned(), index, value })
            }
        }
    }
}

/// A [`Tensor`] that holds its file open, for what is read while the model runs.
#[derive(Debug)]
pub struct StoredTensor {
    name: String,
    rows: usize,
    columns: usize,
    tensor_type: TensorType,
    source: Source,
    offset: u64,
    bytes: u64,
}

impl StoredTensor {
    /// What can be read.
    #[must_use]
    pub fn tensor(&self) -> Tensor<'_> {
        let Self { name, rows, columns, tensor_type, source, offset, bytes } = self;
        let (rows, columns, tensor_type) = (*rows, *columns, *tensor_type);
        Tensor { name, rows, columns, tensor_type, source, offset: *offset, bytes: *bytes }
    }
}

fn decode<const N: usize>(bytes: &[u8], convert: fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| convert(bytes)).collect()
}
