//! The search against computing everything.

use super::{Noise, exact, normal, pool, rounded, rows};
use crate::kernels::Isa;
use crate::kernels::lm_head::{
    Int4Matrix, Int8Matrix, Request, RowOf, Select, ShortCopy, candidate_logits, logits,
};
use crate::logits::{Candidate, Demand};

struct LmHead<'a> {
    values: &'a [f32],
    int8: Int8Matrix,
    int4: Int4Matrix,
    columns: usize,
}

/// Which copy is searched.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Int8,
    Int4,
}

fn lm_head(isa: Isa, columns: usize, values: &[f32]) -> LmHead<'_> {
    let (int8, int4) = (rounded(isa, 2, columns, values), rounded(isa, 2, columns, values));
    LmHead { values, int8, int4, columns }
}

impl LmHead<'_> {
    /// Every candidate has the logit that computing all gives, and nothing that `demand` asks for is missing.
    /// Returns how many there are, or `usize::MAX` when all have to be computed.
    fn check(&self, form: Form, isa: Isa, x: &[f32], demand: Demand, touched: &[u32]) -> usize {
        let (found, all) = self.search(form, isa, x, demand, touched);
        let Some(found) = found else { return usize::MAX };
        let has = |id: u32| found.binary_search_by_key(&id, |candidate| candidate.id).is_ok();
        for (rank, id) in wanted(&all, demand, touched).enumerate() {
            assert!(has(id), "{isa}, {form:?}: {id}, number {rank} with {}, is missing", all[id as usize]);
        }
        found.len()
    }

    /// The candidates, which are sorted and have the right logits, and all logits.
    fn search(
        &self,
        form: Form,
        isa: Isa,
        x: &[f32],
        demand: Demand,
        touched: &[u32],
    ) -> (Option<Vec<Candidate>>, Vec<f32>) {
        // Beside it others, one of which allows no bounds.
        let reversed = x.iter().rev().copied();
        let others = reversed.chain(x.iter().map(|x| x * -0.3)).chain(x.iter().map(|_| f32::NAN));
        let x = rows(self.columns, &x.iter().copied().chain(others).collect::<Vec<_>>());
        let exact = exact(self.values, self.columns);
        let mut all = vec![0.0; exact.rows()];
        logits(&mut pool(2), isa, exact, (&x, &[0]), 0, &mut all);
        let copy = match form {
            Form::Int8 => ShortCopy::Int8(&self.int8),
            Form::Int4 => ShortCopy::Int4(&self.int4),
        };
        let touched = touched.iter().copied();
        let mut select = Select::default();
        let mut search = |states: &[usize]| {
            let request = |&state| Request { state, demand, touched: touched.clone() };
            select.start(&mut pool(2), isa, copy, &x, states.iter().map(request));
            candidate_logits(&mut pool(2), isa, exact, RowOf::Id, &x, select.unknown());
            select.narrow(&mut pool(2));
            candidate_logits(&mut pool(2), isa, exact, RowOf::Id, &x, select.unknown());
            select.finish(&mut pool(2));
            let bits = |request| {
                let found = select.found(request)?.iter();
                Some(found.map(|candidate| (candidate.id, candidate.logit.to_bits())).collect::<Vec<_>>())
            };
            (0..states.len()).map(bits).collect::<Vec<_>>()
        };
        // The same alone and among others, more than are multiplied at once.
        let alone: Vec<_> = (0..x.rows()).map(|state| search(&[state]).remove(0)).collect();
        let states = [1, 0, 3, 2, 0, 1, 1, 2, 3, 0];
        for count in [2, 3, 5, 8, 9, 10] {
            let expected = states[..count].iter().map(|&state| &alone[state]);
            assert!(search(&states[..count]).iter().eq(expected), "{isa}, {form:?}, {count} together");
        }
        search(&[0]);
        let Some(found) = select.found(0).map(<[Candidate]>::to_vec) else { return (None, all) };
        assert!(found.is_sorted_by_key(|candidate| candidate.id));
        for candidate in &found {
            assert_eq!(candidate.logit.to_bits(), all[candidate.id as usize].to_bits(), "{candidate:?}");
        }
        assert!(found.windows(2).all(|pair| pair[0].id != pair[1].id), "no token twice");
        let has = |id: u32| found.binary_search_by_key(&id, |candidate| candidate.id).is_ok();
        assert!(touched.into_iter().all(|id| id as usize >= all.len() || has(id)));
        (Some(found), all)
    }
}

/// What `demand` means, best first.
fn wanted(all: &[f32], demand: Demand, touched: &[u32]) -> impl Iterator<Item = u32> {
    let mut others: Vec<u32> = (0..all.len() as u32).filter(|id| !touched.contains(id)).collect();
    others.sort_by(|&a, &b| all[b as usize].total_cmp(&all[a as usize]).then(a.cmp(&b)));
    let best = all[others[0] as usize];
    let count = match demand {
        Demand::Top(count) => count,
        Demand::Within(distance) => others.iter().filter(|&&id| all[id as usize] >= best - distance).count(),
    };
    others.into_iter().take(count)
}

#[test]
fn nothing_that_matters_is_missing_on_random_rows_and_few_others_remain() {
    let (rows, columns) = (6_000, 320);
    let mut noise = Noise(1);
    let values = normal(&mut noise, rows * columns);
    for isa in Isa::available() {
        let lm_head = lm_head(isa, columns, &values);
        for _ in 0..3 {
            let mut x = normal(&mut noise, columns);
            for outliers in 0..3 {
                for (form, few) in [(Form::Int8, 60), (Form::Int4, 300)] {
                    let greedy = lm_head.check(form, isa, &x, Demand::Top(1), &[]);
                    assert!(greedy < few, "{form:?}: {greedy} rows for the greatest, {outliers} outliers");
                    let top = lm_head.check(form, isa, &x, Demand::Top(40), &[5, 17, 100_000]);
                    assert!(
                        top < 10 * few,
                        "{form:?}: {top} rows for the greatest forty, {outliers} outliers"
                    );
                    lm_head.check(form, isa, &x, Demand::Within(3.0), &[3]);
                }
                x[outliers * 7] = 300.0;
            }
        }
    }
}

/// Rows `[2_000, columns]` that are most likely to be confused, the first of them like `base`.
fn adversarial(noise: &mut Noise, columns: usize, base: &[f32]) -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..2_000 {
        match row % 5 {
            // Nearly equal rows, whose products differ in the last digits.
            0 => values.extend(base.iter().map(|x| x + noise.next() * 1e-6)),
            // One element that takes the whole range of the codes.
            1 => values
                .extend((0..columns).map(|i| if i == row % columns { 90.0 } else { noise.next() * 0.3 })),
            2 => values.extend((0..columns).map(|_| noise.next() * 10f32.powi(row as i32 % 60 - 30))),
            3 => values.extend(std::iter::repeat_n(0.0, columns)),
            _ => values.extend(normal(noise, columns)),
        }
    }
    for (row, value) in [(4, f32::INFINITY), (9, f32::NAN), (14, f32::NEG_INFINITY), (19, 1e30), (24, 1e-40)]
    {
        values[row * columns + 3] = value;
    }
    values
}

#[test]
fn nothing_that_matters_is_missing_on_adversarial_rows() {
    let columns = 70;
    let mut noise = Noise(2);
    let base = normal(&mut noise, columns);
    let values = adversarial(&mut noise, columns, &base);
    for isa in Isa::available() {
        let lm_head = lm_head(isa, columns, &values);
        for x in [base.clone(), normal(&mut noise, columns), vec![1e-20; columns], vec![1.0; columns]] {
            for demand in [Demand::Top(1), Demand::Top(10), Demand::Within(0.5)] {
                // A logit that is not a number has no place in an order; the search keeps it as a candidate.
                let finite: Vec<u32> = vec![4, 9, 14];
                lm_head.check(Form::Int8, isa, &x, demand, &finite);
                // Some may be missing, but none is wrong.
                lm_head.search(Form::Int4, isa, &x, demand, &finite);
            }
        }
    }
}

#[test]
fn without_a_usable_answer_everything_must_be_computed() {
    let columns = 64;
    let values = normal(&mut Noise(3), 1_000 * columns);
    let lm_head = lm_head(Isa::best(), columns, &values);
    let zero = vec![0.0; columns];
    let mut infinite = zero.clone();
    infinite[0] = f32::INFINITY;
    let x = normal(&mut Noise(4), columns);
    for form in [Form::Int8, Form::Int4] {
        for (x, demand) in [
            (&zero, Demand::Top(1)),
            (&infinite, Demand::Top(1)),
            (&x, Demand::Top(0)),
            (&x, Demand::Top(500)),
            (&x, Demand::Within(1e9)),
        ] {
            assert_eq!(lm_head.check(form, Isa::best(), x, demand, &[]), usize::MAX, "{form:?}, {demand:?}");
        }
    }
}

#[test]
fn four_bits_find_the_greatest_logits_of_rows_with_outliers() {
    let (rows, columns) = (4_000, 512);
    let mut noise = Noise(6);
    // One element in fifty is twenty times as large, so that most others fall into two halves.
    let mut values = normal(&mut noise, rows * columns);
    values.iter_mut().step_by(50).for_each(|value| *value *= 20.0);
    let lm_head = lm_head(Isa::best(), columns, &values);
    for round in 0..20 {
        let mut x = normal(&mut noise, columns);
        // Activations in which few elements are most of the norm.
        x.iter_mut().skip(round).step_by(100).for_each(|x| *x *= 30.0);
        lm_head.check(Form::Int4, Isa::best(), &x, Demand::Top(1), &[]);
        lm_head.check(Form::Int4, Isa::best(), &x, Demand::Top(20), &[]);
    }
}
