//! Cross entropy of the tokens that the model should have written.

use crate::sequence::Target;
use crate::vector::softmax;

/// The sum of `−ln p(target)` over all targets, in nats. Logits `[targets, vocab]` become the gradient of that sum.
pub fn cross_entropy(logits: &mut [f32], vocab: usize, targets: &[Target]) -> f64 {
    let mut loss = 0.0;
    for (logits, target) in logits.chunks_exact_mut(vocab).zip(targets) {
        let wanted = logits[target.token as usize];
        loss += f64::from(softmax(logits) - wanted);
        logits[target.token as usize] -= 1.0;
    }
    loss
}
