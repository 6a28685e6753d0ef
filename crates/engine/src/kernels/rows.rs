//! A small matrix of f32 with padded rows: what flows between the kernels.

use crate::memory::{Buffer, OutOfMemory};

/// Rows are padded to this many elements: the height of a weight tile, and a multiple of the lanes.
pub(super) const PADDING: usize = 32;

/// `[rows, columns]` of f32. The padding at the end of each row is zero, so that kernels need no special case for it.
#[derive(Debug)]
pub(crate) struct Rows {
    /// On huge pages: the outputs of a product lie on as many pages as there are rows.
    data: Buffer<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
}

impl Rows {
    /// Room for `capacity` rows, none in use.
    pub(crate) fn with_capacity(capacity: usize, columns: usize) -> Result<Self, OutOfMemory> {
        let stride = columns.next_multiple_of(PADDING);
        Ok(Self { data: Buffer::zeroed(capacity * stride)?, rows: 0, columns, stride })
    }

    /// Sets the number of rows in use. Their contents are unspecified, but padding stays zero.
    ///
    /// # Panics
    /// When there is no room for them.
    pub(crate) fn set_rows(&mut self, rows: usize) {
        assert!(rows * self.stride <= self.data.len(), "room for {} rows", self.data.len() / self.stride);
        self.rows = rows;
    }

    /// Rows in use.
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row, without padding.
    #[must_use]
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Elements from one row to the next.
    #[must_use]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// One row without padding.
    #[must_use]
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.padded(row)[..self.columns]
    }

    /// One row without padding.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let start = row * self.stride;
        &mut self.data[start..start + self.columns]
    }

    /// One row with its padding.
    #[must_use]
    pub(crate) fn padded(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..(row + 1) * self.stride]
    }

    /// All rows in use with their padding.
    pub(super) fn padded_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.stride]
    }
}
