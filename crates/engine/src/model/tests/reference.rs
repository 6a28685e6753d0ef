//! The forward pass against reference logits: see the tolerances in `check`.

use super::support::{Prompt, Setup, all_logits, load, prompts, run};
use crate::kernels::{CacheType, Isa};
use crate::model::{Inference, LmHeadType};

/// Strict positions: no activation lies so near a rounding boundary that float rounding alone could move its code.
const STRICT_MARGIN: f32 = 2.5e-5;
const STRICT_TOLERANCE: f64 = 1e-4;

#[test]
fn strict_prompts_agree_to_1e_4_on_every_instruction_set_and_from_every_tensor_type() {
    for isa in Isa::available() {
        for (model, reference) in [
            ("pico/model-i2_s.gguf", "pico/reference"),
            ("pico/model-f16.gguf", "pico/reference"),
            ("pico-bitnet25/model-i2_s.gguf", "pico/reference"),
            ("nano64/model-i2_s.gguf", "nano64/reference"),
            ("nano128/model-i2_s.gguf", "nano128/reference"),
            ("nano128/model-tq1_0.gguf", "nano128/reference"),
            ("nano128/model-tq2_0.gguf", "nano128/reference"),
            ("nano128/model-i2_s-q8_0.gguf", "nano128/reference-q8_0"),
            ("nano128/model-i2_s-q6_k.gguf", "nano128/reference-q6_k"),
        ] {
            check(model, reference, isa);
        }
    }
}

fn check(model: &str, reference: &str, isa: Isa) {
    let mut inference =
        load(model, Setup { isa, threads: 2, cache_type: CacheType::F32, lm_head: LmHeadType::Exact });
    let mut strict_positions = 0;
    for prompt in prompts(reference) {
        let context = format!("{model}, {}, {isa}", prompt.name);
        let logits = all_logits(&mut inference, &prompt.ids, 64);
        let mut loose = Loose::default();
        for (&position, expected) in prompt.positions.iter().zip(&prompt.logits) {
            let found = &logits[position];
            if prompt.strict || prompt.tie_margin[position] > STRICT_MARGIN {
                strict_positions += 1;
                let error = largest_difference(found, expected);
                let allowed = STRICT_TOLERANCE * prompt.logit_std;
                assert!(
                    error <= allowed,
                    "{context}, position {position}: off by {error:.3e} > {allowed:.3e}"
                );
            }
            loose.add(found, expected);
        }
        loose.check(&prompt, &context);
        let steps = prompt.greedy_strict_steps;
        let continuation = greedy(&mut inference, &prompt.ids, steps, logits.last().unwrap());
        assert_eq!(continuation, prompt.greedy[..steps], "{context}");
    }
    assert!(strict_positions >= 13, "{model}: only {strict_positions} strict positions");
}

fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max)
}

fn greedy(inference: &mut Inference, ids: &[u32], steps: usize, last: &[f32]) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut logits = last.to_vec();
    for step in 0..steps {
        let token = argmax(&logits) as u32;
        tokens.push(token);
        inference.forward(&[run(0, ids.len() + step, &[token])]).unwrap();
        logits = inference.logits(0).unwrap().to_vec();
    }
    tokens
}

fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap()
}

/// What correct programs agree on even where rounding has gone another way.
#[derive(Default)]
struct Loose {
    positions: usize,
    elements: usize,
    squares: f64,
    divergence: f64,
    same_argmax: usize,
}

impl Loose {
    fn add(&mut self, found: &[f32], expected: &[f32]) {
        self.positions += 1;
        self.elements += found.len();
        self.squares += found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let (p, q) = (log_softmax(expected), log_softmax(found));
        self.divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        self.same_argmax += usize::from(argmax(found) == argmax(expected));
    }

    fn check(&self, prompt: &Prompt, context: &str) {
        let rms = (self.squares / self.elements as f64).sqrt() / prompt.logit_std;
        let divergence = self.divergence / self.positions as f64;
        let agreement = self.same_argmax as f64 / self.positions as f64;
        assert!(rms <= 0.05, "{context}: rms {rms}");
        assert!(divergence <= 0.005, "{context}: KL {divergence}");
        assert!(agreement >= 0.85, "{context}: argmax agrees at {agreement}");
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    logits.iter().map(|&x| f64::from(x - max) - sum.ln()).collect()
}
