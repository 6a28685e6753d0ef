//! The search for one row of states: which tokens can matter, by bounds of their logits and by some logits.

use super::Request;
use super::bounds::Bounds;
use crate::kernels::lanes::LANES;
use crate::logits::{Candidate, Demand};

/// The search for one row of states.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) state: usize,
    demand: Demand,
    /// Rows of the matrix.
    rows: usize,
    /// Whether there can be an answer.
    pub(super) open: bool,
    /// Whose least value reaches this matters for certain.
    certain: f32,
    /// The least and the greatest that each row's logit can be, and a list of numbers to choose a threshold from.
    pub(super) bounds: Vec<Bounds>,
    best: Vec<f32>,
    /// First those that are touched.
    pub(super) candidates: Vec<Candidate>,
    touched: usize,
    /// Candidates whose logits are computed; the others follow.
    pub(super) known: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            state: 0,
            demand: Demand::Top(0),
            rows: 0,
            open: false,
            certain: f32::INFINITY,
            bounds: Vec::new(),
            best: Vec::new(),
            candidates: Vec::new(),
            touched: 0,
            known: 0,
        }
    }
}

impl Search {
    /// Takes over what is asked for.
    pub(super) fn begin<T: IntoIterator<Item = u32>>(&mut self, rows: usize, request: Request<T>) {
        let Request { state, demand, touched } = request;
        (self.state, self.demand, self.rows) = (state, demand, rows);
        self.candidates.clear();
        // For all rows: how many remain differs from token to token, and only what is used is touched.
        self.candidates.reserve(rows);
        let touched = touched.into_iter().filter(|&id| (id as usize) < rows);
        self.candidates.extend(touched.map(|id| Candidate { id, logit: 0.0 }));
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        self.candidates.dedup_by_key(|candidate| candidate.id);
        self.touched = self.candidates.len();
        self.known = 0;
    }

    /// Candidates at most, as long as there can be an answer.
    pub(super) fn most(&self) -> usize {
        self.rows / 8
    }

    /// Finds those that matter for certain.
    pub(super) fn start(&mut self) -> bool {
        for Candidate { id, .. } in &self.candidates {
            // No competitor, and a candidate already.
            let (bounds, row) = (&mut self.bounds[*id as usize / LANES], *id as usize % LANES);
            (bounds.low[row], bounds.high[row]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        }
        // The logits of those that are certainly great say better than any bound what the others must reach.
        let Some(certain) = self.find_certain() else { return false };
        self.certain = certain;
        self.collect(certain, |low| low >= certain)
    }

    /// Finds, by the logits of those, what else can matter.
    pub(super) fn narrow(&mut self) -> bool {
        self.known = self.candidates.len();
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

    /// What a logit must reach to be wanted, at least: the candidates so far are competitors, except those that are touched.
    fn find_wanted(&mut self) -> Option<f32> {
        self.best.clear();
        self.best.extend(self.candidates[self.touched..].iter().map(|candidate| candidate.logit));
        if !self.best.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let least = nth_greatest(&mut self.best, enough(self.demand))?;
        Some(if let Demand::Within(distance) = self.demand { least - distance } else { least })
    }

    /// Adds the rows that may reach `least` and whose least value is `chosen`; their logits are then unknown. False when so many
    /// remain that computing all is as good.
    fn collect(&mut self, least: f32, chosen: impl Fn(f32) -> bool) -> bool {
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
        self.candidates.len() <= self.most()
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
