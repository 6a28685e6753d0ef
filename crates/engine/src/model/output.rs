//! From the last states of a forward pass to logits: some, found by a search, or all, for a few rows at a time.

use super::forward::Inference;
use super::profile::Stage;
use super::run::ForwardError;
use crate::kernels::Request;
use crate::logits::{Demand, Logits};
use crate::memory::OutOfMemory;

/// Bytes of the logits that are kept at a time; at least one row of them is.
const BYTES: usize = 16 << 20;

/// What is wanted of one row of the states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogitRequest<T> {
    /// Among the rows of the last forward pass that asked for logits.
    pub row: usize,
    /// `None` for all logits.
    pub demand: Option<Demand>,
    /// Tokens that are about to be changed by penalties and biases, and are among those that are found in any case.
    pub touched: T,
}

/// What was asked for, and all logits of some rows. The rows of `lm_head` are read once for all of them, so there should be many; but a
/// vocabulary of logits for each token of a long prompt would be half a gigabyte.
#[derive(Debug)]
pub(super) struct Block {
    /// Of logits, at most; but at least one row.
    pub(super) limit: usize,
    /// Rows of states that were searched for, in the order of the requests.
    searched: Vec<usize>,
    /// Rows of states of which all logits are wanted, and whether somebody has said so: before, it may be any.
    wanted: Vec<usize>,
    said: bool,
    /// Whose logits are here; none when empty.
    rows: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            limit: BYTES,
            searched: Vec::new(),
            wanted: Vec::new(),
            said: false,
            rows: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl Block {
    pub(super) fn forget(&mut self) {
        self.searched.clear();
        self.wanted.clear();
        self.said = false;
        self.rows.clear();
    }

    /// The logits of a row of states, if they are there.
    fn row(&self, row: usize, vocab_size: usize) -> Option<&[f32]> {
        let at = self.rows.iter().position(|&there| there == row)?;
        Some(&self.values[at * vocab_size..(at + 1) * vocab_size])
    }

    /// Chooses the rows, of so many, that are computed together with one of them: those beside it among all that are wanted.
    fn choose(&mut self, row: usize, rows: usize, vocab_size: usize) {
        let together = (self.limit / (vocab_size * size_of::<f32>())).max(1);
        self.rows.clear();
        if !self.said {
            let first = row / together * together;
            self.rows.extend(first..rows.min(first + together));
        } else if let Some(at) = self.wanted.iter().position(|&wanted| wanted == row) {
            let beside = self.wanted.chunks(together).nth(at / together);
            self.rows.extend(beside.into_iter().flatten());
        } else {
            self.rows.push(row);
        }
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
            self.block.choose(index, self.last.rows(), vocab_size);
            let rows = std::mem::take(&mut self.block.rows);
            let computed = self.compute(&rows);
            self.profile.end(Stage::LmHead);
            self.block.rows = rows;
            if computed.is_err() {
                self.block.rows.clear();
            }
            computed?;
        }
        Ok(self.block.row(index, vocab_size).unwrap_or_default())
    }

    /// All logits of some rows, in the block.
    fn compute(&mut self, rows: &[usize]) -> Result<(), ForwardError> {
        let out = self.block.room(rows.len(), self.model.hyperparameters.vocab_size)?;
        let x = (&self.last, rows);
        let computed = self.model.lm_head.logits(&mut self.pool, self.isa, x, &mut self.scratch, out);
        computed.map_err(|error| ForwardError::lm_head(&error))
    }

    /// Finds what some rows are asked for, without computing all logits where that is possible. `lm_head` is read once for all of them,
    /// and once more for those that need all logits. What was found has the same bits as if each row were asked alone;
    /// [`found`](Self::found) then has it.
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub(crate) fn select_all<T: IntoIterator<Item = u32>>(
        &mut self,
        requests: impl IntoIterator<Item = LogitRequest<T>>,
    ) -> Result<(), ForwardError> {
        self.block.said = true;
        self.search(requests)
    }

    /// What the last [`select_all`](Self::select_all) found for a row: the logits that its demand asks for, or all.
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub(crate) fn found(&mut self, row: usize) -> Result<Logits<'_>, ForwardError> {
        let searched = self.block.searched.iter().position(|&searched| searched == row);
        match searched.filter(|&request| self.scratch.select.found(request).is_some()) {
            Some(request) => Ok(Logits::Some(self.scratch.select.found(request).unwrap_or_default())),
            None => self.logits(row).map(Logits::All),
        }
    }

    /// The same for one row: those of its logits that `demand` asks for, if they can be found without computing all; tokens in `touched`
    /// are about to be changed by penalties and biases, and among them in any case.
    ///
    /// # Panics
    /// When fewer rows asked for logits.
    pub fn select(
        &mut self,
        index: usize,
        demand: Option<Demand>,
        touched: impl Iterator<Item = u32>,
    ) -> Result<Logits<'_>, ForwardError> {
        self.search([LogitRequest { row: index, demand, touched }])?;
        self.found(index)
    }

    /// Searches for what is asked for, and notes of which rows all logits are wanted.
    fn search<T: IntoIterator<Item = u32>>(
        &mut self,
        requests: impl IntoIterator<Item = LogitRequest<T>>,
    ) -> Result<(), ForwardError> {
        self.profile.start();
        let Self { model, pool, last, scratch, block, .. } = self;
        let Block { searched, wanted, .. } = block;
        searched.clear();
        wanted.clear();
        let rows = last.rows();
        let requests = requests.into_iter().filter_map(|LogitRequest { row, demand, touched }| {
            assert!(row < rows, "logits of row {row} of {rows}");
            match demand {
                Some(_) => searched.push(row),
                None => wanted.push(row),
            }
            demand.map(|demand| Request { state: row, demand, touched })
        });
        let result = model.lm_head.select(pool, self.isa, last, requests, scratch);
        if !matches!(result, Ok(true)) {
            wanted.append(searched);
        }
        for (request, &row) in searched.iter().enumerate() {
            if scratch.select.found(request).is_none() {
                wanted.push(row);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        self.profile.end(Stage::LmHead);
        result.map(drop).map_err(|error| ForwardError::lm_head(&error))
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
        let mut block = Block::default();
        for (vocab_size, together) in [(2_048, 2_048), (128_256, 32), (4 << 20, 1), (16 << 20, 1)] {
            for row in [0, 1, 31, 32, 500, 511] {
                block.choose(row, 512, vocab_size);
                let rows = &block.rows;
                assert!(rows.contains(&row) && rows.len() <= together, "{rows:?} of {vocab_size}");
                assert!(rows.len() == together.min(512), "{rows:?} of {vocab_size}");
            }
            block.choose(0, 1, vocab_size);
            assert_eq!(block.rows, [0]);
        }
    }

    #[test]
    fn a_block_has_none_of_the_rows_that_do_not_ask() {
        let mut block = Block { said: true, wanted: vec![3, 4, 9, 200, 201], ..Block::default() };
        let together = |block: &mut Block, row| {
            block.choose(row, 512, 128_256);
            block.rows.clone()
        };
        assert_eq!(together(&mut block, 9), [3, 4, 9, 200, 201]);
        assert_eq!(together(&mut block, 7), [7]);
        block.limit = 2 * 128_256 * size_of::<f32>();
        assert_eq!(together(&mut block, 9), [9, 200]);
        assert_eq!(together(&mut block, 201), [201]);
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let refused = Block::default().room(1 << 20, 1 << 40).map(drop).unwrap_err();
        assert_eq!(refused, OutOfMemory { bytes: 1 << 62 });
    }
}
