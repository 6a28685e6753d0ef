//! Why stored weights cannot be decoded.

use crate::checkpoint::CheckpointError;
use crate::gguf::TensorType;

/// Why stored weights cannot be decoded; every variant names the tensor.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "tensor {tensor:?}: type {found} cannot hold a ternary matrix; I2_S, TQ1_0, TQ2_0, F16, BF16 and F32 can"
    )]
    NotTernaryType { tensor: String, found: TensorType },
    #[error("tensor {tensor:?}: has type {found}, where F32, F16, BF16, Q8_0 or Q6_K is needed")]
    NotFloatType { tensor: String, found: TensorType },
    #[error(
        "tensor {tensor:?}: rows of {columns} weights are not whole {tensor_type} blocks of {block}; \
         such models must be stored as another type"
    )]
    StraddlingBlocks { tensor: String, tensor_type: TensorType, columns: usize, block: usize },
    #[error("tensor {tensor:?}: the scale {scale} is not a positive number")]
    InvalidScale { tensor: String, scale: f32 },
    #[error("tensor {tensor:?}: row {row} holds a code that is neither −1, 0 nor +1")]
    InvalidCode { tensor: String, row: usize },
    #[error(
        "tensor {tensor:?}: row {row} has scale {found}, but the rows before have {expected}; one scale per tensor is supported"
    )]
    MixedScales { tensor: String, row: usize, expected: f32, found: f32 },
    #[error(
        "tensor {tensor:?}: row {row} has the value {value}, which is neither 0 nor ±{scale}, so this is not a ternary matrix"
    )]
    NotTernary { tensor: String, row: usize, value: f32, scale: f32 },
    #[error("tensor {tensor:?}: {elements} elements from row {first_row} on are not whole rows inside of it")]
    OutOfRange { tensor: String, first_row: usize, elements: usize },
    #[error("rows of type {0} cannot be decoded as floats")]
    NoFloats(TensorType),
    #[error("{bytes} bytes are not the {tensor_type} form of {elements} elements")]
    Length { tensor_type: TensorType, bytes: usize, elements: usize },
}
