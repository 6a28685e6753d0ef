//! Stored weights → numbers: ternary matrices as −1, 0, +1 and one scale, everything else as floats.
//!
//! [`TernaryRows`] and [`FloatRows`] read whole rows from a [`crate::checkpoint::Tensor`], through a small buffer on
//! the stack, so that loading a model needs no second copy of it and several threads can unpack at once. The decoders
//! are written over fixed-size blocks without branches, which the compiler turns into vector code for the baseline
//! CPU; there are no intrinsics here, because disk and memory are slower than this.

mod blocks;
mod error;
mod floats;
mod ternary;

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is stored comes back exactly")]
mod tests;

pub(crate) use error::QuantError;
pub(crate) use floats::{FloatRows, decoder};
pub(crate) use ternary::TernaryRows;

use crate::checkpoint::Tensor;

/// Reads `elements` elements from row `first_row` on and gives them to `decode` in pieces of whole blocks: the element
/// that the piece begins with (counted from the first one asked for) and its bytes.
fn for_each_piece(
    tensor: Tensor<'_>,
    first_row: usize,
    elements: usize,
    mut decode: impl FnMut(usize, &[u8]) -> Result<(), QuantError>,
) -> Result<(), QuantError> {
    const BUFFER: usize = 16 * 1024;
    let (block_elements, block_bytes) = tensor.tensor_type.block();
    let in_range = elements.is_multiple_of(tensor.columns)
        && first_row.checked_add(elements / tensor.columns).is_some_and(|end| end <= tensor.rows);
    if !in_range || !tensor.columns.is_multiple_of(block_elements) {
        return Err(QuantError::OutOfRange { tensor: tensor.name.to_owned(), first_row, elements });
    }
    let first_block = first_row * (tensor.columns / block_elements);
    let blocks = elements / block_elements;
    let mut buffer = [0; BUFFER];
    let most_blocks = BUFFER / block_bytes;
    for block in (0..blocks).step_by(most_blocks) {
        let bytes = &mut buffer[..most_blocks.min(blocks - block) * block_bytes];
        tensor.read(((first_block + block) * block_bytes) as u64, bytes)?;
        decode(block * block_elements, bytes)?;
    }
    Ok(())
}
