//! Finding the tokens that can have the greatest logits, without computing all.
//!
//! A copy in fewer bits says, with a bound for each row, between which two numbers the row's logit lies. Whatever cannot be among
//! the greatest is left out; logits are computed for the few rows that remain, from the floats, by the caller, who knows where
//! those are. So each logit that is found has the bits that computing all would give it.
//!
//! With w the row, ŵ its copy, x the activations and x̂ their 16-bit copy,
//! `w·x = ŵ·x̂ + (w - ŵ)·x + ŵ·(x - x̂)`, so `|w·x - ŵ·x̂| ≤ ‖w - ŵ‖‖x‖ + ‖ŵ‖‖x - x̂‖`. The float product of the row, as
//! `float_rows` computes it, differs from `w·x` by at most γ‖w‖‖x‖, where γ is the number of its roundings times 2⁻²⁴.
//!
//! With a copy in 8 bits this bound is used as it is, and none that was asked for is missing. With 4 bits it would keep nearly
//! all rows, so this bound is only likely: rounding errors are as good as random, and the standard deviation of `(w - ŵ)·x` is
//! then `‖w - ŵ‖‖x‖/√columns`. The bound has [some](super::bounds::DEVIATIONS) of these. A row whose errors lie along x may be
//! missed.

use super::ShortCopy;
use super::bounds::{Bounds, bound};
use super::wide::Wide;
use crate::kernels::Isa;
use crate::kernels::lanes::LANES;
use crate::kernels::rows::Rows;
use crate::logits::{Candidate, Demand};
use crate::pool::Pool;

/// Which logits of a row of states are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<T> {
    /// Row of the states.
    pub state: usize,
    pub demand: Demand,
    /// Tokens that are about to be changed by penalties and biases: they are always found and never count for the others.
    pub touched: T,
}

/// A selection for some rows of states; its memory is kept from token to token.
///
/// First [`start`](Self::start), then [`narrow`](Self::narrow), then [`finish`](Self::finish); after each of the first two, logits that
/// are [`unknown`](Self::unknown) have to be computed.
#[derive(Debug, Default)]
pub(crate) struct Select {
    searches: Vec<Search>,
    /// How many of them are those of the current requests.
    used: usize,
}

impl Select {
    /// Finds the tokens that certainly matter.
    pub(crate) fn start<T: IntoIterator<Item = u32>>(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        copy: ShortCopy<'_>,
        states: &Rows,
        requests: impl IntoIterator<Item = Request<T>>,
    ) {
        self.used = 0;
        for request in requests {
            if self.used == self.searches.len() {
                self.searches.push(Search::default());
            }
            let search = &mut self.searches[self.used];
            search.open = search.start(pool, isa, copy, states, request);
            self.used += 1;
        }
    }

    /// Candidates whose logits are to be computed now, sorted by id, with the row of the states that they are for.
    pub(crate) fn unknown(&mut self) -> impl Iterator<Item = (usize, &mut [Candidate])> {
        let open = self.searches[..self.used].iter_mut().filter(|search| search.open);
        open.map(|search| (search.state, &mut search.candidates[search.known..]))
    }

    /// Finds, by the logits of those that certainly matter, what else does.
    pub(crate) fn narrow(&mut self) {
        for search in self.searches[..self.used].iter_mut().filter(|search| search.open) {
            search.open = search.narrow();
        }
    }

    /// The least and the greatest that each logit of a request can be, in groups of sixteen.
    pub(in crate::kernels) fn bounds(&self, request: usize) -> impl Iterator<Item = f32> {
        let bounds = &self.searches[..self.used][request].bounds;
        bounds.iter().flat_map(|bounds| bounds.low.into_iter().chain(bounds.high))
    }

    /// Puts what was found in order.
    pub(crate) fn finish(&mut self) {
        for search in &mut self.searches[..self.used] {
            search.candidates.sort_unstable_by_key(|candidate| candidate.id);
        }
    }

    /// All tokens that the demand of a request may mean, sorted by id, with their logits. `None` when too many remain for a search
    /// to be worth it, or the activations allow no bounds; then all logits must be computed.
    #[must_use]
    pub(crate) fn found(&self, request: usize) -> Option<&[Candidate]> {
        let search = &self.searches[..self.used][request];
        search.open.then_some(&search.candidates)
    }
}

/// The search for one row of states.
#[derive(Debug)]
struct Search {
    state: usize,
    demand: Demand,
    /// Rows of the matrix.
    rows: usize,
    /// Whether there can be an answer.
    open: bool,
    /// Whose least value reaches this matters for certain.
    certain: f32,
    /// The activations.
    wide: Wide,
    /// The least and the greatest that each row's logit can be, and a list of numbers to choose a threshold from.
    bounds: Vec<Bounds>,
    best: Vec<f32>,
    candidates: Vec<Candidate>,
    /// Candidates whose logits are computed; the others follow.
    known: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            state: 0,
            demand: Demand::Top(0),
            rows: 0,
            open: false,
            certain: f32::INFINITY,
            wide: Wide::default(),
            bounds: Vec::new(),
            best: Vec::new(),
            candidates: Vec::new(),
            known: 0,
        }
    }
}

impl Search {
    fn start<T: IntoIterator<Item = u32>>(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        copy: ShortCopy<'_>,
        states: &Rows,
        request: Request<T>,
    ) -> bool {
        let Request { state, demand, touched } = request;
        (self.state, self.demand, self.rows) = (state, demand, copy.rows());
        self.wide.set(states.row(state));
        if !self.wide.is_usable() {
            return false;
        }
        bound(pool, isa, copy, &self.wide, &mut self.bounds);
        for id in touched.into_iter().map(|id| id as usize).filter(|&id| id < self.rows) {
            // Not a competitor, and certainly a candidate.
            self.bounds[id / LANES].low[id % LANES] = f32::NEG_INFINITY;
            self.bounds[id / LANES].high[id % LANES] = f32::INFINITY;
        }
        // The logits of those that are certainly great say better than any bound what the others must reach.
        let Some(certain) = self.find_certain() else { return false };
        self.certain = certain;
        self.candidates.clear();
        // For all rows: how many remain differs from token to token, and only what is used is touched.
        self.candidates.reserve(self.rows);
        self.collect(certain, |low| low >= certain)
    }

    fn narrow(&mut self) -> bool {
        let Some(wanted) = self.find_wanted() else { return false };
        let certain = self.certain;
        self.collect(wanted, |low| low < certain)
    }

    /// A number that the least values of enough rows reach, to judge by them what is wanted.
    fn find_certain(&mut self) -> Option<f32> {
        // The greatest of each sixteen: so many of them are above a number, so many rows are.
        self.best.clear();
        self.best.extend(self.bounds.iter().map(Bounds::greatest_low));
        let (count, most) = (enough(self.demand), self.best.len() / 4);
        // More than enough, since bounds do not have the order of logits; the others are likely wanted as well.
        if count > most { None } else { nth_greatest(&mut self.best, (4 * count).min(most)) }
    }

    /// What a logit must reach to be wanted, at least: the candidates so far are competitors.
    fn find_wanted(&mut self) -> Option<f32> {
        self.best.clear();
        self.best.extend(self.candidates.iter().map(|candidate| candidate.logit));
        if !self.best.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let least = nth_greatest(&mut self.best, enough(self.demand))?;
        Some(if let Demand::Within(distance) = self.demand { least - distance } else { least })
    }

    /// Adds the rows that may reach `least` and whose least value is `chosen`; their logits are then unknown. False when so many
    /// remain that computing all is as good.
    fn collect(&mut self, least: f32, chosen: impl Fn(f32) -> bool) -> bool {
        self.known = self.candidates.len();
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
        self.candidates.len() <= self.rows / 8
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
