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
use super::bounds::bound;
use super::search::Search;
use super::wide::{WIDE_ROWS, Wide};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
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

/// A candidate whose logit is to be computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown {
    pub id: u32,
    /// Row of the states.
    pub state: usize,
    pub logit: f32,
    /// Whose candidate it is, and the place there.
    search: usize,
    place: usize,
}

impl Unknown {
    pub(crate) fn new(id: u32, state: usize) -> Self {
        Self { id, state, logit: 0.0, search: 0, place: 0 }
    }
}

/// A selection for some rows of states; its memory is kept from token to token.
///
/// First [`start`](Self::start), then [`narrow`](Self::narrow), then [`finish`](Self::finish); after each of the first two, logits that
/// are [`unknown`](Self::unknown) have to be computed. The copy is read once for several requests, and the results of a request are
/// the same whatever others there are.
#[derive(Debug, Default)]
pub(crate) struct Select {
    searches: Vec<Search>,
    /// How many of them are those of the current requests.
    used: usize,
    /// The activations that are multiplied together.
    wide: Wide,
    unknown: Vec<Unknown>,
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
            self.searches[self.used].begin(copy.rows(), request);
            self.used += 1;
        }
        // Parts of about the same size: nine rows cost less as five and four than as eight and one.
        let parts = self.used.div_ceil(WIDE_ROWS);
        for part in 0..parts {
            let range = part * self.used / parts..(part + 1) * self.used / parts;
            let searches = &mut self.searches[range];
            self.wide.set(searches.iter().map(|search| states.row(search.state)));
            bound(pool, isa, copy, &self.wide, searches.iter_mut().map(|search| &mut search.bounds));
            for (search, row) in searches.iter_mut().zip(&self.wide.rows) {
                search.open = row.is_usable();
            }
        }
        self.in_parallel(pool, Search::start);
        self.gather();
    }

    /// Candidates whose logits are to be computed now, sorted by id.
    pub(crate) fn unknown(&mut self) -> &mut [Unknown] {
        &mut self.unknown
    }

    /// Finds, by the logits of those that certainly matter, what else does.
    pub(crate) fn narrow(&mut self, pool: &mut Pool) {
        self.scatter();
        self.in_parallel(pool, Search::narrow);
        self.gather();
    }

    /// Puts what was found in order.
    pub(crate) fn finish(&mut self, pool: &mut Pool) {
        self.scatter();
        self.unknown.clear();
        self.in_parallel(pool, |search| {
            search.candidates.sort_unstable_by_key(|candidate| candidate.id);
            true
        });
    }

    /// The least and the greatest that each logit of a request can be, in groups of sixteen.
    pub(in crate::kernels) fn bounds(&self, request: usize) -> impl Iterator<Item = f32> {
        let bounds = &self.searches[..self.used][request].bounds;
        bounds.iter().flat_map(|bounds| bounds.low.into_iter().chain(bounds.high))
    }

    /// All tokens that the demand of a request may mean, sorted by id, with their logits. `None` when too many remain for a search
    /// to be worth it, or the activations allow no bounds; then all logits must be computed.
    #[must_use]
    pub(crate) fn found(&self, request: usize) -> Option<&[Candidate]> {
        let search = &self.searches[..self.used][request];
        search.open.then_some(&search.candidates)
    }

    /// Takes each search a step further, unless there can be no answer; `step` says whether there still can be one.
    fn in_parallel(&mut self, pool: &mut Pool, step: impl Fn(&mut Search) -> bool + Sync) {
        let searches = Disjoint::new(&mut self.searches[..self.used]);
        pool.run(self.used, |index| {
            // SAFETY: each search is one piece.
            #[expect(unsafe_code, reason = "searches go on in parallel")]
            let search = unsafe { &mut searches.part(index..index + 1)[0] };
            search.open = search.open && step(search);
        });
    }

    /// Lists the candidates without logits of all searches; a row that several ask for comes several times in succession.
    fn gather(&mut self) {
        self.unknown.clear();
        let searches = &self.searches[..self.used];
        // For as many as searches go on with, so that nothing is allocated when once there are more.
        self.unknown.reserve(searches.iter().map(Search::most).sum());
        for (index, search) in searches.iter().enumerate().filter(|(_, search)| search.open) {
            let unknown = (search.known..).zip(&search.candidates[search.known..]);
            self.unknown.extend(unknown.map(|(place, candidate)| Unknown {
                search: index,
                place,
                ..Unknown::new(candidate.id, search.state)
            }));
        }
        self.unknown.sort_unstable_by_key(|unknown| unknown.id);
    }

    /// Gives the searches the logits that were computed.
    fn scatter(&mut self) {
        for unknown in &self.unknown {
            self.searches[unknown.search].candidates[unknown.place].logit = unknown.logit;
        }
    }
}
