//! Rows of a ternary matrix, whatever it is stored as.

use super::blocks::{self, InvalidCode};
use super::{FloatRows, QuantError, for_each_piece};
use crate::checkpoint::Tensor;
use crate::gguf::TensorType;

/// A matrix whose weights are −1, 0 or +1, times one scale.
///
/// The scale is found when the matrix is opened; that all weights agree with it is checked as they are unpacked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TernaryRows<'a> {
    tensor: Tensor<'a>,
    scale: f32,
}

impl<'a> TernaryRows<'a> {
    /// Opens `I2_S`, `TQ1_0`, `TQ2_0`, or F16, BF16 and F32 whose values are 0 or plus or minus one magnitude.
    pub(crate) fn new(tensor: Tensor<'a>) -> Result<Self, QuantError> {
        let name = || tensor.name.to_owned();
        let tensor_type = tensor.tensor_type;
        let (block, _) = tensor_type.block();
        if !tensor.columns.is_multiple_of(block) {
            let columns = tensor.columns;
            return Err(QuantError::StraddlingBlocks { tensor: name(), tensor_type, columns, block });
        }
        let scale = match tensor_type {
            TensorType::I2_S => i2_s_scale(tensor)?,
            TensorType::TQ1_0 => first_block_scale(tensor, blocks::tq1_0)?,
            TensorType::TQ2_0 => first_block_scale(tensor, |block, digits| {
                // An invalid code is reported when its row is unpacked.
                blocks::tq2_0(block, digits).unwrap_or(0.0)
            })?,
            TensorType::F16 | TensorType::BF16 | TensorType::F32 => first_magnitude(tensor)?,
            found => return Err(QuantError::NotTernaryType { tensor: name(), found }),
        };
        if scale.is_finite() && scale >= 0.0 {
            Ok(Self { tensor, scale })
        } else {
            Err(QuantError::InvalidScale { tensor: name(), scale })
        }
    }

    /// What every weight is to be multiplied with; 0 if all of them are 0.
    #[must_use]
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Number of rows (outputs).
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.tensor.rows
    }

    /// As many rows from `first_row` on as `out` has room for, as −1, 0 and +1.
    pub(crate) fn unpack(&self, first_row: usize, out: &mut [i8]) -> Result<(), QuantError> {
        match self.tensor.tensor_type {
            TensorType::I2_S => self.unpack_blocks(first_row, out, |block, digits| {
                blocks::i2_s(block, digits).map_err(|InvalidCode| Fault::Code)
            }),
            TensorType::TQ1_0 => self.unpack_blocks(first_row, out, |block, digits| {
                self.check_scale(blocks::tq1_0(block, digits), digits)
            }),
            TensorType::TQ2_0 => self.unpack_blocks(first_row, out, |block, digits| {
                let scale = blocks::tq2_0(block, digits).map_err(|InvalidCode| Fault::Code)?;
                self.check_scale(scale, digits)
            }),
            _ => self.unpack_floats(first_row, out),
        }
    }

    fn unpack_blocks<const B: usize, const E: usize>(
        &self,
        first_row: usize,
        out: &mut [i8],
        decode: impl Fn(&[u8; B], &mut [i8; E]) -> Result<(), Fault>,
    ) -> Result<(), QuantError> {
        for_each_piece(self.tensor, first_row, out.len(), |first, bytes| {
            let out = out[first..].as_chunks_mut().0;
            for (index, (block, digits)) in bytes.as_chunks().0.iter().zip(out).enumerate() {
                decode(block, digits).map_err(|fault| {
                    let tensor = self.tensor.name.to_owned();
                    let row = first_row + (first + index * E) / self.tensor.columns;
                    match fault {
                        Fault::Code => QuantError::InvalidCode { tensor, row },
                        Fault::Scale(found) => {
                            QuantError::MixedScales { tensor, row, expected: self.scale, found }
                        }
                    }
                })?;
            }
            Ok(())
        })
    }

    /// A block whose scale is 0 is zero, and a block of zeros may have any scale.
    #[expect(clippy::float_cmp, reason = "the same bits in every block")]
    fn check_scale(&self, scale: f32, digits: &mut [i8; 256]) -> Result<(), Fault> {
        if scale == 0.0 {
            digits.fill(0);
        } else if scale != self.scale && *digits != [0; 256] {
            return Err(Fault::Scale(scale));
        }
        Ok(())
    }

    fn unpack_floats(&self, first_row: usize, out: &mut [i8]) -> Result<(), QuantError> {
        let floats = FloatRows::new(self.tensor)?;
        let mut values = vec![0.0; self.tensor.columns];
        for (index, out) in out.chunks_mut(self.tensor.columns).enumerate() {
            let values = &mut values[..out.len()];
            let row = first_row.saturating_add(index);
            floats.row(row, values)?;
            if let Some(value) = digits_of(values, self.scale, out) {
                let tensor = self.tensor.name.to_owned();
                return Err(QuantError::NotTernary { tensor, row, value, scale: self.scale });
            }
        }
        Ok(())
    }
}

/// What can be wrong with a block.
enum Fault {
    Code,
    Scale(f32),
}

/// The signs of values that are 0 or plus or minus `scale`; returns the first value that is none of these.
#[expect(clippy::float_cmp, reason = "all magnitudes are one stored number")]
fn digits_of(values: &[f32], scale: f32, out: &mut [i8]) -> Option<f32> {
    let is_ternary = |value: f32| value.abs() == scale || value == 0.0;
    let mut all_ternary = true;
    for (out, &value) in out.iter_mut().zip(values) {
        *out = i8::from(value == scale) - i8::from(value == -scale);
        all_ternary &= is_ternary(value);
    }
    if all_ternary { None } else { values.iter().copied().find(|&value| !is_ternary(value)) }
}

/// After the codes of the whole tensor.
fn i2_s_scale(tensor: Tensor<'_>) -> Result<f32, QuantError> {
    let mut scale = [0; 4];
    tensor.read(tensor.bytes().saturating_sub(TensorType::I2_S_TAIL), &mut scale)?;
    Ok(f32::from_le_bytes(scale))
}

/// The scale of the first block that is not zero; 0 if there is none.
fn first_block_scale<const B: usize>(
    tensor: Tensor<'_>,
    decode: impl Fn(&[u8; B], &mut [i8; 256]) -> f32,
) -> Result<f32, QuantError> {
    let mut found = 0.0;
    let mut digits = [0; 256];
    for row in 0..tensor.rows {
        for_each_piece(tensor, row, tensor.columns, |_, bytes| {
            for block in bytes.as_chunks().0 {
                let scale = decode(block, &mut digits);
                if found == 0.0 && digits != [0; 256] {
                    found = scale;
                }
            }
            Ok(())
        })?;
        if found != 0.0 {
            break;
        }
    }
    Ok(found)
}

/// The magnitude of the first value that is not zero; 0 if there is none.
fn first_magnitude(tensor: Tensor<'_>) -> Result<f32, QuantError> {
    let floats = FloatRows::new(tensor)?;
    let mut values = vec![0.0; tensor.columns];
    for row in 0..tensor.rows {
        floats.row(row, &mut values)?;
        if let Some(value) = values.iter().find(|value| **value != 0.0) {
            return Ok(value.abs());
        }
    }
    Ok(0.0)
}
