//! Heads of fewer bits against the exact one: near it, and each sure of its own logits.

use crate::support::{Setup, all_logits, load, prompts};
use bitnet_engine::kernels::{CacheType, Demand, Isa};
use bitnet_engine::model::{HeadType, Inference, Logits, Row};

/// Tied and untied heads, and each type of tensor that a head can have.
const MODELS: [(&str, &str); 6] = [
    ("pico-bitnet25/model-i2_s.gguf", "pico/reference"),
    ("pico/model-i2_s.gguf", "pico/reference"),
    ("nano64/model-i2_s.gguf", "nano64/reference"),
    ("nano128/model-i2_s.gguf", "nano128/reference"),
    ("nano128/model-i2_s-q8_0.gguf", "nano128/reference-q8_0"),
    ("nano128/model-i2_s-q6_k.gguf", "nano128/reference-q6_k"),
];

fn inference(model: &str, head: HeadType) -> Inference {
    load(model, Setup { isa: Isa::best(), threads: 2, cache_type: CacheType::F32, head })
}

/// A weight is wrong by half of one part in 127 of the row's largest, which is some 1 % of a typical weight. The embedding's
/// errors also move activations over rounding boundaries, as any other change does; so these are the loose tolerances of
/// the reference tests.
const RMS_TOLERANCE: f64 = 0.05;
const LEAST_AGREEMENT: f64 = 0.85;

#[test]
fn heads_of_8_bits_give_nearly_the_exact_logits_and_mostly_the_same_greedy_tokens() {
    let (mut tokens, mut same) = (0, 0);
    for (model, reference) in MODELS {
        for prompt in prompts(reference) {
            let exact = all_logits(&mut inference(model, HeadType::Exact), &prompt.ids, 64);
            let rounded = all_logits(&mut inference(model, HeadType::Q8), &prompt.ids, 64);
            let mut squares = 0.0;
            for (exact, rounded) in exact.iter().zip(&rounded) {
                squares += exact.iter().zip(rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                same += usize::from(greatest(exact) == greatest(rounded));
            }
            tokens += exact.len();
            let rms = (squares / (exact.len() * exact[0].len()) as f64).sqrt() / prompt.logit_std;
            assert!(rms <= RMS_TOLERANCE, "{model}, {}: rms {rms}", prompt.name);
        }
    }
    let agreement = same as f64 / tokens as f64;
    assert!(agreement >= LEAST_AGREEMENT, "the same token {agreement} of the time");
}

#[test]
fn a_head_searched_in_4_bits_has_the_logits_of_all_8_and_finds_the_greatest() {
    let mut searched = 0;
    for (model, reference) in MODELS {
        let mut inference = inference(model, HeadType::Q4);
        for prompt in prompts(reference) {
            let expected = all_logits(&mut self::inference(model, HeadType::Q8), &prompt.ids, 64);
            for (position, (&token, expected)) in prompt.ids.iter().zip(&expected).enumerate() {
                inference.forward(&[Row { token, slot: 0, position, logits: true }]).unwrap();
                match inference.select(0, Some(Demand::Top(10)), [3].into_iter()) {
                    Logits::All(logits) => assert!(logits == expected, "{model}, position {position}"),
                    Logits::Some(found) => {
                        searched += 1;
                        assert!(found.iter().any(|candidate| candidate.id == 3));
                        for candidate in found {
                            let expected = expected[candidate.id as usize];
                            assert_eq!(
                                candidate.logit.to_bits(),
                                expected.to_bits(),
                                "{model}, {candidate:?}"
                            );
                        }
                        let best = greatest(expected);
                        assert!(found.iter().any(|candidate| candidate.id as usize == best), "{model}");
                    }
                }
                assert!(inference.logits(0) == expected, "{model}, position {position}, all of them");
            }
        }
    }
    assert!(searched > 0, "nothing was searched");
}

fn greatest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap()
}
