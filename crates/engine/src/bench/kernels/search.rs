//! The search for the greatest logits in the 8-bit copy of an `lm_head`.

use half::f16;

use super::cases::Noise;
use crate::kernels::{
    EncodedRows, Encoding, Int8Matrix, Isa, Request, RowOf, Rows, Select, ShortCopy, candidate_logits,
};
use crate::logits::Demand;
use crate::memory::OutOfMemory;
use crate::pool::Pool;

/// An exact `lm_head` of noise with its copy, and some rows of states.
#[derive(Debug)]
pub struct LmHeadSearch {
    exact: Vec<f16>,
    copy: Int8Matrix,
    states: Rows,
    select: Select,
    noise: Noise,
}

impl LmHeadSearch {
    /// With so many rows, columns and rows of states.
    pub fn new(
        pool: &mut Pool,
        isa: Isa,
        [rows, columns]: [usize; 2],
        states: usize,
    ) -> Result<Self, OutOfMemory> {
        let mut noise = Noise(7);
        let exact: Vec<f16> = (0..rows * columns).map(|_| f16::from_f32(noise.float())).collect();
        let copy = Int8Matrix::round(pool, isa, [rows, columns], |first, out: &mut [f32]| {
            for (out, value) in out.iter_mut().zip(&exact[first * columns..]) {
                *out = value.to_f32();
            }
            Ok::<_, OutOfMemory>(())
        })?;
        let states = noise.rows(states, columns)?;
        Ok(Self { exact, copy, states, select: Select::default(), noise })
    }

    /// Draws other states, so that the next search finds something else.
    pub fn change_states(&mut self) {
        for row in 0..self.states.rows() {
            self.states.row_mut(row).fill_with(|| self.noise.float());
        }
    }

    /// Finds the greatest so many logits for each row of states. How many candidates are left, if all are worth a search.
    pub fn top(&mut self, pool: &mut Pool, isa: Isa, count: usize) -> Option<usize> {
        self.search(pool, isa, Demand::Top(count))
    }

    /// The same with those that are less than `distance` below the greatest.
    pub fn within(&mut self, pool: &mut Pool, isa: Isa, distance: f32) -> Option<usize> {
        self.search(pool, isa, Demand::Within(distance))
    }

    /// Bytes of the copy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.copy.as_bytes().len()
    }

    fn search(&mut self, pool: &mut Pool, isa: Isa, demand: Demand) -> Option<usize> {
        let Self { exact, copy, states, select, .. } = self;
        let rows = EncodedRows::new(bytemuck::cast_slice(exact), states.columns(), Encoding::F16);
        // A token that penalties change, and one that there is not.
        let request = |state| Request { state, demand, touched: [7, 4_000_000_000] };
        select.start(pool, isa, ShortCopy::Int8(copy), states, (0..states.rows()).map(request));
        candidate_logits(pool, isa, rows, RowOf::Id, states, select.unknown());
        select.narrow(pool);
        candidate_logits(pool, isa, rows, RowOf::Id, states, select.unknown());
        select.finish(pool);
        (0..states.rows()).map(|request| select.found(request).map(<[_]>::len)).sum()
    }
}
