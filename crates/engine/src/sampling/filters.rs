//! `top_k`, `top_p` and `min_p`: which tokens remain to choose from, without sorting all of them.

use std::cmp::Ordering;

use crate::logits::Candidate;

/// Best first: the greater logit, then the lower id.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that sorting takes")]
pub(super) fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// `top_k` of all logits: puts the `count` best tokens into `best`, best first.
pub(super) fn top_k_of(logits: &[f32], count: usize, best: &mut Vec<Candidate>) {
    /// Logits that are compared with the floor at once.
    const CHUNK: usize = 64;
    best.clear();
    if count == 0 {
        return;
    }
    // As many as there can be below, so that the memory is found at the first token.
    let limit = count.saturating_mul(2).max(CHUNK);
    best.reserve(limit.saturating_add(CHUNK).min(logits.len()));
    // What a later token must exceed to be among the best: an equal one has the higher id.
    let mut floor = f32::NEG_INFINITY;
    for (chunk, first) in logits.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        let highest =
            chunk.iter().fold(f32::NEG_INFINITY, |high, &logit| if logit > high { logit } else { high });
        if highest <= floor {
            continue;
        }
        best.extend(
            (first..)
                .zip(chunk)
                .filter(|(_, logit)| **logit > floor)
                .map(|(id, &logit)| Candidate { id, logit }),
        );
        if best.len() >= limit {
            top_k(best, count);
            floor = best.last().map_or(floor, |worst| worst.logit);
        }
    }
    top_k(best, count);
    best.sort_unstable_by(best_first);
}

/// `top_k`: keeps the `count` best, of which the last is the worst.
pub(super) fn top_k(candidates: &mut Vec<Candidate>, count: usize) {
    if candidates.len() > count {
        candidates.select_nth_unstable_by(count - 1, best_first);
        candidates.truncate(count);
    }
}

/// Puts every token that may be chosen into `candidates`, by id.
pub(super) fn all_of(logits: &[f32], candidates: &mut Vec<Candidate>) {
    candidates.clear();
    candidates.extend(
        (0..)
            .zip(logits)
            .filter(|(_, logit)| **logit > f32::NEG_INFINITY)
            .map(|(id, &logit)| Candidate { id, logit }),
    );
}

/// `top_p`: keeps the best candidates that together have this share of the weight, best first; at least one.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, share: f32, weight: impl Fn(&Candidate) -> f64) {
    let total: f64 = candidates.iter().map(&weight).sum();
    keep_mass(candidates, f64::from(share) * total, weight);
}

/// `min_p`: keeps the candidates that have this share of the best one's weight, which is 1.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, share: f32, weight: impl Fn(&Candidate) -> f64) {
    candidates.retain(|candidate| weight(candidate) >= f64::from(share));
}

/// Keeps the best candidates whose weights add up to `mass`, best first; at least one.
fn keep_mass(candidates: &mut Vec<Candidate>, mass: f64, weight: impl Fn(&Candidate) -> f64) {
    let (mut sorted, mut step, mut sum) = (0, 64, 0.0);
    // A few tokens usually have all the weight, so only as many as needed are sorted.
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        if step < rest.len() {
            rest.select_nth_unstable_by(step, best_first);
        }
        let piece = step.min(rest.len());
        rest[..piece].sort_unstable_by(best_first);
        for (index, candidate) in rest[..piece].iter().enumerate() {
            sum += weight(candidate);
            if sum >= mass {
                candidates.truncate(sorted + index + 1);
                return;
            }
        }
        sorted += piece;
        step *= 8;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Logits with many ties, some of which no token may have.
    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![
            8 => (-20_i8..20).prop_map(f32::from),
            4 => -30.0..30.0_f32,
            1 => prop::sample::select(vec![f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0]),
        ];
        prop::collection::vec(logit, 0..700)
    }

    fn sorted(logits: &[f32]) -> Vec<Candidate> {
        let mut all = Vec::new();
        all_of(logits, &mut all);
        all.sort_by(best_first);
        all
    }

    proptest! {
        #[test]
        fn selecting_equals_sorting_and_cutting(logits in logits(), count in 0..100_usize) {
            let mut expected = sorted(&logits);
            expected.truncate(count);
            let mut best = vec![Candidate { id: 7, logit: 7.0 }];
            top_k_of(&logits, count, &mut best);
            prop_assert_eq!(&best, &expected);
            prop_assert!(best.iter().all(|candidate| candidate.logit > f32::NEG_INFINITY));
        }

        #[test]
        fn keeping_mass_equals_sorting_and_adding(logits in logits(), mass in 0.0..500.0_f64) {
            let mut expected = sorted(&logits);
            expected.truncate(mass.ceil().max(1.0) as usize);
            let mut kept = Vec::new();
            all_of(&logits, &mut kept);
            keep_mass(&mut kept, mass, |_| 1.0);
            kept.sort_by(best_first);
            prop_assert_eq!(kept, expected);
        }
    }
}
