//! The output of the model: a product with a row for each token of the vocabulary, the largest single read of decoding.
//!
//! Three forms of its rows can be multiplied: floats as the file has them, and copies in 8 or 4 bits. [`Select`] finds the greatest
//! logits by a copy, without reading all of the floats.

mod bounds;
mod codes;
mod copies;
mod float_rows;
mod products;
mod round;
mod search;
mod select;
mod wide;

pub(super) use codes::{CODE_RUN, CodeSums, CodeTile, WideQuad, tile_quads};
pub(crate) use copies::{Int4Matrix, Int8Matrix};
pub(crate) use float_rows::{EncodedRows, Encoding, RowOf, candidate_logits, logits};
pub(crate) use products::int8_logits;
pub(crate) use select::{Request, Select, Unknown};
pub(super) use wide::WIDE_ROWS;
pub(crate) use wide::Wide;

/// What bounds are computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ShortCopy<'a> {
    /// The bounds are proven.
    Int8(&'a Int8Matrix),
    /// The bounds are likely.
    Int4(&'a Int4Matrix),
}

impl ShortCopy<'_> {
    fn rows(self) -> usize {
        match self {
            Self::Int8(copy) => copy.rows,
            Self::Int4(copy) => copy.rows,
        }
    }
}

#[cfg(test)]
mod tests;
