//! Each form of `lm_head` against the exact one: near it, and what they read from the file is what is there.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use super::support::{Setup, all_logits, fixture, load, open, prompts, run};
use crate::kernels::{CacheType, Isa};
use crate::logits::{Demand, Logits};
use crate::model::{ForwardError, Inference, LmHeadType, LogitRequest};

/// Tied and untied, and each type of tensor that `lm_head` can have.
const MODELS: [(&str, &str); 6] = [
    ("pico-bitnet25/model-i2_s.gguf", "pico/reference"),
    ("pico/model-i2_s.gguf", "pico/reference"),
    ("nano64/model-i2_s.gguf", "nano64/reference"),
    ("nano128/model-i2_s.gguf", "nano128/reference"),
    ("nano128/model-i2_s-q8_0.gguf", "nano128/reference-q8_0"),
    ("nano128/model-i2_s-q6_k.gguf", "nano128/reference-q6_k"),
];

fn setup(lm_head: LmHeadType) -> Setup {
    Setup { isa: Isa::best(), threads: 2, cache_type: CacheType::F32, lm_head }
}

fn inference(model: &str, lm_head: LmHeadType) -> Inference {
    load(model, setup(lm_head))
}

/// A weight is wrong by at most half of one part in 128 of the row's largest, some 1 % of a typical weight; the states before
/// `lm_head` are exact.
const RMS_TOLERANCE: f64 = 0.015;
const LEAST_AGREEMENT: f64 = 0.97;

#[test]
fn eight_bits_give_nearly_the_exact_logits_and_mostly_the_same_greedy_tokens() {
    let (mut tokens, mut same) = (0, 0);
    for (model, reference) in MODELS {
        for prompt in prompts(reference) {
            let exact = all_logits(&mut inference(model, LmHeadType::Exact), &prompt.ids, 64);
            let rounded = all_logits(&mut inference(model, LmHeadType::Q8), &prompt.ids, 64);
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
fn a_search_in_4_bits_has_the_exact_logits_and_finds_the_greatest() {
    let mut searched = 0;
    for (model, reference) in MODELS {
        let mut inference = inference(model, LmHeadType::Q4);
        for prompt in prompts(reference) {
            let expected = all_logits(&mut self::inference(model, LmHeadType::Exact), &prompt.ids, 64);
            for (position, (&token, expected)) in prompt.ids.iter().zip(&expected).enumerate() {
                inference.forward(&[run(0, position, &[token])]).unwrap();
                match inference.select(0, Some(Demand::Top(10)), [3].into_iter()).unwrap() {
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
                assert!(
                    inference.logits(0).unwrap() == expected,
                    "{model}, position {position}, all of them"
                );
            }
            let together = all_logits(&mut inference, &prompt.ids, 64);
            assert!(together == expected, "{model}: all positions at once");
        }
    }
    assert!(searched > 0, "nothing was searched");
}

/// Bits of what was found, so that they can be compared.
fn bits(logits: Logits<'_>) -> Vec<(u32, u32)> {
    match logits {
        Logits::All(logits) => (0..).zip(logits.iter().map(|logit| logit.to_bits())).collect(),
        Logits::Some(found) => found.iter().map(|found| (found.id, found.logit.to_bits())).collect(),
    }
}

#[test]
fn asking_for_many_rows_at_once_finds_what_asking_one_by_one_does() {
    let prompt: Vec<u32> = (0..20).map(|position| position * 37 % 500).collect();
    // Some want all, some the greatest, and of some nothing is asked.
    let demand = |row: usize| match row % 5 {
        0 => None,
        4 => Some(Demand::Within(2.0)),
        _ => Some(Demand::Top(3 * row + 1)),
    };
    let touched = |row: usize| [row as u32, 3];
    let asked = || (0..20).rev().filter(|row| row % 7 != 3);
    for (model, _) in [MODELS[0], MODELS[3]] {
        for head in [LmHeadType::Exact, LmHeadType::Q8, LmHeadType::Q4] {
            let mut inference = inference(model, head);
            inference.forward(&[run(0, 0, &prompt)]).unwrap();
            let expected: Vec<_> = asked()
                .map(|row| bits(inference.select(row, demand(row), touched(row).into_iter()).unwrap()))
                .collect();
            let all: Vec<_> = (0..20).map(|row| inference.logits(row).unwrap().to_vec()).collect();
            // Blocks of all logits of sixteen rows, of two, and of one.
            for rows in [16, 2, 1] {
                inference.block.limit = rows * all[0].len() * size_of::<f32>();
                let requests =
                    asked().map(|row| LogitRequest { row, demand: demand(row), touched: touched(row) });
                inference.select_all(requests).unwrap();
                for (row, expected) in asked().zip(&expected) {
                    assert!(bits(inference.found(row).unwrap()) == *expected, "{model}, {head:?}, row {row}");
                }
                // Of a row that nobody asked for there are all logits.
                assert!(inference.logits(3).unwrap() == all[3], "{model}, {head:?}");
                assert!(bits(inference.found(3).unwrap()).len() == all[3].len());
            }
        }
    }
}

/// A model file of its own, which is removed in the end.
struct Copy(PathBuf);

impl Copy {
    fn new(model: &str, name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
        fs::copy(fixture(model), &path).unwrap();
        Self(path)
    }

    /// The same file, shorter.
    fn truncate(&self) {
        OpenOptions::new().write(true).open(&self.0).unwrap().set_len(1_000).unwrap();
    }

    /// The same file, as it was.
    fn restore(&self, model: &str) {
        fs::write(&self.0, fs::read(fixture(model)).unwrap()).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn a_file_that_becomes_shorter_is_an_error_and_changes_nothing() {
    // One whose embedding is lm_head, and one with two matrices.
    for (index, model) in ["nano64/model-i2_s.gguf", "pico/model-i2_s.gguf"].into_iter().enumerate() {
        for head in [LmHeadType::Q8, LmHeadType::Q4] {
            let file = Copy::new(model, &format!("shorter-{index}-{head:?}.gguf"));
            let mut inference = open(&file.0, setup(head));
            let at = |position| [run(0, position, &[5])];
            let expected = all_logits(&mut self::inference(model, head), &[5, 5], 64);
            inference.forward(&at(0)).unwrap();

            file.truncate();
            for demand in [Some(Demand::Top(3)), None] {
                let found = inference.select(0, demand, std::iter::empty()).map(drop);
                match head {
                    LmHeadType::Q4 => {
                        let error = found.unwrap_err();
                        assert!(matches!(error, ForwardError::LmHead { .. }), "{error}");
                        assert!(error.to_string().contains("has become shorter"), "{error}");
                    }
                    // All that it needs for logits is in memory.
                    _ => found.unwrap(),
                }
            }
            let error = inference.forward(&at(1)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the embedding of token 5: tensor \"token_embd.weight\": the file has become shorter since it was opened"
            );

            file.restore(model);
            assert!(inference.logits(0).unwrap() == expected[0], "{model}, {head:?}");
            inference.forward(&at(1)).unwrap();
            assert!(inference.logits(0).unwrap() == expected[1], "{model}, {head:?}");
        }
    }
}

fn greatest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap()
}
