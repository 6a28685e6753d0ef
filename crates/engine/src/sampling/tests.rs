use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::logits::{Candidate, Demand, Logits};

/// Every token with the probability that its logit says.
fn plain() -> SamplingParameters {
    SamplingParameters { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingParameters::default() }
}

fn greedy() -> SamplingParameters {
    SamplingParameters { temperature: 0.0, ..SamplingParameters::default() }
}

/// Logits of these probabilities.
fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|probability| probability.ln()).collect()
}

/// How often each of the tokens is chosen in `draws` draws.
fn counts(parameters: &SamplingParameters, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut sampler = Sampler::new(parameters);
    let mut counts = vec![0; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(Logits::All(logits)).unwrap() as usize] += 1;
    }
    counts
}

/// Checks that tokens are chosen with these probabilities, by a chi-squared test that chance fails once in ten million times.
fn check_frequencies(parameters: &SamplingParameters, logits: &[f32], expected: &[f64]) {
    let draws = 100_000;
    let counts = counts(parameters, logits, draws);
    let mut chi_squared = 0.0;
    for (&count, &probability) in counts.iter().zip(expected) {
        if probability == 0.0 {
            assert_eq!(count, 0, "{counts:?}");
        } else {
            let mean = probability * draws as f64;
            chi_squared += (count as f64 - mean).powi(2) / mean;
        }
    }
    assert!(chi_squared < 40.0, "{chi_squared}: {counts:?} for {expected:?}");
}

const PROBABILITIES: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

#[test]
fn tokens_are_as_frequent_as_they_are_probable() {
    let logits = logits_of(&PROBABILITIES);
    for seed in 0..3 {
        let parameters = SamplingParameters { seed, ..plain() };
        check_frequencies(&parameters, &logits, &[0.1, 0.4, 0.05, 0.25, 0.2]);
    }
}

#[test]
fn top_k_top_p_and_min_p_leave_the_best_tokens_in_proportion() {
    let logits = logits_of(&PROBABILITIES);
    let check = |parameters: SamplingParameters, expected: [f64; 5]| {
        check_frequencies(&parameters, &logits, &expected);
    };
    let best_three = [0.0, 0.4 / 0.85, 0.0, 0.25 / 0.85, 0.2 / 0.85];
    check(SamplingParameters { top_k: 3, ..plain() }, best_three);
    check(SamplingParameters { top_p: 0.8, ..plain() }, best_three);
    check(SamplingParameters { min_p: 0.45, ..plain() }, best_three);
    // Half of what top_k leaves, not half of everything.
    check(SamplingParameters { top_k: 2, top_p: 0.5, ..plain() }, [0.0, 1.0, 0.0, 0.0, 0.0]);
    check(SamplingParameters { top_p: 0.0, ..plain() }, [0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn temperature_acts_after_the_cuts() {
    let logits = logits_of(&PROBABILITIES);
    let squares: f64 = [0.4_f64, 0.25, 0.2].iter().map(|probability| probability.powi(2)).sum();
    let expected = [0.0, 0.16 / squares, 0.0, 0.0625 / squares, 0.04 / squares];
    check_frequencies(&SamplingParameters { temperature: 0.5, top_p: 0.8, ..plain() }, &logits, &expected);
}

#[test]
fn bias_and_penalties_act_before_the_cuts() {
    let logits = logits_of(&PROBABILITIES);
    let bias = BTreeMap::from([(1, f32::NEG_INFINITY), (2, 11.0), (99, 5.0)]);
    assert_eq!(counts(&SamplingParameters { logit_bias: bias, ..greedy() }, &logits, 3), [0, 0, 3, 0, 0]);

    let mut sampler =
        Sampler::new(&SamplingParameters { presence_penalty: 1.0, repeat_last_n: 2, ..greedy() });
    let chosen = [(); 6].map(|()| {
        let token = sampler.sample(Logits::All(&logits)).unwrap();
        sampler.accept(token);
        token
    });
    assert_eq!(chosen, [1, 3, 4, 1, 3, 4]);
}

#[test]
fn equal_logits_go_to_the_lower_id() {
    let mut sampler = Sampler::new(&greedy());
    assert_eq!(sampler.sample(Logits::All(&[0.0, 7.0, 7.0, -1.0])), Ok(1));
    assert_eq!(sampler.sample(Logits::All(&[-0.0, 0.0])), Ok(0));
    let top_1 = SamplingParameters { top_k: 1, ..plain() };
    assert_eq!(counts(&top_1, &[1.0; 500], 9)[0], 9);
}

#[test]
fn infinite_logits_win_and_missing_ones_are_an_error() {
    for parameters in [plain(), greedy(), SamplingParameters::default()] {
        let mut sampler = Sampler::new(&parameters);
        assert_eq!(sampler.sample(Logits::All(&[1.0, f32::INFINITY, f32::NAN])), Ok(1));
        assert_eq!(sampler.sample(Logits::All(&[f32::NAN, f32::NEG_INFINITY])), Err(NoTokenLeft));
        assert_eq!(sampler.sample(Logits::All(&[])), Err(NoTokenLeft));
    }
}

#[test]
fn a_seed_gives_the_same_tokens_for_ever() {
    let logits: Vec<f32> = (0..1000).map(|id| ((id * 7919) % 1000) as f32 / 200.0).collect();
    let draw = |seed| {
        let mut sampler =
            Sampler::new(&SamplingParameters { seed, top_k: 0, ..SamplingParameters::default() });
        [(); 8].map(|()| sampler.sample(Logits::All(&logits)).unwrap())
    };
    assert_eq!(draw(42), draw(42));
    assert_ne!(draw(42), draw(43));
    assert_eq!(draw(42), [805, 988, 371, 186, 247, 658, 519, 682]);
}

#[test]
fn a_vocabulary_of_full_size_is_sampled_quickly() {
    let logits: Vec<f32> =
        (0..128_256_u32).map(|id| (id.wrapping_mul(2_654_435_761) >> 16) as f32 / 4096.0).collect();
    let biased = SamplingParameters {
        logit_bias: BTreeMap::from([(5, 1.0)]),
        repeat_penalty: 1.1,
        ..SamplingParameters::default()
    };
    let nucleus = SamplingParameters { top_k: 0, min_p: 0.0, ..SamplingParameters::default() };
    let cases = [
        ("greedy", greedy()),
        ("default", SamplingParameters::default()),
        ("biased", biased),
        ("nucleus", nucleus),
    ];
    for (name, parameters) in cases {
        let mut sampler = Sampler::new(&parameters);
        let start = Instant::now();
        for _ in 0..20 {
            let token = sampler.sample(Logits::All(&logits)).unwrap();
            sampler.accept(token);
        }
        println!("{name}: {:?} a token", start.elapsed() / 20);
        assert!(start.elapsed().as_secs() < 5, "{name}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    let _ = log_probabilities(&logits, 0, 20);
    println!("log probabilities: {:?}", start.elapsed());
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit =
        prop_oneof![9 => -20.0..20.0_f32, 1 => prop::sample::select(vec![f32::NAN, f32::NEG_INFINITY, 0.0])];
    prop::collection::vec(logit, 1..200)
}

prop_compose! {
    fn any_parameters()(
        temperature in 0.0..3.0_f32, top_k in 0..50_usize, top_p in 0.0..=1.0_f32, min_p in 0.0..=1.0_f32,
        repeat_penalty in 0.5..2.0_f32, penalties in (-2.0..2.0_f32, -2.0..2.0_f32), seed: u64,
        logit_bias in prop::collection::btree_map(0..200_u32, prop_oneof![Just(f32::NEG_INFINITY), -9.0..9.0_f32], 0..9),
    ) -> SamplingParameters {
        let (presence_penalty, frequency_penalty) = penalties;
        SamplingParameters {
            temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n: 8, presence_penalty, frequency_penalty,
            logit_bias, seed,
        }
    }
}

proptest! {
    #[test]
    fn forbidden_tokens_and_those_without_a_number_are_never_chosen(
        logits in any_logits(), parameters in any_parameters(), prompt in prop::collection::vec(0..250_u32, 0..20)
    ) {
        prop_assert_eq!(parameters.validate(), Ok(()));
        let forbidden = |id: usize| {
            let bias = parameters.logit_bias.get(&(id as u32));
            logits[id].is_nan() || [Some(&logits[id]), bias].contains(&Some(&f32::NEG_INFINITY))
        };
        let mut sampler = Sampler::new(&parameters);
        for &token in &prompt {
            sampler.accept(token);
        }
        for _ in 0..10 {
            match sampler.sample(Logits::All(&logits)) {
                Ok(token) => {
                    prop_assert!(!forbidden(token as usize));
                    sampler.accept(token);
                }
                Err(NoTokenLeft) => prop_assert!((0..logits.len()).all(forbidden)),
            }
        }
    }

    #[test]
    fn one_candidate_is_the_greedy_choice(logits in any_logits(), parameters in any_parameters()) {
        let sample = |parameters: SamplingParameters| Sampler::new(&parameters).sample(Logits::All(&logits));
        let expected = sample(SamplingParameters { temperature: 0.0, ..parameters.clone() });
        prop_assert_eq!(sample(SamplingParameters { top_k: 1, ..parameters.clone() }), expected);
        prop_assert_eq!(sample(SamplingParameters { top_p: 0.0, ..parameters.clone() }), expected);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens(logits in any_logits(), parameters in any_parameters()) {
        let draw = || {
            let mut sampler = Sampler::new(&parameters);
            [(); 10].map(|()| sampler.sample(Logits::All(&logits)).inspect(|&token| sampler.accept(token)))
        };
        prop_assert_eq!(draw(), draw());
    }
}

/// What a search for `sampler`'s demand finds, and some more.
fn found(sampler: &Sampler, logits: &[f32], more: usize) -> Option<Vec<Candidate>> {
    let touched: Vec<u32> = sampler.touched().collect();
    let mut others: Vec<u32> = (0..logits.len() as u32).filter(|id| !touched.contains(id)).collect();
    others.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    let best = logits[*others.first()? as usize];
    let wanted = match sampler.demand()? {
        Demand::Top(count) => count,
        Demand::Within(distance) => others.partition_point(|&id| logits[id as usize] >= best - distance),
    };
    others.truncate(wanted + more);
    let ids = others.into_iter().chain(touched.into_iter().filter(|&id| (id as usize) < logits.len()));
    let mut found: Vec<_> = ids.map(|id| Candidate { id, logit: logits[id as usize] }).collect();
    found.sort_by_key(|candidate| candidate.id);
    found.dedup_by_key(|candidate| candidate.id);
    Some(found)
}

proptest! {
    #[test]
    fn the_logits_in_demand_give_the_same_tokens_as_all(
        logits in prop::collection::vec(prop_oneof![-9.0..9.0_f32, (-4_i8..4).prop_map(f32::from)], 1..200),
        (temperature, top_k) in (prop::sample::select(vec![0.0, 0.7, 1.3_f32]), 0..50_usize),
        (top_p, min_p) in (prop::sample::select(vec![0.5, 0.95, 1.0_f32]), prop::sample::select(vec![0.0, 0.05, 0.4_f32])),
        (repeat_penalty, presence_penalty) in (0.5..2.0_f32, -1.0..1.0_f32),
        logit_bias in prop::collection::btree_map(0..220_u32, prop_oneof![Just(f32::NEG_INFINITY), -5.0..5.0_f32], 0..4),
        more in 0..9_usize,
        seed in any::<u64>(),
    ) {
        let parameters = SamplingParameters {
            temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, logit_bias, seed,
            ..SamplingParameters::default()
        };
        let (mut all, mut some) = (Sampler::new(&parameters), Sampler::new(&parameters));
        for _ in 0..12 {
            let expected = all.sample(Logits::All(&logits));
            let Some(found) = found(&some, &logits, more) else { break };
            prop_assert_eq!(some.sample(Logits::Some(&found)), expected);
            let Ok(token) = expected else { break };
            all.accept(token);
            some.accept(token);
        }
    }
}
