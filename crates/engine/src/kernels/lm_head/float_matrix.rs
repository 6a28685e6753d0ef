//! Matrices of floats in the file's encoding: the token embedding and the output head.
//!
//! The rows are either in memory or left in the file, from which each is read when it is needed: to a place that the caller
//! has, so that nothing is allocated. Bytes in the file may change or vanish while the engine runs; what is read is treated
//! like any numbers, and what cannot be read is an error.

use std::io;

use half::f16;

use crate::checkpoint::{CheckpointError, StoredTensor, Tensor};
use crate::gguf::TensorType;
use crate::kernels::disjoint::Disjoint;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::quant::{FloatRows, QuantError, decode_row};

/// A multiple of the elements of every block; rows are taken apart at multiples of it.
pub(super) const SEGMENT: usize = 256;
/// Rows read from the file at a time, where all are.
const ROWS_AT_ONCE: usize = 64;
/// Bytes of a row read from the file at a time: all 5 KB of a row of 2,560 in F16.
const PART: usize = 16 * 1024;

/// `[rows, columns]` of F16, F32, BF16, `Q8_0` or `Q6_K`, in the file's encoding.
#[derive(Debug)]
pub struct FloatMatrix {
    storage: Storage,
    pub(super) tensor_type: TensorType,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_bytes: usize,
}

#[derive(Debug)]
enum Storage {
    Memory(Buffer<u8>),
    File(StoredTensor),
}

/// Why a float matrix could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FloatMatrixError {
    /// The type is not one of floats.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The file could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The system has no memory for it.
    #[error("cannot reserve {bytes} bytes for tensor {tensor}")]
    Memory {
        /// Name in the file.
        tensor: String,
        /// Its size.
        bytes: u64,
        /// The system's answer.
        source: io::Error,
    },
}

/// Where part of a row from the file goes; aligned, so that F16 can be used as it is.
#[repr(align(64))]
pub(super) struct Room([u8; PART]);

impl Room {
    pub(super) const fn new() -> Self {
        Self([0; PART])
    }
}

impl FloatMatrix {
    /// Copies a tensor into memory.
    pub fn load(pool: &mut Pool, tensor: Tensor<'_>) -> Result<Self, FloatMatrixError> {
        let mut matrix = Self::in_file(tensor)?;
        let (rows, row_bytes) = (matrix.rows, matrix.row_bytes);
        let memory = |source| FloatMatrixError::Memory {
            tensor: tensor.name.to_owned(),
            bytes: tensor.bytes(),
            source,
        };
        let mut bytes = Buffer::zeroed(rows * row_bytes).map_err(memory)?;
        let shared = Disjoint::new(&mut bytes);
        pool.try_run_ranges(rows.div_ceil(ROWS_AT_ONCE), |chunks| {
            for chunk in chunks {
                let start = chunk * ROWS_AT_ONCE * row_bytes;
                let end = rows.min((chunk + 1) * ROWS_AT_ONCE) * row_bytes;
                // SAFETY: each chunk of rows belongs to one range.
                #[expect(unsafe_code, reason = "rows are read in parallel")]
                let part = unsafe { shared.part(start..end) };
                tensor.read(start as u64, part)?;
            }
            Ok::<_, CheckpointError>(())
        })?;
        matrix.storage = Storage::Memory(bytes);
        Ok(matrix)
    }

    /// Leaves a tensor where it is; the file stays open.
    pub fn in_file(tensor: Tensor<'_>) -> Result<Self, QuantError> {
        FloatRows::new(tensor)?;
        let Tensor { rows, columns, tensor_type, .. } = tensor;
        let (block_elements, block_bytes) = tensor_type.block();
        let row_bytes = columns / block_elements * block_bytes;
        if !columns.is_multiple_of(block_elements) {
            return Err(QuantError::Length { tensor_type, bytes: row_bytes, elements: columns });
        }
        Ok(Self { storage: Storage::File(tensor.keep()), tensor_type, rows, columns, row_bytes })
    }

    /// A matrix of F32 from memory; values: `[rows, columns]`.
    pub fn from_f32(values: &[f32], columns: usize) -> io::Result<Self> {
        Self::in_memory(TensorType::F32, values, columns, f32::to_le_bytes)
    }

    /// A matrix of F16 from memory; values: `[rows, columns]`.
    pub fn from_f16(values: &[f16], columns: usize) -> io::Result<Self> {
        Self::in_memory(TensorType::F16, values, columns, f16::to_le_bytes)
    }

    fn in_memory<T: Copy, const B: usize>(
        tensor_type: TensorType,
        values: &[T],
        columns: usize,
        to_bytes: impl Fn(T) -> [u8; B],
    ) -> io::Result<Self> {
        let mut bytes = Buffer::zeroed(size_of_val(values))?;
        for (bytes, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = to_bytes(value);
        }
        let (rows, row_bytes) = (values.len() / columns, columns * B);
        Ok(Self { storage: Storage::Memory(bytes), tensor_type, rows, columns, row_bytes })
    }

    /// Number of rows: the vocabulary.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row: the width of the model.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The bytes that are in memory, for measuring how fast they can be read: all or none.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Memory(bytes) => bytes,
            Storage::File(_) => &[],
        }
    }

    /// As many rows from `first` on as `out` has room for, as f32.
    pub fn rows_from(&self, first: usize, out: &mut [f32]) -> Result<(), QuantError> {
        match &self.storage {
            Storage::Memory(bytes) => {
                let start = first * self.row_bytes;
                let length = out.len() / self.columns * self.row_bytes;
                decode_row(self.tensor_type, &bytes[start..start + length], out)
            }
            Storage::File(stored) => FloatRows::new(stored.tensor())?.rows(first, out),
        }
    }

    /// The bytes of a row from `start` on, which is zero or where the last part ended: all that are left, or whole segments.
    #[inline(always)]
    pub(super) fn part_of_row<'a>(
        &'a self,
        row: usize,
        start: usize,
        room: &'a mut Room,
    ) -> Result<&'a [u8], QuantError> {
        let first = row * self.row_bytes;
        match &self.storage {
            Storage::Memory(bytes) => Ok(&bytes[first + start..first + self.row_bytes]),
            Storage::File(stored) => {
                let most = PART / self.segment_bytes() * self.segment_bytes();
                let part = &mut room.0[..most.min(self.row_bytes - start)];
                stored.tensor().read((first + start) as u64, part)?;
                Ok(part)
            }
        }
    }

    /// Where the part of a row after this one begins: its byte, and its column.
    #[inline(always)]
    pub(super) fn after(&self, start: usize, part: &[u8]) -> (usize, usize) {
        let end = start + part.len();
        // The usual case needs no division.
        if end == self.row_bytes {
            return (end, self.columns);
        }
        (end, end / self.segment_bytes() * SEGMENT)
    }

    /// Bytes of [`SEGMENT`] elements.
    pub(super) fn segment_bytes(&self) -> usize {
        let (block_elements, block_bytes) = self.tensor_type.block();
        SEGMENT / block_elements * block_bytes
    }
}
