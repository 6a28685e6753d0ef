//! Every instruction set against the scalar definition, bit for bit.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::pool::Pool;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

/// A product of ternary weights `[rows, columns]` with int8 activations `[tokens, columns]`.
#[derive(Clone, Debug)]
struct Case {
    columns: usize,
    weights: Vec<i8>,
    tokens: Vec<(Vec<i8>, f32)>,
}

impl Case {
    fn activations(&self) -> Activations {
        let mut x = Activations::with_capacity(self.tokens.len(), self.columns).unwrap();
        x.set(&self.tokens);
        x
    }

    /// The product in the plainest words.
    fn expected(&self, scale: f32) -> Vec<Vec<f32>> {
        let dot =
            |row: &[i8], x: &[i8]| row.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>();
        let token = |(x, x_scale): &(Vec<i8>, f32)| {
            self.weights.chunks(self.columns).map(|row| dot(row, x) as f32 * (scale * x_scale)).collect()
        };
        self.tokens.iter().map(token).collect()
    }

    fn check(&self) {
        let scale = 0.625;
        let rows = self.weights.len() / self.columns;
        let expected = self.expected(scale);
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut pool = pool(threads);
                let w = TernaryMatrix::from_weights(&mut pool, &self.weights, self.columns, scale).unwrap();
                let mut out = Rows::with_capacity(self.tokens.len(), rows).unwrap();
                out.set_rows(self.tokens.len());
                matmul(&mut pool, isa, &w, &self.activations(), &mut out);
                for (token, expected) in expected.iter().enumerate() {
                    assert_eq!(out.row(token), expected, "{isa}, {threads} threads, token {token}");
                    assert!(out.padded(token)[rows..].iter().all(|&x| x == 0.0), "padding");
                }
            }
        }
    }
}

/// Weights and activations that are random, or at the ends of their ranges.
fn case() -> impl Strategy<Value = Case> {
    let tokens = prop_oneof![1..=9usize, 1..=70usize];
    (1..=70usize, 1..=600usize, tokens, any::<bool>()).prop_flat_map(|(rows, columns, tokens, extreme)| {
        let weight = if extreme { prop_oneof![Just(-1i8), Just(1)].boxed() } else { (-1..=1i8).boxed() };
        let code = if extreme { prop_oneof![Just(-128i8), Just(127)].boxed() } else { any::<i8>().boxed() };
        let token = (prop::collection::vec(code, columns), 1e-6..1e3f32);
        (prop::collection::vec(weight, rows * columns), prop::collection::vec(token, tokens))
            .prop_map(move |(weights, tokens)| Case { columns, weights, tokens })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ternary_products_are_exact_on_every_instruction_set(case in case()) {
        case.check();
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    for columns in [6_912, 8_640, 100_000] {
        for weight in [-1, 1] {
            for code in [-128, -127, 127] {
                for tokens in (1..=9).chain([33]).filter(|&tokens| tokens < 4 || columns < 100_000) {
                    let tokens = vec![(vec![code; columns], 1.0); tokens];
                    Case { columns, weights: vec![weight; columns], tokens }.check();
                }
            }
        }
    }
}

#[test]
fn more_tokens_than_a_block_give_the_same_rows_as_one_by_one() {
    let columns = 530;
    let weights = (0..40 * columns).map(|i| ((i * 7 + i / 11) % 3) as i8 - 1).collect();
    let token = |t: usize| ((0..columns).map(|i| (i * 31 + t * 17) as u8 as i8).collect(), 1.0);
    Case { columns, weights, tokens: (0..300).map(token).collect() }.check();
}

/// Rows with ordinary, tiny, huge and special values.
fn float_rows(rows: usize, columns: usize) -> Rows {
    let mut x = Rows::with_capacity(rows, columns).unwrap();
    x.set_rows(rows);
    for row in 0..rows {
        for (i, value) in x.row_mut(row).iter_mut().enumerate() {
            let spread = [1.0, 1e-6, 3e4, 0.0][row % 4];
            *value = (((i * 2_654_435_761 + row * 97) % 2_003) as f32 - 1_001.0) / 517.0 * spread;
        }
    }
    x
}

#[test]
fn norms_and_codes_are_the_same_on_every_instruction_set() {
    for columns in [1, 15, 16, 100, 640, 2560] {
        let weight =
            PaddedVector::from((0..columns).map(|i| 0.5 + (i % 13) as f32 * 0.1).collect::<Vec<_>>());
        let quantized = |isa, rows| {
            let mut out = Activations::with_capacity(9, columns).unwrap();
            norm_quantize(&mut pool(2), isa, &float_rows(rows, columns), &weight, 1e-5, &mut out);
            (0..rows).map(|row| (out.codes(row), out.scale(row).to_bits())).collect::<Vec<_>>()
        };
        let normed = |isa| {
            let mut x = float_rows(9, columns);
            norm(isa, &mut x, &weight, 1e-5);
            (0..9).flat_map(|row| x.padded(row).to_vec()).map(f32::to_bits).collect::<Vec<_>>()
        };
        for isa in Isa::available() {
            let expected = quantized(Isa::SCALAR, 9);
            for rows in 1..=9 {
                assert_eq!(quantized(isa, rows), expected[..rows], "{isa}, {columns} columns, {rows} rows");
            }
            assert_eq!(normed(isa), normed(Isa::SCALAR), "{isa}, {columns} columns");
        }
    }
}

#[test]
fn codes_follow_the_definition() {
    let mut x = Rows::with_capacity(1, 4).unwrap();
    x.set_rows(1);
    x.row_mut(0).copy_from_slice(&[3.1, -6.0, 0.0, 1.5]);
    let mut out = Activations::with_capacity(1, 4).unwrap();
    norm_quantize(&mut pool(1), Isa::best(), &x, &vec![1.0; 4].into(), 0.0, &mut out);
    // 127 / 6 times each.
    assert_eq!(out.codes(0), [66, -127, 0, 32]);
    x.row_mut(0).fill(0.0);
    norm_quantize(&mut pool(1), Isa::best(), &x, &vec![1.0; 4].into(), 1e-5, &mut out);
    assert_eq!((out.codes(0), out.scale(0)), (vec![0; 4], 1e-5 / 127.0));
}

#[test]
fn gated_products_are_the_same_on_every_instruction_set_and_close_to_the_formula() {
    let (rows, columns) = (23, 96);
    let part =
        |seed: usize| (0..16 * columns).map(|i| ((i * 5 + i / 7 + seed) % 3) as i8 - 1).collect::<Vec<_>>();
    // Gate rows and up rows interleaved by sixteen, as `TernaryMatrix::interleave` lays them out.
    let weights: Vec<i8> = [part(0), part(1), part(2), part(5)].concat();
    let x = float_rows(3, columns);
    for activation in [Activation::ReluSquared, Activation::Silu] {
        let gated = |isa| {
            let mut pool = pool(2);
            let w = TernaryMatrix::from_weights(&mut pool, &weights, columns, 0.01).unwrap();
            let mut codes = Activations::with_capacity(3, columns).unwrap();
            norm_quantize(&mut pool, isa, &x, &vec![1.0; columns].into(), 1e-5, &mut codes);
            let (mut plain, mut out) =
                (Rows::with_capacity(3, 64).unwrap(), Rows::with_capacity(3, rows).unwrap());
            plain.set_rows(3);
            out.set_rows(3);
            matmul(&mut pool, isa, &w, &codes, &mut plain);
            matmul_gated(&mut pool, isa, &w, &codes, &mut out, activation);
            (plain, out)
        };
        let (plain, expected) = gated(Isa::SCALAR);
        for token in 0..3 {
            for (i, &found) in expected.row(token).iter().enumerate() {
                let (gate, up) =
                    (plain.row(token)[i / 16 * 32 + i % 16], plain.row(token)[i / 16 * 32 + 16 + i % 16]);
                let activated = match activation {
                    Activation::ReluSquared => gate.max(0.0).powi(2),
                    Activation::Silu => gate / (1.0 + (-gate).exp()),
                };
                assert!(
                    (found - activated * up).abs() <= 1e-6 * (activated * up).abs(),
                    "{found} at {token}, {i}"
                );
            }
        }
        for isa in Isa::available() {
            let (_, found) = gated(isa);
            for token in 0..3 {
                assert_eq!(found.padded(token), expected.padded(token), "{isa}");
            }
        }
    }
}

#[test]
fn the_exponential_is_accurate_and_limited() {
    struct Exponential(f32);
    impl isa::Kernel for Exponential {
        type Output = f32;

        #[inline(always)]
        fn run<S: lanes::Simd>(self, simd: S) -> f32 {
            exp::exp_one(simd, self.0)
        }
    }
    for isa in Isa::available() {
        for i in -8_700..=8_800 {
            let x = i as f32 / 100.0;
            let (found, expected) = (f64::from(isa.run(Exponential(x))), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "e^{x} is {expected}, not {found}");
        }
        assert_eq!(isa.run(Exponential(f32::NEG_INFINITY)), isa.run(Exponential(-87.0)));
        assert_eq!(isa.run(Exponential(f32::INFINITY)), isa.run(Exponential(88.0)));
        assert_eq!(isa.run(Exponential(0.0)), 1.0);
    }
}
