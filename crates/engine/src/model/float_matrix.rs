//! A matrix of floats in the file's encoding: the token embedding or `lm_head`.
//!
//! Its rows are either in memory or left in the file, from which those that are needed are read: into memory that was reserved for it, so
//! that nothing is allocated. Bytes in the file may change or vanish while the engine runs; what is read is treated like any
//! numbers, and what cannot be read is an error.

use super::weights::LoadError;
use crate::checkpoint::{StoredTensor, Tensor};
use crate::gguf::TensorType;
use crate::kernels::{
    EncodedRows, Encoding, Isa, RowOf, Rows, Unknown, candidate_logits, fill_in_parallel, logits,
};
use crate::memory::{Buffer, OutOfMemory};
use crate::pool::Pool;
use crate::quant::{FloatRows, QuantError, decoder};

/// Bytes of rows that are read from the file at a time; at least one row is.
const BYTES_AT_ONCE: usize = 4 << 20;

/// `[rows, columns]` of F16, F32, BF16, `Q8_0` or `Q6_K`.
#[derive(Debug)]
pub(super) struct FloatMatrix {
    storage: Storage,
    encoding: Encoding,
    rows: usize,
    columns: usize,
    row_bytes: usize,
}

#[derive(Debug)]
enum Storage {
    Memory(Buffer<u8>),
    File(StoredTensor),
}

impl FloatMatrix {
    /// Copies a tensor into memory.
    pub(super) fn load(pool: &mut Pool, tensor: Tensor<'_>) -> Result<Self, LoadError> {
        let mut matrix = Self::in_file(tensor)?;
        let mut bytes = Buffer::zeroed(matrix.rows * matrix.row_bytes)?;
        read_rows(pool, tensor, matrix.row_bytes, &mut bytes, |row| row)?;
        matrix.storage = Storage::Memory(bytes);
        Ok(matrix)
    }

    /// Leaves a tensor where it is; the file stays open.
    pub(super) fn in_file(tensor: Tensor<'_>) -> Result<Self, QuantError> {
        FloatRows::new(tensor)?;
        let Tensor { rows, columns, tensor_type, .. } = tensor;
        let (elements, bytes) = tensor_type.block();
        if !columns.is_multiple_of(elements) {
            let bytes = columns / elements * bytes;
            return Err(QuantError::Length { tensor_type, bytes, elements: columns });
        }
        let encoding = match (tensor_type, decoder(tensor_type)) {
            (TensorType::F16, _) => Encoding::F16,
            (_, Some(decode)) => Encoding::Blocks { elements, bytes, decode },
            (_, None) => return Err(QuantError::NoFloats(tensor_type)),
        };
        let row_bytes = encoding.row_bytes(columns);
        Ok(Self { storage: Storage::File(tensor.keep()), encoding, rows, columns, row_bytes })
    }

    /// The bytes that are in memory, for measuring how fast they can be read: all or none.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Memory(bytes) => bytes,
            Storage::File(_) => &[],
        }
    }

    /// As many rows from `first` on as `out` has room for, as f32.
    pub(super) fn read(&self, first: usize, out: &mut [f32]) -> Result<(), QuantError> {
        match (&self.storage, self.encoding) {
            (Storage::File(stored), _) => FloatRows::new(stored.tensor())?.rows(first, out),
            (Storage::Memory(bytes), encoding) => {
                let start = first * self.row_bytes;
                let rows = &bytes[start..start + out.len() / self.columns * self.row_bytes];
                encoding.decode(rows, out);
                Ok(())
            }
        }
    }

    /// Memory for the rows that products read from the file; none when they are in memory.
    pub(super) fn room(&self) -> Result<Buffer<u8>, OutOfMemory> {
        match &self.storage {
            Storage::Memory(_) => Buffer::zeroed(0),
            Storage::File(_) => Buffer::zeroed(self.rows_at_once() * self.row_bytes),
        }
    }

    /// The logits of the rows `tokens` of `x`, which is `[tokens, columns]`; out: as many rows of logits.
    pub(super) fn logits(
        &self,
        pool: &mut Pool,
        isa: Isa,
        (x, tokens): (&Rows, &[usize]),
        room: &mut [u8],
        out: &mut [f32],
    ) -> Result<(), QuantError> {
        match &self.storage {
            Storage::Memory(bytes) => logits(pool, isa, self.view(bytes), (x, tokens), 0, out),
            Storage::File(stored) => {
                for first in (0..self.rows).step_by(self.rows_at_once()) {
                    let count = self.rows_at_once().min(self.rows - first);
                    let bytes = &mut room[..count * self.row_bytes];
                    read_rows(pool, stored.tensor(), self.row_bytes, bytes, |row| first + row)?;
                    logits(pool, isa, self.view(bytes), (x, tokens), first, out);
                }
            }
        }
        Ok(())
    }

    /// Computes the logits of candidates, which are sorted by id, of any rows of `x`.
    pub(super) fn candidate_logits(
        &self,
        pool: &mut Pool,
        isa: Isa,
        x: &Rows,
        room: &mut [u8],
        candidates: &mut [Unknown],
    ) -> Result<(), QuantError> {
        match &self.storage {
            Storage::Memory(bytes) => {
                candidate_logits(pool, isa, self.view(bytes), RowOf::Id, x, candidates);
            }
            Storage::File(stored) => {
                for candidates in candidates.chunks_mut(self.rows_at_once()) {
                    let bytes = &mut room[..candidates.len() * self.row_bytes];
                    let id = |place: usize| candidates[place].id as usize;
                    read_rows(pool, stored.tensor(), self.row_bytes, bytes, id)?;
                    candidate_logits(pool, isa, self.view(bytes), RowOf::Place, x, candidates);
                }
            }
        }
        Ok(())
    }

    fn view<'a>(&self, bytes: &'a [u8]) -> EncodedRows<'a> {
        EncodedRows::new(bytes, self.columns, self.encoding)
    }

    fn rows_at_once(&self) -> usize {
        (BYTES_AT_ONCE / self.row_bytes).clamp(1, self.rows)
    }
}

/// Fills `out` with rows of a tensor on all threads; `row` says which belongs to each place.
fn read_rows(
    pool: &mut Pool,
    tensor: Tensor<'_>,
    row_bytes: usize,
    out: &mut [u8],
    row: impl Fn(usize) -> usize + Sync,
) -> Result<(), QuantError> {
    fill_in_parallel(pool, out, row_bytes, |first, rows| {
        let mut place = 0;
        let count = rows.len() / row_bytes;
        while place < count {
            let start = row(first + place);
            // Neighbours are read at once.
            let follow = (place + 1..count).take_while(|&next| row(first + next) == start + next - place);
            let end = place + 1 + follow.count();
            let offset = start as u64 * row_bytes as u64;
            tensor.read(offset, &mut rows[place * row_bytes..end * row_bytes])?;
            place = end;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use half::f16;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::checkpoint::tests::small_model;

    const ROWS: usize = 37;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    /// In -1..1.
    fn noise(seed: usize) -> f32 {
        ((seed.wrapping_mul(2_654_435_761) >> 7) % 2_001) as f32 / 1_000.0 - 1.0
    }

    /// A file with the matrix `w` of ordinary numbers.
    fn file(type_id: u32, columns: usize) -> Checkpoint {
        let count = ROWS * columns;
        let mut data = Vec::new();
        match type_id {
            0 => (0..count).for_each(|i| data.extend(noise(i).to_le_bytes())),
            1 => (0..count).for_each(|i| data.extend(f16::from_f32(noise(i)).to_le_bytes())),
            _ => (0..count / 32).for_each(|block| {
                data.extend(f16::from_f32(0.01).to_le_bytes());
                data.extend((0..32).map(|i| (noise(32 * block + i) * 127.0) as i8 as u8));
            }),
        }
        let file = small_model("bitnet").tensor("w", &[columns as u64, ROWS as u64], type_id, data);
        Checkpoint::from_bytes(file.bytes().into()).unwrap()
    }

    fn states(tokens: usize, columns: usize) -> Rows {
        let mut x = Rows::with_capacity(tokens, columns).unwrap();
        x.set_rows(tokens);
        for token in 0..tokens {
            let row = x.row_mut(token);
            (0..columns).for_each(|i| row[i] = noise(token * columns + i + 99));
        }
        x
    }

    #[test]
    fn rows_in_the_file_have_the_logits_of_rows_in_memory_however_long_they_are() {
        // The longest rows are so long that the room has a part of them at a time.
        for (type_id, columns) in
            [(0, 70), (0, 9_003), (1, 70), (1, 20_010), (8, 64), (8, 16_032), (0, 130_000)]
        {
            let checkpoint = file(type_id, columns);
            let tensor = checkpoint.tensor("w").unwrap();
            let in_memory = FloatMatrix::load(&mut pool(2), tensor).unwrap();
            let in_file = FloatMatrix::in_file(tensor).unwrap();
            assert!(in_file.as_bytes().is_empty() && in_memory.as_bytes().len() as u64 == tensor.bytes());
            let mut room = in_file.room().unwrap();
            let (mut a, mut b) = (vec![0.0; columns], vec![1.0; columns]);
            for row in 0..ROWS {
                in_memory.read(row, &mut a).unwrap();
                in_file.read(row, &mut b).unwrap();
                assert!(a == b, "type {type_id}, row {row}");
            }
            let most = if columns > 100_000 { 2 } else { 19 };
            let x = states(most, columns);
            for tokens in [0..1, 0..most, 1..most, 0..16.min(most)] {
                let tokens: Vec<usize> = tokens.collect();
                for isa in Isa::available() {
                    let [expected, found] = [(&in_memory, 1), (&in_file, 3)].map(|(matrix, threads)| {
                        let mut out = vec![f32::NAN; tokens.len() * ROWS];
                        let x = (&x, &tokens[..]);
                        matrix.logits(&mut pool(threads), isa, x, &mut room, &mut out).unwrap();
                        out
                    });
                    assert!(expected.iter().all(|logit| logit.is_finite()));
                    assert!(found == expected, "type {type_id}, {columns} columns, {tokens:?}, {isa}");

                    let ids = [0, 1, 2, 5, 9, 10, 36];
                    for (matrix, threads) in [(&in_memory, 1), (&in_file, 3)] {
                        let candidates = ids.iter().flat_map(|&id| {
                            tokens.iter().enumerate().map(move |(at, &token)| (Unknown::new(id, token), at))
                        });
                        let (mut candidates, at): (Vec<_>, Vec<_>) = candidates.unzip();
                        matrix
                            .candidate_logits(&mut pool(threads), isa, &x, &mut room, &mut candidates)
                            .unwrap();
                        for (candidate, at) in candidates.iter().zip(at) {
                            let expected = expected[at * ROWS + candidate.id as usize];
                            assert!(candidate.logit == expected, "{columns} columns, {isa}");
                        }
                    }
                }
            }
        }
    }
}
