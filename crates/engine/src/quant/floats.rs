//! Rows of floats, from plain or block-quantized storage.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::{QuantError, blocks, for_each_piece};
use crate::checkpoint::Tensor;
use crate::gguf::TensorType;

/// A matrix (an embedding, an `lm_head`) whose rows are read as `f32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatRows<'a> {
    tensor: Tensor<'a>,
}

impl<'a> FloatRows<'a> {
    /// F32, F16, BF16, `Q8_0` and `Q6_K` can be read.
    pub(crate) fn new(tensor: Tensor<'a>) -> Result<Self, QuantError> {
        match tensor.tensor_type {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 | TensorType::Q8_0 | TensorType::Q6_K => {
                Ok(Self { tensor })
            }
            found => Err(QuantError::NotFloatType { tensor: tensor.name.to_owned(), found }),
        }
    }

    /// One row; `out` has the length of a row.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) -> Result<(), QuantError> {
        self.rows(row, out)
    }

    /// As many rows from `first_row` on as `out` has room for.
    pub(crate) fn rows(&self, first_row: usize, out: &mut [f32]) -> Result<(), QuantError> {
        let tensor_type = self.tensor.tensor_type;
        for_each_piece(self.tensor, first_row, out.len(), |first, bytes| {
            let (block_elements, block_bytes) = tensor_type.block();
            let elements = bytes.len() / block_bytes * block_elements;
            decode_row(tensor_type, bytes, &mut out[first..first + elements])
        })
    }
}

/// Whole blocks of a row → as many elements.
pub(super) type Decode = fn(&[u8], &mut [f32]);

/// How rows of F32, F16, BF16, `Q8_0` or `Q6_K` are decoded; `None` for the other types.
#[must_use]
pub(crate) fn decoder(tensor_type: TensorType) -> Option<Decode> {
    Some(match tensor_type {
        TensorType::F32 => {
            |bytes, out| each_block(bytes, out, |bytes, [out]| *out = f32::from_le_bytes(*bytes))
        }
        TensorType::BF16 => |bytes, out| {
            each_block(bytes, out, |bytes, [out]| {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            });
        },
        TensorType::F16 => f16s,
        TensorType::Q8_0 => |bytes, out| each_block(bytes, out, blocks::q8_0),
        TensorType::Q6_K => |bytes, out| each_block(bytes, out, blocks::q6_k),
        TensorType::TQ1_0 | TensorType::TQ2_0 | TensorType::I2_S => return None,
    })
}

/// Decodes whole blocks, for instance one row of a copy in memory.
pub(super) fn decode_row(tensor_type: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    let (block_elements, block_bytes) = tensor_type.block();
    let whole = out.len().is_multiple_of(block_elements) && bytes.len().is_multiple_of(block_bytes);
    if !whole || out.len() / block_elements != bytes.len() / block_bytes {
        return Err(QuantError::Length { tensor_type, bytes: bytes.len(), elements: out.len() });
    }
    decoder(tensor_type).ok_or(QuantError::NoFloats(tensor_type))?(bytes, out);
    Ok(())
}

fn each_block<const B: usize, const E: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; E]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

/// By many at once, since only then the CPU's own conversion is used.
fn f16s(bytes: &[u8], out: &mut [f32]) {
    const MANY: usize = 256;
    let mut bits = [0; MANY];
    for (bytes, out) in bytes.chunks(2 * MANY).zip(out.chunks_mut(MANY)) {
        for (bits, &bytes) in bits.iter_mut().zip(bytes.as_chunks().0) {
            *bits = u16::from_le_bytes(bytes);
        }
        let halves: &[f16] = bits[..out.len()].reinterpret_cast();
        halves.convert_to_f32_slice(out);
    }
}
