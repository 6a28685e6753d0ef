//! From activations to the tokens that matter, with their exact logits.

use std::cmp::Ordering;

use super::build::{Group, OFFSET, Screen};
use super::{NibbleSums, WideQuad};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::head::{FloatMatrix, row_product};
use crate::kernels::isa::Kernel;
use crate::kernels::rows::Rows;
use crate::kernels::simd::{LANES, Simd};
use crate::pool::Pool;

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
    x: Vec<WideQuad>,
    /// The least and the greatest that each row's logit can be, and for sixteen rows the greatest of each.
    bounds: Vec<Bounds>,
    best: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// Bounds of sixteen logits.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    low: [f32; LANES],
    high: [f32; LANES],
}

impl Bounds {
    fn greatest_low(&self) -> f32 {
        self.low.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    fn greatest_high(&self) -> f32 {
        self.high.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The activations as the screen multiplies them.
struct Wide {
    scale: f64,
    /// At least ‖x‖ and ‖x - x̂‖.
    norm: f64,
    error: f64,
    /// Sum of the 16-bit codes.
    sum: i64,
}

impl Search {
    /// All tokens that `demand` may mean, sorted by id, with their exact logits. Tokens in `touched` are about to be changed
    /// by penalties and biases: they are always among the candidates and never count for the others.
    ///
    /// They are then in [`Search::candidates`]. False when too many remain for a search to be worth it, or the activations
    /// allow no bounds; then all logits must be computed.
    pub fn run(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        (exact, screen): (&FloatMatrix, &Screen),
        (x, row): (&Rows, usize),
        demand: Demand,
        touched: impl Iterator<Item = u32> + Clone,
    ) -> bool {
        let Some(wide) = self.widen(x.row(row), screen.group_tiles * 2) else { return false };
        self.bound(pool, isa, screen, &wide);
        for id in touched.clone().filter(|&id| (id as usize) < screen.rows) {
            // Not a competitor, and certainly a candidate.
            self.bounds[id as usize / LANES].low[id as usize % LANES] = f32::NEG_INFINITY;
        }
        let Some(threshold) = self.threshold(demand) else { return false };
        self.candidates.clear();
        // For all rows: how many remain differs from token to token, and only what is used is touched.
        self.candidates.reserve(screen.rows);
        for (group, bounds) in self.bounds.iter().enumerate() {
            if bounds.greatest_high() >= threshold {
                let rows = (group * LANES..screen.rows).zip(&bounds.high);
                let ids = rows.filter(|&(_, &high)| high >= threshold).map(|(row, _)| row as u32);
                self.candidates.extend(ids.map(|id| Candidate { id, logit: 0.0 }));
            }
        }
        self.candidates
            .extend(touched.filter(|&id| (id as usize) < screen.rows).map(|id| Candidate { id, logit: 0.0 }));
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        self.candidates.dedup_by_key(|candidate| candidate.id);
        if self.candidates.len() > screen.rows / 8 {
            return false;
        }
        self.rescore(pool, isa, exact, x.padded(row));
        true
    }

    /// What the last search that succeeded has found.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Rounds activations to 16 bits; `None` if one is not a finite number, or all are zero.
    fn widen(&mut self, x: &[f32], quads: usize) -> Option<Wide> {
        const GREATEST: f64 = 32_639.0; // 127 * 256 + 127: both halves fit into a signed byte.
        let absmax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        if absmax == 0.0 || !x.iter().all(|x| x.is_finite()) {
            return None;
        }
        let scale = f64::from(absmax) / GREATEST;
        self.x.clear();
        self.x.resize(quads, WideQuad::default());
        let (mut sum, mut norm, mut error) = (0, 0.0, 0.0);
        for (i, &x) in x.iter().enumerate() {
            let x = f64::from(x);
            let code = (x / scale).round_ties_even();
            norm += x * x;
            error += (x - code * scale).powi(2);
            let code = code as i32;
            sum += i64::from(code);
            // The low half is signed: -128..=127.
            let low = code as i8;
            let quad = &mut self.x[i / 4];
            quad.low[i % 4] = low;
            quad.high[i % 4] = ((code - i32::from(low)) >> 8) as i8;
        }
        // A sum of f64 of this length is right to far more digits than this.
        Some(Wide { scale, norm: norm.sqrt() * (1.0 + 1e-9), error: error.sqrt() * (1.0 + 1e-9), sum })
    }

    fn bound(&mut self, pool: &mut Pool, isa: Isa, screen: &Screen, wide: &Wide) {
        self.bounds.resize(screen.groups.len(), Bounds::default());
        let (x, bounds) = (&self.x, Disjoint::new(&mut self.bounds));
        pool.run_ranges(screen.groups.len(), |groups| {
            // SAFETY: each group belongs to one range.
            #[expect(unsafe_code, reason = "groups are bounded in parallel")]
            let bounds = unsafe { bounds.part(groups.clone()) };
            isa.run(BoundGroups { screen, first: groups.start, x, wide, bounds });
        });
        // Rows that do not exist are no competitors.
        if let Some(last) = self.bounds.last_mut() {
            let count = screen.rows - (screen.groups.len() - 1) * LANES;
            last.low[count..].fill(f32::NEG_INFINITY);
            last.high[count..].fill(f32::NEG_INFINITY);
        }
    }

    /// What a logit must reach to be wanted, at least.
    fn threshold(&mut self, demand: Demand) -> Option<f32> {
        match demand {
            Demand::Top(count) => {
                // The greatest of each sixteen: so many of them are above a number, so many rows are.
                self.best.clear();
                self.best.extend(self.bounds.iter().map(Bounds::greatest_low));
                if count == 0 || count > self.best.len() / 4 {
                    return None;
                }
                let order = |a: &f32, b: &f32| b.partial_cmp(a).unwrap_or(Ordering::Equal);
                Some(*self.best.select_nth_unstable_by(count - 1, order).1)
            }
            Demand::Within(distance) => {
                let best = self.bounds.iter().map(Bounds::greatest_low).fold(f32::NEG_INFINITY, f32::max);
                Some(best - distance)
            }
        }
        .filter(|threshold| threshold.is_finite())
    }

    fn rescore(&mut self, pool: &mut Pool, isa: Isa, exact: &FloatMatrix, x: &[f32]) {
        let count = self.candidates.len();
        let candidates = Disjoint::new(&mut self.candidates);
        pool.run_ranges(count, |range| {
            // SAFETY: each candidate belongs to one range.
            #[expect(unsafe_code, reason = "candidates are computed in parallel")]
            let candidates = unsafe { candidates.part(range) };
            isa.run(Rescore { exact, x, candidates });
        });
    }
}

struct BoundGroups<'a> {
    screen: &'a Screen,
    first: usize,
    x: &'a [WideQuad],
    wide: &'a Wide,
    bounds: &'a mut [Bounds],
}

impl Kernel for BoundGroups<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { screen, first, x, wide, bounds } = self;
        // Roundings of the exact row's product: one for each element of a lane, and the last sums.
        let roundings = (screen.columns.div_ceil(LANES * 4) + 8) as f64;
        let gamma = roundings * f64::from(f32::EPSILON) / 2.0;
        // Divided out of the codes: x̂ = scale * code, ŵ = scale * (code - OFFSET).
        let offset = i64::from(OFFSET) * wide.sum;
        for (group, bounds) in (first..).zip(bounds) {
            let tiles = group * screen.group_tiles..(group + 1) * screen.group_tiles;
            let mut sums = [NibbleSums::default(); 2];
            simd.dot_nibbles(&screen.high[tiles.clone()], x, &mut sums[0]);
            simd.dot_nibbles(&screen.low[tiles], x, &mut sums[1]);
            let Group { scale, error, norm } = &screen.groups[group];
            for row in 0..LANES {
                let half = |sums: &NibbleSums| f64::from(sums.high[row]) * 256.0 + f64::from(sums.low[row]);
                let product = 16.0 * half(&sums[0]) + half(&sums[1]) - offset as f64;
                let estimate = product * wide.scale * f64::from(scale[row]);
                let bound = f64::from(error[row]) * wide.norm
                    + f64::from(norm[row]) * (wide.error + gamma * wide.norm)
                    + f64::from(f32::MIN_POSITIVE);
                // To f32: rounded outwards by more than a rounding.
                let outwards = bound * 1.000_001 + estimate.abs() * 2.5e-7;
                bounds.low[row] = (estimate - outwards) as f32;
                bounds.high[row] = (estimate + outwards) as f32;
            }
        }
    }
}

struct Rescore<'a> {
    exact: &'a FloatMatrix,
    x: &'a [f32],
    candidates: &'a mut [Candidate],
}

impl Kernel for Rescore<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for candidate in self.candidates {
            candidate.logit = row_product(simd, self.exact, candidate.id as usize, self.x);
        }
    }
}
