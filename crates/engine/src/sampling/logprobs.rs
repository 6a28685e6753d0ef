//! How probable the model found a token.

use super::exp::{below, exp};
use super::filters::top_k_of;

/// A token and the natural logarithm of its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TokenLogprob {
    pub id: u32,
    /// At most 0. The lowest finite number for a token that cannot occur, since JSON has no infinity.
    pub logprob: f32,
}

/// The log probability of the `chosen` token and of the `top` most probable ones, best first. `logits: [vocabulary]` are the
/// model's own: bias, penalties and temperature play no part.
#[must_use]
pub(crate) fn log_probabilities(
    logits: &[f32],
    chosen: u32,
    top: usize,
) -> (TokenLogprob, Vec<TokenLogprob>) {
    let mut best = Vec::new();
    top_k_of(logits, top.max(1), &mut best);
    let highest = best.first().map_or(f32::NEG_INFINITY, |candidate| candidate.logit);
    let numbers = logits.iter().copied().filter(|logit| *logit > f32::NEG_INFINITY);
    let sum: f64 = numbers.map(|logit| exp(below(logit, highest))).sum();
    let logprob = |id: u32, logit: f32| TokenLogprob {
        id,
        logprob: ((below(logit, highest) - sum.ln()) as f32).clamp(f32::MIN, 0.0),
    };
    let impossible = TokenLogprob { id: chosen, logprob: f32::MIN };
    let possible = logits.get(chosen as usize).filter(|logit| **logit > f32::NEG_INFINITY);
    let chosen = possible.map_or(impossible, |&logit| logprob(chosen, logit));
    best.truncate(top);
    (chosen, best.iter().map(|candidate| logprob(candidate.id, candidate.logit)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probabilities_of_known_logits_are_right() {
        let logits = [1.0_f32, 3.0, 2.0].map(f32::ln);
        let (chosen, top) = log_probabilities(&logits, 2, 2);
        let check = |token: TokenLogprob, id: u32, probability: f32| {
            assert_eq!(token.id, id);
            assert!((token.logprob - probability.ln()).abs() < 1e-6, "{token:?}");
        };
        check(chosen, 2, 2.0 / 6.0);
        check(top[0], 1, 3.0 / 6.0);
        check(top[1], 2, 2.0 / 6.0);
        assert_eq!(top.len(), 2);
    }

    #[test]
    fn impossible_tokens_have_the_lowest_finite_logarithm() {
        let logits = [0.0, f32::NEG_INFINITY, f32::NAN, 0.0];
        for token in [1, 2, 4, u32::MAX] {
            assert_eq!(
                log_probabilities(&logits, token, 0),
                (TokenLogprob { id: token, logprob: f32::MIN }, vec![])
            );
        }
        assert!((log_probabilities(&logits, 3, 9).0.logprob - 0.5_f32.ln()).abs() < 1e-6);
        let logits = [f32::NEG_INFINITY, f32::NAN];
        assert_eq!(log_probabilities(&logits, 0, 5), (TokenLogprob { id: 0, logprob: f32::MIN }, vec![]));
        let logits = [1.0, f32::INFINITY];
        assert_eq!(log_probabilities(&logits, 1, 0).0, TokenLogprob { id: 1, logprob: 0.0 });
    }

    proptest! {
        #[test]
        fn probabilities_add_up_to_one(logits in prop::collection::vec(-50.0..50.0_f32, 1..300)) {
            let (_, top) = log_probabilities(&logits, 0, logits.len());
            let sum: f64 = top.iter().map(|token| f64::from(token.logprob).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4, "{}", sum);
            prop_assert!(top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        }
    }
}
