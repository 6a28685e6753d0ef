//! Gradients are what differences say they are.

use bitnet_demo_conversations::Random;
use bitnet_demo_trainer::network::{Network, Trace};
use bitnet_demo_trainer::quantize::Precision;
use bitnet_demo_trainer::sequence::Batch;
use bitnet_demo_trainer::shape::Kind;
use bitnet_demo_trainer::weights::{Weights, initial};

use crate::support::{TINY, arbitrary_batch};

/// A model whose norms are not 1.
fn model() -> (Network, Vec<f32>) {
    let network = Network::new(TINY);
    let mut master = initial(&network.layout, 3);
    let mut random = Random::new(4);
    for tensor in network.layout.tensors.iter().filter(|tensor| tensor.kind == Kind::Norm) {
        for weight in &mut master[tensor.range.clone()] {
            *weight = 0.5 + (random.bits() >> 40) as f32 / (1 << 24) as f32;
        }
    }
    // Embeddings of this size make logits of order 1, and so large gradients everywhere.
    for weight in &mut master[network.layout.embedding.clone()] {
        *weight *= 5.0;
    }
    (network, master)
}

/// Compares the slope along the gradient of some of the values that the forward pass sees with a symmetric difference.
fn check(network: &Network, weights: &Weights, batch: &Batch, names: impl Fn(&str) -> bool) {
    let mut trace = Trace::default();
    let mut gradient = vec![0.0; weights.values.len()];
    network.train(weights, batch, &mut trace, &mut gradient);
    let mut checked = 0;
    for tensor in network.layout.tensors.iter().filter(|tensor| names(&tensor.name)) {
        let of_tensor = &gradient[tensor.range.clone()];
        let length = of_tensor.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let size = weights.values[tensor.range.clone()].iter().map(|w| w.abs()).fold(0.0, f32::max);
        assert!(length > 0.0, "{}: no gradient", tensor.name);
        let mut loss_at = |distance: f64| {
            let mut moved = weights.clone();
            for (w, &g) in moved.values[tensor.range.clone()].iter_mut().zip(of_tensor) {
                *w += (distance * f64::from(g) / length) as f32;
            }
            network.loss(&moved, batch, &mut trace)
        };
        let distance = 0.02 * f64::from(size);
        let slope = (loss_at(distance) - loss_at(-distance)) / (2.0 * distance);
        assert!((slope / length - 1.0).abs() < 0.01, "{}: {length} but {slope}", tensor.name);
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn gradients_of_all_tensors_are_the_slopes_of_the_loss() {
    let (network, master) = model();
    let weights = Weights::new(&network.layout, &master, Precision::Exact);
    check(&network, &weights, &arbitrary_batch(TINY.vocab, &[17, 1, 30]), |_| true);
}

#[test]
fn gradients_at_ternary_weights_are_the_slopes_there() {
    let (network, master) = model();
    let rounded = Weights::new(&network.layout, &master, Precision::Quantized);
    let weights = Weights { precision: Precision::Exact, ..rounded };
    check(&network, &weights, &arbitrary_batch(TINY.vocab, &[24, 9]), |_| true);
}

/// Behind the last rounding the loss of the quantized model is smooth too; its products there see the rounded activations.
#[test]
fn gradients_of_the_last_map_see_rounded_activations() {
    let (network, master) = model();
    let weights = Weights::new(&network.layout, &master, Precision::Quantized);
    let last = format!("blk.{}.ffn_down.weight", TINY.layers - 1);
    check(&network, &weights, &arbitrary_batch(TINY.vocab, &[24, 9]), |name| {
        name == last || name == "output_norm.weight"
    });
}

#[test]
fn sequences_of_a_batch_do_not_see_each_other() {
    let (network, master) = model();
    let weights = Weights::new(&network.layout, &master, Precision::Quantized);
    let together = arbitrary_batch(TINY.vocab, &[12, 20, 7]);
    let (mut trace, mut sum) = (Trace::default(), 0.0);
    let loss = network.loss(&weights, &together, &mut trace);
    for part in together.split(3) {
        assert_eq!(part.sequences.len(), 1);
        sum += network.loss(&weights, &part, &mut trace);
    }
    assert!((loss - sum).abs() < 1e-3 * loss, "{loss} {sum}");
}
