//! The token embedding and the output head as float rows, kept as the file has them.

use std::io;
use std::sync::{Mutex, PoisonError};

use half::f16;

use super::Isa;
use super::elementary::sum_four;
use super::isa::Kernel;
use super::rows::Rows;
use super::simd::{LANES, Simd};
use crate::checkpoint::{CheckpointError, Tensor};
use crate::gguf::TensorType;
use crate::kernels::disjoint::Disjoint;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::quant::{FloatRows, QuantError, decode_row};

/// Elements decoded at a time where rows are not F16: a multiple of every block size.
const SEGMENT: usize = 256;
/// Rows read from the file at a time.
const ROWS_AT_ONCE: usize = 64;

/// `[rows, columns]` of F16, F32, BF16, `Q8_0` or `Q6_K` in memory, in the file's encoding.
#[derive(Debug)]
pub struct FloatMatrix {
    bytes: Buffer<u8>,
    tensor_type: TensorType,
    rows: usize,
    columns: usize,
    row_bytes: usize,
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

impl FloatMatrix {
    /// Copies a tensor into memory.
    pub fn load(pool: &mut Pool, tensor: Tensor<'_>) -> Result<Self, FloatMatrixError> {
        let (rows, columns) = (tensor.rows, tensor.columns);
        FloatRows::new(tensor)?;
        let (block_elements, block_bytes) = tensor.tensor_type.block();
        let row_bytes = columns / block_elements * block_bytes;
        let memory = |source| FloatMatrixError::Memory {
            tensor: tensor.name.to_owned(),
            bytes: tensor.bytes(),
            source,
        };
        if !columns.is_multiple_of(block_elements) {
            let tensor_type = tensor.tensor_type;
            return Err(QuantError::Length { tensor_type, bytes: row_bytes, elements: columns }.into());
        }
        let mut bytes = Buffer::zeroed(rows * row_bytes).map_err(memory)?;
        let failure = Mutex::new(None);
        let shared = Disjoint::new(&mut bytes);
        pool.run_ranges(rows.div_ceil(ROWS_AT_ONCE), |chunks| {
            for chunk in chunks {
                let start = chunk * ROWS_AT_ONCE * row_bytes;
                let end = rows.min((chunk + 1) * ROWS_AT_ONCE) * row_bytes;
                // SAFETY: each chunk of rows belongs to one range.
                #[expect(unsafe_code, reason = "rows are read in parallel")]
                let part = unsafe { shared.part(start..end) };
                if let Err(error) = tensor.read(start as u64, part) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => Ok(Self { bytes, tensor_type: tensor.tensor_type, rows, columns, row_bytes }),
        }
    }

    /// A matrix of F32 from memory; values: `[rows, columns]`.
    pub fn from_f32(values: &[f32], columns: usize) -> io::Result<Self> {
        let mut bytes = Buffer::zeroed(size_of_val(values))?;
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        let (rows, row_bytes) = (values.len() / columns, columns * size_of::<f32>());
        Ok(Self { bytes, tensor_type: TensorType::F32, rows, columns, row_bytes })
    }

    /// A matrix of F16 from memory; values: `[rows, columns]`.
    pub fn from_f16(values: &[f16], columns: usize) -> io::Result<Self> {
        let mut bytes = Buffer::zeroed(size_of_val(values))?;
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        let (rows, row_bytes) = (values.len() / columns, columns * size_of::<f16>());
        Ok(Self { bytes, tensor_type: TensorType::F16, rows, columns, row_bytes })
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

    /// The stored bytes, for measuring how fast they can be read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One row as f32; `out` has the length of a row.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<(), QuantError> {
        decode_row(self.tensor_type, self.row_bytes(row), out)
    }

    /// As many rows from `first` on as `out` has room for.
    pub fn rows_from(&self, first: usize, out: &mut [f32]) -> Result<(), QuantError> {
        let start = first * self.row_bytes;
        let bytes = out.len() / self.columns * self.row_bytes;
        decode_row(self.tensor_type, &self.bytes[start..start + bytes], out)
    }

    fn row_bytes(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes]
    }
}

/// `out[t][row] = matrix[row] · x[t]`; x: `[tokens, columns]`, out: `[tokens, rows]` without padding.
///
/// # Panics
/// When the shapes differ.
pub fn logits(pool: &mut Pool, isa: Isa, matrix: &FloatMatrix, x: &Rows, out: &mut [f32]) {
    assert_eq!((x.columns(), out.len()), (matrix.columns, x.rows() * matrix.rows), "shapes of the head");
    let out = Disjoint::new(out);
    pool.run_ranges(matrix.rows, |rows| {
        isa.run(Logits { matrix, rows, x, out: &out });
    });
}

struct Logits<'a> {
    matrix: &'a FloatMatrix,
    rows: std::ops::Range<usize>,
    x: &'a Rows,
    out: &'a Disjoint<'a, f32>,
}

impl Kernel for Logits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { matrix, rows, x, out } = self;
        for token in 0..x.rows() {
            let start = token * matrix.rows;
            // SAFETY: each range of rows is the work of one piece.
            #[expect(unsafe_code, reason = "rows are multiplied in parallel")]
            let out = unsafe { out.part(start + rows.start..start + rows.end) };
            for (out, row) in out.iter_mut().zip(rows.clone()) {
                *out = row_product(simd, matrix, row, x.padded(token));
            }
        }
    }
}

/// The product of one row with the padded row `x`, in four sums of sixteen lanes: chunk `i` of sixteen elements is added to sum `i % 4`.
#[inline(always)]
pub(super) fn row_product<S: Simd>(simd: S, matrix: &FloatMatrix, row: usize, x: &[f32]) -> f32 {
    let bytes = matrix.row_bytes(row);
    let x = x.as_chunks::<LANES>().0;
    let mut sums = [simd.splat(0.0); 4];
    if let (TensorType::F16, Ok(row)) = (matrix.tensor_type, bytemuck::try_cast_slice::<u8, f16>(bytes)) {
        let (chunks, rest) = row.as_chunks::<LANES>();
        for (chunks, x) in chunks.chunks(4).zip(x.chunks(4)) {
            for ((chunk, x), sum) in chunks.iter().zip(x).zip(&mut sums) {
                *sum = simd.mul_add(simd.load_f16(chunk), simd.load(x), *sum);
            }
        }
        if let Some(x) = x.get(chunks.len()) {
            let mut last = [f16::ZERO; LANES];
            last[..rest.len()].copy_from_slice(rest);
            let sum = &mut sums[chunks.len() % 4];
            *sum = simd.mul_add(simd.load_f16(&last), simd.load(x), *sum);
        }
    } else {
        let (block_elements, block_bytes) = matrix.tensor_type.block();
        let segment_bytes = SEGMENT / block_elements * block_bytes;
        for (bytes, x) in bytes.chunks(segment_bytes).zip(x.chunks(SEGMENT / LANES)) {
            let mut decoded = [0.0; SEGMENT];
            let elements = bytes.len() / block_bytes * block_elements;
            // Cannot fail: `load` has checked type and lengths. A row of NaN would show it if it did.
            if decode_row(matrix.tensor_type, bytes, &mut decoded[..elements]).is_err() {
                return f32::NAN;
            }
            for (chunks, x) in decoded.as_chunks::<LANES>().0.chunks(4).zip(x.chunks(4)) {
                for ((chunk, x), sum) in chunks.iter().zip(x).zip(&mut sums) {
                    *sum = simd.mul_add(simd.load(chunk), simd.load(x), *sum);
                }
            }
        }
    }
    sum_four(simd, sums)
}
