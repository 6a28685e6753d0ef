//! Same request, same tokens: results do not depend on how the work is divided.

use crate::support::{Setup, all_logits, load};
use bitnet_engine::kernels::{CacheType, Isa};
use bitnet_engine::model::{ForwardError, HeadType, Inference, Row};

const MODEL: &str = "nano64/model-i2_s.gguf";

fn setup(cache_type: CacheType) -> Setup {
    Setup { isa: Isa::best(), threads: 2, cache_type, head: HeadType::Exact }
}

/// 300 tokens: more than two blocks of attention, not a multiple of anything.
fn prompt() -> Vec<u32> {
    (0..300u32).map(|i| i.wrapping_mul(2_654_435_761) % 1_792).collect()
}

fn bits(logits: &[Vec<f32>]) -> Vec<Vec<u32>> {
    logits.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn logits_have_the_same_bits_for_any_chunks_threads_instruction_set() {
    for (cache_type, head) in [
        (CacheType::F16, HeadType::Exact),
        (CacheType::F32, HeadType::Exact),
        (CacheType::F16, HeadType::Q8),
        (CacheType::F16, HeadType::Q4),
    ] {
        let setup = Setup { head, ..setup(cache_type) };
        let expected = bits(&all_logits(&mut load(MODEL, setup), &prompt(), 64));
        for isa in Isa::available() {
            for (threads, chunk) in [(1, 64), (2, 1), (3, 7), (5, 33)] {
                let mut inference = load(MODEL, Setup { isa, threads, cache_type, head });
                let found = bits(&all_logits(&mut inference, &prompt(), chunk));
                assert!(
                    found == expected,
                    "{isa}, {threads} threads, chunks of {chunk}, {cache_type:?}, {head:?}"
                );
            }
        }
    }
}

#[test]
fn sequences_in_one_batch_do_not_see_each_other() {
    let first = prompt();
    let second: Vec<u32> = first.iter().rev().copied().take(170).collect();
    let alone = |ids: &[u32]| bits(&all_logits(&mut load(MODEL, setup(CacheType::F16)), ids, 64));
    let (first_alone, second_alone) = (alone(&first), alone(&second));

    let mut inference = load(MODEL, setup(CacheType::F16));
    for position in 0..first.len() {
        // Slot 0 advances one by one; slot 1 in pieces of ten, in the same forward passes.
        let row = |slot, position, token| Row { token, slot, position, logits: true };
        let mut rows = vec![row(0, position, first[position])];
        let start = position * 10;
        rows.extend((start..second.len().min(start + 10)).map(|position| row(1, position, second[position])));
        inference.forward(&rows).unwrap();
        assert!(
            bits(&[inference.logits(0).unwrap().to_vec()])[0] == first_alone[position],
            "slot 0, position {position}"
        );
        for index in 1..rows.len() {
            let found = bits(&[inference.logits(index).unwrap().to_vec()]);
            assert!(
                found[0] == second_alone[rows[index].position],
                "slot 1, position {}",
                rows[index].position
            );
        }
    }
}

#[test]
fn rewinding_a_sequence_forgets_what_followed() {
    let ids = prompt();
    let expected = bits(&all_logits(&mut load(MODEL, setup(CacheType::F16)), &ids, 64));
    let mut inference = load(MODEL, setup(CacheType::F16));
    let other: Vec<u32> = ids.iter().map(|id| (id + 5) % 1_792).collect();
    all_logits(&mut inference, &ids[..100], 64);
    let rows = |ids: &[u32], range: std::ops::Range<usize>| -> Vec<Row> {
        range.map(|position| Row { token: ids[position], slot: 0, position, logits: true }).collect()
    };
    inference.forward(&rows(&other, 100..150)).unwrap();
    inference.forward(&rows(&ids, 90..140)).unwrap();
    for index in 0..50 {
        assert!(
            bits(&[inference.logits(index).unwrap().to_vec()])[0] == expected[90 + index],
            "position {}",
            90 + index
        );
    }
}

fn error(inference: &mut Inference, rows: &[Row]) -> String {
    inference.forward(rows).unwrap_err().to_string()
}

#[test]
fn impossible_rows_are_refused_and_change_nothing() {
    let mut inference = load(MODEL, setup(CacheType::F16));
    let row = |token, slot, position| Row { token, slot, position, logits: true };
    assert_eq!(inference.forward(&[]), Err(ForwardError::Rows { rows: 0, limit: 64 }));
    assert_eq!(
        error(&mut inference, &[row(0, 0, 0), row(2_048, 0, 1)]),
        "token 2048 is not in the vocabulary of 2048"
    );
    for rows in
        [vec![row(0, 0, 1)], vec![row(0, 2, 0)], vec![row(0, 0, 0), row(0, 0, 2)], vec![row(0, 0, 512)]]
    {
        assert!(error(&mut inference, &rows).starts_with("position"), "{rows:?}");
    }
    inference.forward(&[row(0, 0, 0)]).unwrap();
}
