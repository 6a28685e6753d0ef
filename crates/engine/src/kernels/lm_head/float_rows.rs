//! Logits from float rows: products in one fixed order, wherever the rows are.

use std::ops::Range;

use half::f16;

use super::float_matrix::{FloatMatrix, Room, SEGMENT};
use crate::gguf::TensorType;
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd, sum_four};
use crate::kernels::rows::Rows;
use crate::pool::Pool;
use crate::quant::{QuantError, decode_row};

/// Tokens that a row is multiplied with at a time, so that a row in the file is not read for each.
const TOKENS_AT_ONCE: usize = 16;

/// `out[t][row] = matrix[row] · x[t]`; x: `[tokens, columns]`, out: `[tokens, rows]` without padding. An error when the matrix is
/// in a file that cannot be read.
///
/// # Panics
/// When the shapes differ.
pub fn logits(
    pool: &mut Pool,
    isa: Isa,
    matrix: &FloatMatrix,
    x: &Rows,
    out: &mut [f32],
) -> Result<(), QuantError> {
    assert_eq!((x.columns(), out.len()), (matrix.columns, x.rows() * matrix.rows), "shapes of the head");
    let out = Disjoint::new(out);
    pool.try_run_ranges(matrix.rows, |rows| isa.run(Logits { matrix, rows, x, out: &out }))
}

struct Logits<'a> {
    matrix: &'a FloatMatrix,
    rows: Range<usize>,
    x: &'a Rows,
    out: &'a Disjoint<'a, f32>,
}

impl Kernel for Logits<'_> {
    type Output = Result<(), QuantError>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Self { matrix, rows, x, out } = self;
        let mut room = Room::new();
        let mut products = [0.0; TOKENS_AT_ONCE];
        for first in (0..x.rows()).step_by(TOKENS_AT_ONCE) {
            let tokens = first..x.rows().min(first + TOKENS_AT_ONCE);
            for row in rows.clone() {
                let products = &mut products[..tokens.len()];
                if let [product] = products {
                    *product = row_product(simd, matrix, row, x.padded(first), &mut room)?;
                } else {
                    row_products(simd, matrix, row, x, tokens.clone(), products, &mut room)?;
                }
                for (&product, token) in products.iter().zip(tokens.clone()) {
                    let place = token * matrix.rows + row;
                    // SAFETY: each range of rows is the work of one piece.
                    #[expect(unsafe_code, reason = "rows are multiplied in parallel")]
                    let out = unsafe { out.part(place..place + 1) };
                    out[0] = product;
                }
            }
        }
        Ok(())
    }
}

/// The product of one row with the padded row `x`, in four sums of sixteen lanes: chunk `i` of sixteen elements is added to sum `i % 4`.
#[inline(always)]
pub(super) fn row_product<S: Simd>(
    simd: S,
    matrix: &FloatMatrix,
    row: usize,
    x: &[f32],
    room: &mut Room,
) -> Result<f32, QuantError> {
    let mut sums = [simd.splat(0.0); 4];
    let (mut start, mut column) = (0, 0);
    while start < matrix.row_bytes {
        let part = matrix.part_of_row(row, start, room)?;
        sums = add_products(simd, matrix, part, &x[column..], sums);
        (start, column) = matrix.after(start, part);
    }
    Ok(sum_four(simd, sums))
}

/// The same with several tokens.
#[inline(always)]
fn row_products<S: Simd>(
    simd: S,
    matrix: &FloatMatrix,
    row: usize,
    x: &Rows,
    tokens: Range<usize>,
    out: &mut [f32],
    room: &mut Room,
) -> Result<(), QuantError> {
    let mut sums = [[simd.splat(0.0); 4]; TOKENS_AT_ONCE];
    let (mut start, mut column) = (0, 0);
    while start < matrix.row_bytes {
        let part = matrix.part_of_row(row, start, room)?;
        for (token, sums) in tokens.clone().zip(&mut sums) {
            *sums = add_products(simd, matrix, part, &x.padded(token)[column..], *sums);
        }
        (start, column) = matrix.after(start, part);
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sum_four(simd, sums);
    }
    Ok(())
}

/// Adds the products of part of a row, which begins with a whole segment; `x` begins with the same column. Sums come and go by
/// value, so that they stay in registers.
#[inline(always)]
fn add_products<S: Simd>(
    simd: S,
    matrix: &FloatMatrix,
    part: &[u8],
    x: &[f32],
    mut sums: [S::Vector; 4],
) -> [S::Vector; 4] {
    let x = x.as_chunks::<LANES>().0;
    if let (TensorType::F16, Ok(row)) = (matrix.tensor_type, bytemuck::try_cast_slice::<u8, f16>(part)) {
        let (chunks, rest) = row.as_chunks::<LANES>();
        let (fours, chunks) = chunks.as_chunks::<4>();
        for (chunks, x) in fours.iter().zip(x.as_chunks::<4>().0) {
            for i in 0..4 {
                sums[i] = simd.mul_add(simd.load_f16(&chunks[i]), simd.load(&x[i]), sums[i]);
            }
        }
        let mut last = [f16::ZERO; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let after = &x[4 * fours.len()..];
        // With an index that is not constant, the sums would be in memory in the loop above as well.
        for i in 0..4 {
            if i < chunks.len() {
                sums[i] = simd.mul_add(simd.load_f16(&chunks[i]), simd.load(&after[i]), sums[i]);
            } else if i == chunks.len() && !rest.is_empty() {
                sums[i] = simd.mul_add(simd.load_f16(&last), simd.load(&after[i]), sums[i]);
            }
        }
        return sums;
    }
    let (block_elements, block_bytes) = matrix.tensor_type.block();
    for (bytes, x) in part.chunks(matrix.segment_bytes()).zip(x.chunks(SEGMENT / LANES)) {
        let mut decoded = [0.0; SEGMENT];
        let elements = bytes.len() / block_bytes * block_elements;
        // Cannot fail: type and lengths were checked. A row of NaN would show it if it did.
        if decode_row(matrix.tensor_type, bytes, &mut decoded[..elements]).is_err() {
            return [simd.splat(f32::NAN); 4];
        }
        for (chunks, x) in decoded.as_chunks::<LANES>().0.chunks(4).zip(x.chunks(4)) {
            for ((chunk, x), sum) in chunks.iter().zip(x).zip(&mut sums) {
                *sum = simd.mul_add(simd.load(chunk), simd.load(x), *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::checkpoint::tests::small_model;
    use crate::kernels::lm_head::tests::copies::{Noise, normal, pool, rows};

    const ROWS: usize = 37;

    /// A file with the matrix `w` of ordinary numbers.
    fn file(type_id: u32, columns: usize) -> Checkpoint {
        let noise = &mut Noise(21);
        let mut data = Vec::new();
        let count = ROWS * columns;
        match type_id {
            0 => normal(noise, count).iter().for_each(|x| data.extend(x.to_le_bytes())),
            1 => normal(noise, count).iter().for_each(|&x| data.extend(f16::from_f32(x).to_le_bytes())),
            _ => (0..count / 32).for_each(|_| {
                data.extend(f16::from_f32(0.01).to_le_bytes());
                data.extend((0..32).map(|_| (noise.next() * 127.0) as i8 as u8));
            }),
        }
        let file = small_model("bitnet").tensor("w", &[columns as u64, ROWS as u64], type_id, data);
        Checkpoint::from_bytes(file.bytes().into()).unwrap()
    }

    #[test]
    fn rows_in_the_file_have_the_logits_of_rows_in_memory_however_long_they_are() {
        for (type_id, columns) in [(0, 70), (0, 9_003), (1, 70), (1, 20_010), (8, 64), (8, 16_032)] {
            let checkpoint = file(type_id, columns);
            let tensor = checkpoint.tensor("w").unwrap();
            let in_memory = FloatMatrix::load(&mut pool(2), tensor).unwrap();
            let in_file = FloatMatrix::in_file(tensor).unwrap();
            assert!(in_file.as_bytes().is_empty() && in_memory.as_bytes().len() as u64 == tensor.bytes());
            let (mut a, mut b) = (vec![0.0; columns], vec![1.0; columns]);
            for row in 0..ROWS {
                in_memory.rows_from(row, &mut a).unwrap();
                in_file.rows_from(row, &mut b).unwrap();
                assert!(a == b, "type {type_id}, row {row}");
            }
            for tokens in [1, TOKENS_AT_ONCE, TOKENS_AT_ONCE + 1, TOKENS_AT_ONCE + 3] {
                let x = rows(columns, &normal(&mut Noise(22), tokens * columns));
                for isa in Isa::available() {
                    let [expected, found] = [(&in_memory, 1), (&in_file, 3)].map(|(matrix, threads)| {
                        let mut out = vec![f32::NAN; tokens * ROWS];
                        logits(&mut pool(threads), isa, matrix, &x, &mut out).unwrap();
                        out
                    });
                    assert!(expected.iter().all(|logit| logit.is_finite()));
                    assert!(found == expected, "type {type_id}, {columns} columns, {tokens} tokens, {isa}");
                }
            }
        }
    }
}
