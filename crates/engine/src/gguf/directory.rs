//! The tensor directory: names, shapes and the bytes of the file that each tensor occupies.

use std::collections::HashMap;

use super::reader::Reader;
use super::tensor_type::ggml_name;
use super::{GgufError, Place, Problem, TensorType};

/// ggml's limit on a tensor's name.
const NAME_LIMIT: u64 = 64;
/// ggml's limit on dimensions.
const DIMENSION_LIMIT: u32 = 4;

/// One tensor of a file; its data is known to lie within the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in the file.
    pub name: String,
    /// Columns first, as GGUF has it; empty for a single number.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub tensor_type: TensorType,
    /// Where the data begins, counted from the beginning of the file.
    pub offset: u64,
    /// Size of the data.
    pub bytes: u64,
}

impl TensorInfo {
    /// Length of a row.
    #[must_use]
    pub fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Number of rows; all dimensions but the first are one.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }
}

pub(super) struct Directory {
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) by_name: HashMap<String, usize>,
}

impl Directory {
    pub(super) fn read(reader: &mut Reader<'_>, count: u64, alignment: u64) -> Result<Self, GgufError> {
        // A name's length, a number of dimensions, a type and an offset.
        reader.check_count(count, 8 + 4 + 4 + 8).map_err(|problem| problem.at(Place::Header))?;
        let mut tensors = Vec::new();
        let mut by_name = HashMap::new();
        for index in 0..count {
            let name = reader.string(NAME_LIMIT).map_err(|problem| problem.at(Place::TensorNumber(index)))?;
            match read_tensor(reader, &name, alignment) {
                Ok(_) if by_name.insert(name.clone(), tensors.len()).is_some() => {
                    return Err(Problem::Duplicate.at(Place::Tensor(name)));
                }
                Ok(tensor) => tensors.push(tensor),
                Err(problem) => return Err(problem.at(Place::Tensor(name))),
            }
        }
        place(&mut tensors, reader.position(), alignment, reader.file_bytes())?;
        check_overlap(&tensors)?;
        Ok(Self { tensors, by_name })
    }
}

/// One entry; its `offset` still counts from the beginning of the data.
fn read_tensor(reader: &mut Reader<'_>, name: &str, alignment: u64) -> Result<TensorInfo, Problem> {
    let dimensions = reader.u32()?;
    if dimensions > DIMENSION_LIMIT {
        return Err(Problem::TooManyDimensions { count: dimensions, limit: DIMENSION_LIMIT });
    }
    let shape = (0..dimensions).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
    let id = reader.u32()?;
    let offset = reader.u64()?;
    let tensor_type =
        TensorType::from_id(id).ok_or(Problem::UnsupportedTensorType { id, name: ggml_name(id) })?;
    let bytes = byte_size(&shape, tensor_type)?;
    if !offset.is_multiple_of(alignment) {
        return Err(Problem::Misaligned { offset, alignment });
    }
    Ok(TensorInfo { name: name.to_owned(), shape, tensor_type, offset, bytes })
}

fn byte_size(shape: &[u64], tensor_type: TensorType) -> Result<u64, Problem> {
    if shape.contains(&0) {
        return Err(Problem::ZeroDimension(shape.to_vec()));
    }
    let too_large = || Problem::TooLarge(shape.to_vec());
    let elements =
        shape.iter().try_fold(1, |product: u64, &next| product.checked_mul(next)).ok_or_else(too_large)?;
    let columns = shape.first().copied().unwrap_or(1);
    let block = match tensor_type {
        // Blocks may straddle rows as far as the file is concerned; who decodes them decides whether that is possible.
        TensorType::I2_S => 4,
        _ => tensor_type.block().0 as u64,
    };
    if !columns.is_multiple_of(block) {
        return Err(Problem::PartialBlock { tensor_type, columns, block });
    }
    tensor_type.byte_size(elements).ok_or_else(too_large)
}

/// Makes offsets absolute and checks that the data is inside the file.
fn place(
    tensors: &mut [TensorInfo],
    directory_end: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<(), GgufError> {
    let data_start = directory_end.checked_next_multiple_of(alignment);
    for tensor in tensors {
        let begin = data_start.and_then(|start| start.checked_add(tensor.offset));
        let end = begin.and_then(|begin| begin.checked_add(tensor.bytes));
        match (begin, end) {
            (Some(begin), Some(end)) if end <= file_bytes => tensor.offset = begin,
            _ => {
                let (offset, bytes) = (tensor.offset, tensor.bytes);
                return Err(
                    Problem::DataPastEnd { offset, bytes, file_bytes }.at(Place::Tensor(tensor.name.clone()))
                );
            }
        }
    }
    Ok(())
}

/// No writer shares bytes between tensors, so a file that does was made to confuse.
fn check_overlap(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut by_offset: Vec<_> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        if let [first, second] = pair
            && first.offset + first.bytes > second.offset
        {
            return Err(Problem::Overlap(first.name.clone()).at(Place::Tensor(second.name.clone())));
        }
    }
    Ok(())
}
