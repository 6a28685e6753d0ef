//! From the last states of a forward pass to logits: some, found by a search, or all, for a few rows at a time.

use super::forward::Inference;
use super::profile::Stage;
use super::run::ForwardError;
use crate::kernels::Request;
use crate::logits::{Demand, Logits};
use crate::memory::OutOfMemory;

/// Bytes of the logits that are kept at a time; at least one row of them is.
const BYTES: usize = 16 << 20;

/// All logits of some consecutive rows of states. The rows of `lm_head` are read once for all of them, so there should be many; but a
/// vocabulary of logits for each token of a long prompt would be half a gigabyte.
#[derive(Debug)]
pub(super) struct Block {
    /// Of logits, at most; but at least one row.
    pub(super) limit: usize,
    /// Whose logits they are; none when empty.
    first: usize,
    rows: usize,
    pub(super) values: Vec<f32>,
}

impl Default for Block {
    fn default() -> Self {
        Self { limit: BYTES, first: 0, rows: 0, values: Vec::new() }
    }
}

impl Block {
    pub(super) fn forget(&mut self) {
        self.rows = 0;
    }

    /// The logits of a row of states, if they are there.
    fn row(&self, row: usize, vocab_size: usize) -> Option<&[f32]> {
        let at = row.checked_sub(self.first).filter(|&at| at < self.rows)?;
        Some(&self.values[at * vocab_size..(at + 1) * vocab_size])
    }

    /// The rows, of so many, that are computed together with one of them.
    fn around(&self, row: usize, rows: usize, vocab_size: usize) -> std::ops::Range<usize> {
        let together = (self.limit / (vocab_size * size_of::<f32>())).max(1);
        let first = row / together * together;
        first..rows.min(first + together)
    }

    /// Room for the logits of so many rows.
    fn room(&mut self, rows: usize, vocab_size: usize) -> Result<&mut [f32], OutOfMemory> {
        let count = rows * vocab_size;
        if self.values.len() < count {
            let more = count - self.values.len();
            let refused = OutOfMemory { bytes: count * size_of::<f32>() };
            self.values.try_reserve_exact(more).map_err(|_| refused)?;
            self.values.resize(count, 0.0);
        }
        Ok(&mut self.values[..count])
    }
}

impl Inference {
    /// The logits `[vocabulary]` of the `index`-th row of the last forward pass that asked for them. They are computed together
    /// with those of rows beside it, so it is best to ask for one after the other.
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub fn logits(&mut self, index: usize) -> Result<&[f32], ForwardError> {
        assert!(index < self.last.rows(), "logits of row {index} of {}", self.last.rows());
        let vocab_size = self.model.hyperparameters.vocab_size;
        if self.block.row(index, vocab_size).is_none() {
            self.profile.start();
            self.block.forget();
            let rows = self.block.around(index, self.last.rows(), vocab_size);
            let out = self.block.room(rows.len(), vocab_size)?;
            let x = (&self.last, rows.clone());
            let computed = self.model.lm_head.logits(&mut self.pool, self.isa, x, &mut self.scratch, out);
            self.profile.end(Stage::LmHead);
            computed.map_err(|error| ForwardError::lm_head(&error))?;
            (self.block.first, self.block.rows) = (rows.start, rows.len());
        }
        Ok(self.block.row(index, vocab_size).unwrap_or_default())
    }

    /// Those logits of the `index`-th row that `demand` asks for, if they can be found without computing all; tokens in `touched` are
    /// about to be changed by penalties and biases, and among them in any case.
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub fn select(
        &mut self,
        index: usize,
        demand: Option<Demand>,
        touched: impl Iterator<Item = u32>,
    ) -> Result<Logits<'_>, ForwardError> {
        if let Some(demand) = demand {
            self.profile.start();
            let requests = [Request { state: index, demand, touched }];
            let Self { model, pool, last, scratch, .. } = self;
            let searched = model.lm_head.select(pool, self.isa, last, requests, scratch);
            self.profile.end(Stage::LmHead);
            let searched = searched.map_err(|error| ForwardError::lm_head(&error))?;
            if searched && self.scratch.select.found(0).is_some() {
                return Ok(Logits::Some(self.scratch.select.found(0).unwrap_or_default()));
            }
        }
        self.logits(index).map(Logits::All)
    }

    /// Takes over the states before `lm_head` that another inference of a model of the same shape has reached: logits are then what
    /// this `lm_head` makes of them.
    ///
    /// # Panics
    /// When the shapes differ, or there is no room for so many rows.
    pub fn take_states(&mut self, other: &Self) {
        self.last.set_rows(other.last.rows());
        for row in 0..other.last.rows() {
            self.last.row_mut(row).copy_from_slice(other.last.row(row));
        }
        self.block.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_rows_beside_the_one_asked_for_in_16_mb_or_one_row() {
        let block = Block::default();
        for (vocab_size, together) in [(2_048, 2_048), (128_256, 32), (4 << 20, 1), (16 << 20, 1)] {
            for row in [0, 1, 31, 32, 500, 511] {
                let rows = block.around(row, 512, vocab_size);
                assert!(rows.contains(&row) && rows.len() <= together, "{rows:?} of {vocab_size}");
                assert!(rows.len() == together.min(512), "{rows:?} of {vocab_size}");
            }
            assert_eq!(block.around(0, 1, vocab_size), 0..1);
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let refused = Block::default().room(1 << 20, 1 << 40).map(drop).unwrap_err();
        assert_eq!(refused, OutOfMemory { bytes: 1 << 62 });
    }
}
