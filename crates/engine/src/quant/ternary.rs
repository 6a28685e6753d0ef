//! Rows of a ternary matrix, whatever it is stored as.

use half::{bf16, f16};

use super::{QuantError, blocks, for_each_piece};
use crate::checkpoint::Tensor;
use crate::gguf::TensorType;

/// A matrix whose weights are −1, 0 or +1, times one scale.
///
/// The scale is found when the matrix is opened; that all weights agree with it is checked as they are unpacked.
#[derive(Debug, Clone, Copy)]
pub struct TernaryRows<'a> {
    pub(super) tensor: Tensor<'a>,
    scale: f32,
}

impl<'a> TernaryRows<'a> {
    /// Opens `I2_S`, `TQ1_0`, `TQ2_0`, or F16, BF16 and F32 whose values are 0 or plus or minus one magnitude.
    pub fn new(tensor: Tensor<'a>) -> Result<Self, QuantError> {
        let name = || tensor.name.to_owned();
        let tensor_type = tensor.tensor_type;
        let (block, _) = tensor_type.block();
        if !tensor.columns.is_multiple_of(block) {
            let columns = tensor.columns;
            return Err(QuantError::StraddlingBlocks { tensor: name(), tensor_type, columns, block });
        }
        let mut rows = Self { tensor, scale: 0.0 };
        rows.scale = match tensor_type {
            TensorType::I2_S => i2_s_scale(tensor)?,
            TensorType::TQ1_0 | TensorType::TQ2_0 | TensorType::F16 | TensorType::BF16 | TensorType::F32 => {
                first_scale(tensor)?
            }
            found => return Err(QuantError::NotTernaryType { tensor: name(), found }),
        };
        if rows.scale.is_finite() && rows.scale >= 0.0 {
            Ok(rows)
        } else {
            Err(QuantError::InvalidScale { tensor: name(), scale: rows.scale })
        }
    }

    /// What every weight is to be multiplied with.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Number of rows (outputs).
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tensor.rows
    }

    /// Length of a row (inputs).
    #[must_use]
    pub fn columns(&self) -> usize {
        self.tensor.columns
    }

    /// As many rows from `first_row` on as `out` has room for, as −1, 0 and +1.
    pub fn unpack(&self, first_row: usize, out: &mut [i8]) -> Result<(), QuantError> {
        match self.tensor.tensor_type {
            TensorType::I2_S => self.each_block(first_row, out, |block, out| Ok(blocks::i2_s(block, out)?)),
            TensorType::TQ1_0 => self.each_block(first_row, out, |block, out| {
                let scale = blocks::tq1_0(block, out);
                self.check_scale(scale, out)
            }),
            TensorType::TQ2_0 => self.each_block(first_row, out, |block, out| {
                let scale = blocks::tq2_0(block, out)?;
                self.check_scale(scale, out)
            }),
            TensorType::F16 => self.each_block(first_row, out, |&value, [out]| {
                self.digit(f16::from_le_bytes(value).to_f32(), out)
            }),
            TensorType::BF16 => self.each_block(first_row, out, |&value, [out]| {
                self.digit(bf16::from_le_bytes(value).to_f32(), out)
            }),
            TensorType::F32 => {
                self.each_block(first_row, out, |&value, [out]| self.digit(f32::from_le_bytes(value), out))
            }
            found => Err(QuantError::NotTernaryType { tensor: self.tensor.name.to_owned(), found }),
        }
    }

    fn each_block<const B: usize, const E: usize>(
        &self,
        first_row: usize,
        out: &mut [i8],
        decode: impl Fn(&[u8; B], &mut [i8; E]) -> Result<(), Fault>,
    ) -> Result<(), QuantError> {
        for_each_piece(self.tensor, first_row, out.len(), |first, bytes| {
            let out = out[first..].as_chunks_mut().0;
            for (index, (block, out)) in bytes.as_chunks().0.iter().zip(out).enumerate() {
                decode(block, out).map_err(|fault| {
                    let row = first_row + (first + index * E) / self.tensor.columns;
                    fault.at(self.tensor.name, row, self.scale)
                })?;
            }
            Ok(())
        })
    }

    /// A block without a scale is zero, and one that is zero may have any.
    #[expect(clippy::float_cmp, reason = "the same bits in every block")]
    fn check_scale(&self, scale: f32, digits: &mut [i8; 256]) -> Result<(), Fault> {
        if scale == 0.0 {
            digits.fill(0);
        } else if scale != self.scale && *digits != [0; 256] {
            return Err(Fault::Scale(scale));
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "all magnitudes are one stored number")]
    fn digit(&self, value: f32, out: &mut i8) -> Result<(), Fault> {
        *out = match value {
            0.0 => 0,
            _ if value == self.scale => 1,
            _ if value == -self.scale => -1,
            _ => return Err(Fault::Value(value)),
        };
        Ok(())
    }
}

/// What can be wrong with a block.
enum Fault {
    Code,
    Scale(f32),
    Value(f32),
}

impl Fault {
    fn at(self, tensor: &str, row: usize, scale: f32) -> QuantError {
        let tensor = tensor.to_owned();
        match self {
            Self::Code => QuantError::InvalidCode { tensor, row },
            Self::Scale(found) => QuantError::MixedScales { tensor, row, expected: scale, found },
            Self::Value(value) => QuantError::NotTernary { tensor, row, value, scale },
        }
    }
}

impl From<blocks::InvalidCode> for Fault {
    fn from(_: blocks::InvalidCode) -> Self {
        Self::Code
    }
}

/// After the codes of the whole tensor.
fn i2_s_scale(tensor: Tensor<'_>) -> Result<f32, QuantError> {
    let mut scale = [0; 4];
    tensor.read(tensor.bytes().saturating_sub(TensorType::I2_S_TAIL), &mut scale)?;
    Ok(f32::from_le_bytes(scale))
}

/// The scale of the first block that is not zero; zero if there is none.
fn first_scale(tensor: Tensor<'_>) -> Result<f32, QuantError> {
    let mut scale = 0.0;
    for row in 0..tensor.rows {
        for_each_piece(tensor, row, tensor.columns, |_, bytes| {
            if scale == 0.0 {
                scale = first_scale_in(tensor.tensor_type, bytes);
            }
            Ok(())
        })?;
        if scale != 0.0 {
            break;
        }
    }
    Ok(scale)
}

fn first_scale_in(tensor_type: TensorType, bytes: &[u8]) -> f32 {
    let unless_zero = |scale, digits: [i8; 256]| if digits == [0; 256] { 0.0 } else { scale };
    match tensor_type {
        TensorType::TQ1_0 => first_not_zero(bytes, |block| {
            let mut digits = [0; 256];
            unless_zero(blocks::tq1_0(block, &mut digits), digits)
        }),
        TensorType::TQ2_0 => first_not_zero(bytes, |block| {
            let mut digits = [0; 256];
            // An invalid code is reported when its row is unpacked.
            unless_zero(blocks::tq2_0(block, &mut digits).unwrap_or(0.0), digits)
        }),
        TensorType::F16 => first_not_zero(bytes, |&value| f16::from_le_bytes(value).to_f32().abs()),
        TensorType::BF16 => first_not_zero(bytes, |&value| bf16::from_le_bytes(value).to_f32().abs()),
        _ => first_not_zero(bytes, |&value| f32::from_le_bytes(value).abs()),
    }
}

fn first_not_zero<const B: usize>(bytes: &[u8], scale: impl Fn(&[u8; B]) -> f32) -> f32 {
    bytes.as_chunks().0.iter().map(scale).find(|&scale| scale != 0.0).unwrap_or(0.0)
}
