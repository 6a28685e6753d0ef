//! Matrix products: views with strides over slices, so that a transpose or the columns of one head are no copy.

use gemm::Parallelism;

/// A view of `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// All of `values`, row by row.
    #[must_use]
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        Self::strided(values, values.len() / columns, columns, columns)
    }

    /// Rows that begin every `stride` elements.
    #[must_use]
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(values, rows, columns, stride);
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// Rows as columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// A view of `[rows, columns]` to write to.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// All of `values`, row by row.
    #[must_use]
    pub fn new(values: &'a mut [f32], columns: usize) -> Self {
        let rows = values.len() / columns;
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that begin every `stride` elements.
    #[must_use]
    pub fn strided(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(values, rows, columns, stride);
        Self { values, rows, columns, stride }
    }

    /// `self = scale · a · b`
    pub fn set(mut self, scale: f32, a: Matrix, b: Matrix) {
        multiply(&mut self, false, scale, a, b);
    }

    /// `self += scale · a · b`
    pub fn add(mut self, scale: f32, a: Matrix, b: Matrix) {
        multiply(&mut self, true, scale, a, b);
    }
}

fn check(values: &[f32], rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows overlap");
    assert!(
        rows == 0 || (rows - 1) * stride + columns <= values.len(),
        "{rows} rows of {columns} do not fit"
    );
}

/// `out = scale · a · b`, or the same added to `out`.
fn multiply(out: &mut MatrixMut, add: bool, scale: f32, a: Matrix, b: Matrix) {
    assert_eq!((a.rows, a.columns, b.columns), (out.rows, b.rows, out.columns), "shapes of a product");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    // SAFETY: `check` has compared each view's rows, columns and strides with the slice that it borrows, a transpose touches the
    // same elements, and the borrows keep `out` apart from the others.
    #[expect(unsafe_code, reason = "the crate for matrix products takes pointers")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.values.as_mut_ptr(),
            1,
            out.stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_products_are_sums_of_products() {
        let values = |length: usize| (0..length).map(|i| (i * 7 % 11) as f32 - 5.0).collect::<Vec<_>>();
        let (rows, inner, columns) = (5, 9, 6);
        let (a, b) = (values(rows * 12), values(columns * inner));
        let mut out = vec![1.0; rows * 8];
        MatrixMut::strided(&mut out, rows, columns, 8).add(
            0.5,
            Matrix::strided(&a, rows, inner, 12),
            Matrix::new(&b, inner).transposed(),
        );
        for row in 0..rows {
            for column in 0..8 {
                let dot: f32 = (0..inner)
                    .map(|i| if column < columns { a[row * 12 + i] * b[column * inner + i] } else { 0.0 })
                    .sum();
                assert_eq!(out[row * 8 + column], 1.0 + 0.5 * dot, "{row} {column}");
            }
        }
    }
}
