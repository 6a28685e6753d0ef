//! From activations to the tokens that matter, with their logits.

use super::Searchable;
use super::bounds::{Bounds, bound};
use super::float_matrix::{FloatMatrix, Room};
use super::float_rows::row_product;
use super::wide::Wide;
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::Kernel;
use crate::kernels::lanes::{LANES, Simd};
use crate::kernels::rows::Rows;
use crate::pool::Pool;
use crate::quant::QuantError;

/// Which logits a sampler needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// The greatest so many.
    Top(usize),
    /// All that are less than this below the greatest.
    Within(f32),
}

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// As the full head computes it.
    pub logit: f32,
}

/// Memory of a search, kept from token to token.
#[derive(Debug, Default)]
pub struct Search {
    /// The activations.
    wide: Wide,
    /// The least and the greatest that each row's logit can be, and a list of numbers to choose a threshold from.
    bounds: Vec<Bounds>,
    best: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Search {
    /// All tokens that `demand` may mean, sorted by id, with their logits. Tokens in `touched` are about to be changed by
    /// penalties and biases: they are always among the candidates and never count for the others.
    ///
    /// They are then in [`Search::candidates`]. False when too many remain for a search to be worth it, or the activations
    /// allow no bounds; then all logits must be computed. An error when exact rows are in a file that cannot be read.
    pub fn run(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        head: Searchable<'_>,
        (x, row): (&Rows, usize),
        demand: Demand,
        touched: impl Iterator<Item = u32>,
    ) -> Result<bool, QuantError> {
        let rows = head.exact.rows;
        self.wide.set(x.row(row));
        if !self.wide.is_usable() {
            return Ok(false);
        }
        bound(pool, isa, head, &self.wide, &mut self.bounds);
        for id in touched.map(|id| id as usize).filter(|&id| id < rows) {
            // Not a competitor, and certainly a candidate.
            self.bounds[id / LANES].low[id % LANES] = f32::NEG_INFINITY;
            self.bounds[id / LANES].high[id % LANES] = f32::INFINITY;
        }
        // The logits of those that are certainly great say better than any bound what the others must reach.
        let Some(certain) = self.certain(demand) else { return Ok(false) };
        self.candidates.clear();
        // For all rows: how many remain differs from token to token, and only what is used is touched.
        self.candidates.reserve(rows);
        self.collect(certain, |low| low >= certain);
        if self.candidates.len() > rows / 8 {
            return Ok(false);
        }
        self.compute(pool, isa, head.exact, x.padded(row), 0)?;
        let Some(wanted) = self.wanted(demand) else { return Ok(false) };
        let first = self.candidates.len();
        self.collect(wanted, |low| low < certain);
        if self.candidates.len() > rows / 8 {
            return Ok(false);
        }
        self.compute(pool, isa, head.exact, x.padded(row), first)?;
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        Ok(true)
    }

    /// What the last search that succeeded has found.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// A number that the least values of enough rows reach, to judge by them what is wanted.
    fn certain(&mut self, demand: Demand) -> Option<f32> {
        // The greatest of each sixteen: so many of them are above a number, so many rows are.
        self.best.clear();
        self.best.extend(self.bounds.iter().map(Bounds::greatest_low));
        let (count, most) = (enough(demand), self.best.len() / 4);
        // More than enough, since bounds do not have the order of logits; the others are likely wanted as well.
        if count > most { None } else { nth_greatest(&mut self.best, (4 * count).min(most)) }
    }

    /// What a logit must reach to be wanted, at least: the candidates so far are competitors.
    fn wanted(&mut self, demand: Demand) -> Option<f32> {
        self.best.clear();
        self.best.extend(self.candidates.iter().map(|candidate| candidate.logit));
        if !self.best.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let least = nth_greatest(&mut self.best, enough(demand))?;
        Some(if let Demand::Within(distance) = demand { least - distance } else { least })
    }

    /// Adds the rows that may reach `least` and whose least value is `chosen`. Their logits are yet to be computed.
    fn collect(&mut self, least: f32, chosen: impl Fn(f32) -> bool) {
        for (group, bounds) in self.bounds.iter().enumerate() {
            if bounds.greatest_high() < least {
                continue;
            }
            for (row, (&low, &high)) in bounds.low.iter().zip(&bounds.high).enumerate() {
                if high >= least && chosen(low) {
                    self.candidates.push(Candidate { id: (group * LANES + row) as u32, logit: 0.0 });
                }
            }
        }
    }

    /// Computes the logits of the candidates from `first` on, which are sorted by id.
    fn compute(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        exact: &FloatMatrix,
        x: &[f32],
        first: usize,
    ) -> Result<(), QuantError> {
        let candidates = &mut self.candidates[first..];
        let count = candidates.len();
        let candidates = Disjoint::new(candidates);
        pool.try_run_ranges(count, |range| {
            // SAFETY: each candidate belongs to one range.
            #[expect(unsafe_code, reason = "candidates are computed in parallel")]
            let candidates = unsafe { candidates.part(range) };
            isa.run(Rescore { exact, x, candidates })
        })
    }
}

/// How many of the greatest logits tell which are wanted.
fn enough(demand: Demand) -> usize {
    match demand {
        Demand::Top(count) => count,
        Demand::Within(_) => 1,
    }
}

fn nth_greatest(values: &mut [f32], n: usize) -> Option<f32> {
    if n == 0 || n > values.len() {
        return None;
    }
    Some(*values.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1).filter(|value| value.is_finite())
}

struct Rescore<'a> {
    exact: &'a FloatMatrix,
    x: &'a [f32],
    candidates: &'a mut [Candidate],
}

impl Kernel for Rescore<'_> {
    type Output = Result<(), QuantError>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let mut room = Room::new();
        for candidate in self.candidates {
            candidate.logit = row_product(simd, self.exact, candidate.id as usize, self.x, &mut room)?;
        }
        Ok(())
    }
}
