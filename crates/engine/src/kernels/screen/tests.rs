//! The search against computing everything.

use std::num::NonZeroUsize;

use super::*;
use crate::kernels::{FloatMatrix, Isa, Rows, logits};
use crate::pool::Pool;

/// Reproducible noise in -1..1, roughly normal where it matters.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.next()).sum()
    }
}

struct Head {
    exact: FloatMatrix,
    screen: Screen,
    columns: usize,
}

fn pool() -> Pool {
    Pool::new(NonZeroUsize::new(2).unwrap()).unwrap()
}

fn head(isa: Isa, columns: usize, values: &[f32]) -> Head {
    let exact = FloatMatrix::from_f32(values, columns).unwrap();
    let read = |first: usize, out: &mut [f32]| {
        out.copy_from_slice(&values[first * columns..][..out.len()]);
        Ok(())
    };
    let screen = Screen::build(&mut pool(), isa, values.len() / columns, columns, read).unwrap();
    Head { exact, screen, columns }
}

impl Head {
    fn all(&self, isa: Isa, x: &Rows) -> Vec<f32> {
        let mut out = vec![0.0; self.exact.rows()];
        logits(&mut pool(), isa, &self.exact, x, &mut out);
        out
    }

    /// Every candidate has its exact logit, and nothing that `demand` asks for is missing.
    fn check(&self, isa: Isa, x: &[f32], demand: Demand, touched: &[u32]) -> usize {
        let mut rows = Rows::with_capacity(1, self.columns).unwrap();
        rows.set_rows(1);
        rows.row_mut(0).copy_from_slice(x);
        let all = self.all(isa, &rows);
        let mut search = Search::default();
        let matrices = (&self.exact, &self.screen);
        let ids = touched.iter().copied();
        if !search.run(&mut pool(), isa, matrices, (&rows, 0), demand, ids) {
            return usize::MAX;
        }
        let found = search.candidates();
        assert!(found.is_sorted_by_key(|candidate| candidate.id));
        for candidate in found {
            assert_eq!(candidate.logit.to_bits(), all[candidate.id as usize].to_bits(), "{candidate:?}");
        }
        let has = |id: u32| found.binary_search_by_key(&id, |candidate| candidate.id).is_ok();
        let mut others: Vec<u32> = (0..all.len() as u32).filter(|id| !touched.contains(id)).collect();
        others.sort_by(|&a, &b| all[b as usize].total_cmp(&all[a as usize]).then(a.cmp(&b)));
        let best = all[others[0] as usize];
        let wanted = others.iter().enumerate().filter(|&(rank, &id)| match demand {
            Demand::Top(count) => rank < count,
            Demand::Within(distance) => all[id as usize] >= best - distance,
        });
        for (rank, &id) in wanted {
            assert!(has(id), "{isa}: {id}, which is number {rank} with {}, is missing", all[id as usize]);
        }
        assert!(touched.iter().all(|&id| id as usize >= all.len() || has(id)));
        found.len()
    }
}

fn normal(noise: &mut Noise, count: usize) -> Vec<f32> {
    (0..count).map(|_| noise.normal()).collect()
}

#[test]
fn nothing_that_matters_is_missing_on_random_rows_and_few_others_remain() {
    let (rows, columns) = (6_000, 320);
    let mut noise = Noise(1);
    let values = normal(&mut noise, rows * columns);
    for isa in Isa::available() {
        let head = head(isa, columns, &values);
        for _ in 0..3 {
            let mut x = normal(&mut noise, columns);
            for outliers in 0..3 {
                let greedy = head.check(isa, &x, Demand::Top(1), &[]);
                assert!(greedy < 60, "{greedy} rows remain for the greatest, with {outliers} outliers");
                let top = head.check(isa, &x, Demand::Top(40), &[5, 17, 100_000]);
                assert!(top < 600, "{top} rows remain for the greatest forty, with {outliers} outliers");
                head.check(isa, &x, Demand::Within(3.0), &[3]);
                x[outliers * 7] = 300.0;
            }
        }
    }
}

#[test]
fn nothing_that_matters_is_missing_on_adversarial_rows() {
    let (rows, columns) = (2_000, 70);
    let mut noise = Noise(2);
    let mut values = Vec::new();
    let base = normal(&mut noise, columns);
    for row in 0..rows {
        match row % 5 {
            // Nearly equal rows, whose products differ in the last digits.
            0 => values.extend(base.iter().map(|x| x + noise.next() * 1e-6)),
            // One element that takes the whole range of the codes.
            1 => values
                .extend((0..columns).map(|i| if i == row % columns { 90.0 } else { noise.next() * 0.3 })),
            2 => values.extend((0..columns).map(|_| noise.next() * 10f32.powi(row as i32 % 60 - 30))),
            3 => values.extend(std::iter::repeat_n(0.0, columns)),
            _ => values.extend(normal(&mut noise, columns)),
        }
    }
    for (row, value) in [(4, f32::INFINITY), (9, f32::NAN), (14, f32::NEG_INFINITY), (19, 1e30), (24, 1e-40)]
    {
        values[row * columns + 3] = value;
    }
    for isa in Isa::available() {
        let head = head(isa, columns, &values);
        for x in [base.clone(), normal(&mut noise, columns), vec![1e-20; columns], vec![1.0; columns]] {
            for demand in [Demand::Top(1), Demand::Top(10), Demand::Within(0.5)] {
                // A logit that is not a number has no place in an order; the search keeps it as a candidate.
                let finite: Vec<u32> = vec![4, 9, 14];
                head.check(isa, &x, demand, &finite);
            }
        }
    }
}

#[test]
fn without_a_usable_answer_everything_must_be_computed() {
    let columns = 64;
    let head = head(Isa::best(), columns, &normal(&mut Noise(3), 1_000 * columns));
    let zero = vec![0.0; columns];
    assert_eq!(head.check(Isa::best(), &zero, Demand::Top(1), &[]), usize::MAX);
    let mut infinite = zero;
    infinite[0] = f32::INFINITY;
    assert_eq!(head.check(Isa::best(), &infinite, Demand::Top(1), &[]), usize::MAX);
    let x = normal(&mut Noise(4), columns);
    assert_eq!(head.check(Isa::best(), &x, Demand::Top(500), &[]), usize::MAX);
    assert_eq!(head.check(Isa::best(), &x, Demand::Within(1e9), &[]), usize::MAX);
}

#[test]
fn half_code_sums_are_the_same_on_every_instruction_set() {
    struct Sums<'a>(&'a [NibbleTile], &'a [WideQuad]);
    impl crate::kernels::isa::Kernel for Sums<'_> {
        type Output = NibbleSums;

        #[inline(always)]
        fn run<S: crate::kernels::simd::Simd>(self, simd: S) -> NibbleSums {
            let mut sums = NibbleSums::default();
            simd.dot_nibbles(self.0, self.1, &mut sums);
            sums
        }
    }
    let mut noise = Noise(5);
    for tiles in [1, 3, 4, 5, 320, 1_000] {
        for extreme in [false, true] {
            let noise = std::cell::RefCell::new(&mut noise);
            let byte = || if extreme { 255 } else { (noise.borrow_mut().next() * 1e6) as i64 as u8 };
            let data: Vec<_> = (0..tiles).map(|_| NibbleTile([(); 64].map(|()| byte()))).collect();
            let quad = || [(); 4].map(|()| if extreme { -128 } else { byte() as i8 });
            let x: Vec<_> = (0..2 * tiles).map(|_| WideQuad { high: quad(), low: quad() }).collect();
            for isa in Isa::available() {
                assert_eq!(
                    isa.run(Sums(&data, &x)),
                    Isa::SCALAR.run(Sums(&data, &x)),
                    "{isa}, {tiles} tiles"
                );
            }
        }
    }
}
