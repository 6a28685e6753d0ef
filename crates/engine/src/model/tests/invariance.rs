//! Same request, same tokens: results do not depend on how the work is divided.

use super::support::{PAGES, Setup, all_logits, load, run};
use crate::kernels::{CacheType, Isa};
use crate::model::{ForwardError, Inference, LmHeadType, Run, Wanted};

const MODEL: &str = "nano64/model-i2_s.gguf";

fn setup(cache_type: CacheType) -> Setup {
    Setup { isa: Isa::best(), threads: 2, cache_type, lm_head: LmHeadType::Exact }
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
    for (cache_type, lm_head) in [
        (CacheType::F16, LmHeadType::Exact),
        (CacheType::F32, LmHeadType::Exact),
        (CacheType::F16, LmHeadType::Q8),
        (CacheType::F16, LmHeadType::Q4),
    ] {
        let setup = Setup { lm_head, ..setup(cache_type) };
        let expected = bits(&all_logits(&mut load(MODEL, setup), &prompt(), 64));
        for isa in Isa::available() {
            for (threads, chunk) in [(1, 64), (2, 1), (3, 7), (5, 33)] {
                let mut inference = load(MODEL, Setup { isa, threads, cache_type, lm_head });
                let found = bits(&all_logits(&mut inference, &prompt(), chunk));
                assert!(
                    found == expected,
                    "{isa}, {threads} threads, chunks of {chunk}, {cache_type:?}, {lm_head:?}"
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
        // One advances token by token; the other in pieces of ten, in the same forward passes.
        let mut runs = vec![run(0, position, &first[position..=position])];
        let start = position * 10;
        let piece = start..second.len().min(start + 10);
        if !piece.is_empty() {
            runs.push(run(1, start, &second[piece.clone()]));
        }
        inference.forward(&runs).unwrap();
        assert!(
            bits(&[inference.logits(0).unwrap().to_vec()])[0] == first_alone[position],
            "the first, position {position}"
        );
        for (index, position) in (1..).zip(piece) {
            let found = bits(&[inference.logits(index).unwrap().to_vec()]);
            assert!(found[0] == second_alone[position], "the second, position {position}");
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
    inference.forward(&[run(0, 100, &other[100..150])]).unwrap();
    inference.forward(&[run(0, 90, &ids[90..140])]).unwrap();
    for index in 0..50 {
        assert!(
            bits(&[inference.logits(index).unwrap().to_vec()])[0] == expected[90 + index],
            "position {}",
            90 + index
        );
    }
}

fn error(inference: &mut Inference, runs: &[Run<'_>]) -> String {
    inference.forward(runs).unwrap_err().to_string()
}

#[test]
fn impossible_runs_are_refused() {
    let mut inference = load(MODEL, setup(CacheType::F16));
    assert_eq!(inference.forward(&[]), Err(ForwardError::Rows { rows: 0, limit: 64 }));
    let long = [0; 65];
    assert_eq!(inference.forward(&[run(0, 0, &long)]), Err(ForwardError::Rows { rows: 65, limit: 64 }));
    assert_eq!(inference.forward(&[run(0, 0, &[])]), Err(ForwardError::Empty));
    assert_eq!(
        error(&mut inference, &[run(0, 0, &[0, 2_048])]),
        "token 2048 is not in the vocabulary of 2048"
    );
    for (start, position) in [(512, 512), (500, 512), (usize::MAX, usize::MAX)] {
        let refused = Err(ForwardError::Position { position, room: 512 });
        assert_eq!(inference.forward(&[run(0, start, &long[..13])]), refused, "{start}");
    }
    let few = Run { pages: &PAGES[0][..1], ..run(0, 120, &long[..9]) };
    assert_eq!(inference.forward(&[few]), Err(ForwardError::Position { position: 128, room: 128 }));
    let missing = Run { pages: &[0, 8], ..run(0, 0, &[0]) };
    assert_eq!(inference.forward(&[missing]), Err(ForwardError::NoPage { page: 8, pages: 8 }));
}

#[test]
fn a_page_cannot_be_written_twice_in_a_forward_pass() {
    let ids = prompt();
    let mut inference = load(MODEL, setup(CacheType::F16));
    inference.forward(&[run(0, 0, &ids[..20])]).unwrap();
    // The same position, one that follows, one before.
    for start in [20, 21, 3] {
        let runs = [run(0, 20, &ids[20..21]), run(1, 0, &ids[..2]), run(0, start, &ids[20..21])];
        assert_eq!(inference.forward(&runs), Err(ForwardError::PageTwice { page: PAGES[0][0] }));
    }
    // Nothing was stored by them.
    let expected = bits(&all_logits(&mut load(MODEL, setup(CacheType::F16)), &ids[..21], 64));
    inference.forward(&[run(0, 20, &ids[20..21])]).unwrap();
    assert!(bits(&[inference.logits(0).unwrap().to_vec()])[0] == expected[20]);
}

#[test]
fn sequences_may_share_pages_and_go_on_from_copies() {
    let first = prompt();
    let second = [&first[..200], &[7; 60]].concat();
    let expected = [&first[..260], &second]
        .map(|ids| bits(&all_logits(&mut load(MODEL, setup(CacheType::F16)), ids, 64)));

    let mut inference = load(MODEL, setup(CacheType::F16));
    all_logits(&mut inference, &first[..200], 64);
    // The first page is full; of the second 72 positions.
    inference.copy_page(PAGES[0][1], PAGES[1][1]);
    let shared = [PAGES[0][0], PAGES[1][1], PAGES[1][2]];
    for position in 200..260 {
        let runs = [
            run(0, position, &first[position..=position]),
            Run { pages: &shared, ..run(0, position, &second[position..=position]) },
        ];
        inference.forward(&runs).unwrap();
        for (sequence, expected) in expected.iter().enumerate() {
            let found = bits(&[inference.logits(sequence).unwrap().to_vec()]);
            assert!(found[0] == expected[position], "sequence {sequence}, position {position}");
        }
    }
}

#[test]
fn logits_come_in_the_order_of_the_runs_for_the_tokens_that_want_them() {
    let ids = prompt();
    let expected = bits(&all_logits(&mut load(MODEL, setup(CacheType::F16)), &ids[..40], 64));
    let mut inference = load(MODEL, setup(CacheType::F16));
    inference.forward(&[Run { logits: Wanted::None, ..run(1, 0, &ids[..10]) }]).unwrap();
    inference
        .forward(&[Run { logits: Wanted::Last, ..run(0, 0, &ids[..30]) }, run(1, 10, &ids[10..14])])
        .unwrap();
    for (index, position) in [29, 10, 11, 12, 13].into_iter().enumerate() {
        assert!(bits(&[inference.logits(index).unwrap().to_vec()])[0] == expected[position], "{index}");
    }
}

#[test]
fn logits_of_many_rows_take_the_memory_of_a_block_whatever_is_asked_first() {
    const VOCABULARY: usize = 2_048;
    let ids = prompt();
    for lm_head in [LmHeadType::Exact, LmHeadType::Q8, LmHeadType::Q4] {
        let setup = Setup { lm_head, ..setup(CacheType::F16) };
        let expected = bits(&all_logits(&mut load(MODEL, setup), &ids[..50], 64));
        // Less than a row, a row, three rows and a half, and more than there are.
        for (limit, rows) in [(0, 1), (4 * VOCABULARY, 1), (14 * VOCABULARY, 3), (1 << 30, 50)] {
            let mut inference = load(MODEL, setup);
            inference.block.limit = limit;
            inference.forward(&[run(0, 0, &ids[..50])]).unwrap();
            for index in [49, 0, 1, 2, 3, 48, 20] {
                let found = bits(&[inference.logits(index).unwrap().to_vec()]);
                assert!(found[0] == expected[index], "{lm_head:?}, {limit} bytes, row {index}");
            }
            assert!(
                inference.block.values.capacity() <= rows * VOCABULARY,
                "{lm_head:?}: {} logits for a limit of {limit} bytes",
                inference.block.values.capacity()
            );
        }
    }
}
