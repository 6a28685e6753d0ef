//! Rows that nobody needs to write: numbers, and words that do not exist.

use serde::Deserialize;

use crate::pattern::Row;
use crate::random::Random;

/// A kind of generated table, with the slots that it fills.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Generated {
    /// `a`, `b`, `result`: a + b for 0 to 20.
    Sums,
    /// a − b for 0 to 20, never below zero.
    Differences,
    /// a × b for 0 to 12.
    Products,
    /// a ÷ b for b of 1 to 12 and results up to 12.
    Quotients,
    /// `a`, `result`: twice the number, 0 to 20.
    Doubles,
    /// Half of the even numbers up to 40.
    Halves,
    /// The number after, 0 to 30.
    Successors,
    /// The number before, 1 to 30.
    Predecessors,
    /// `a`, `b`, `result`: the greater of two numbers up to 20.
    Greater,
    /// The squares of 0 to 12.
    Squares,
    /// `a`, `result`: "even" or "odd", 0 to 30.
    Parity,
    /// `a`, `b`: two numbers that are too large.
    LargeNumbers,
    /// `a`, `b`: two numbers of which at least one is too large to add, subtract or multiply.
    LargePairs,
    /// `a`, `b`: two numbers up to 20 that are too large to multiply.
    LargeProducts,
    /// `a`, `b`: two numbers up to 20 of which the first is the smaller one.
    BelowZero,
    /// `word`: words that no language has.
    Nonsense,
}

impl Generated {
    /// The names of its slots.
    pub(crate) fn slots(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Sums | Self::Differences | Self::Products | Self::Quotients | Self::Greater => {
                &["a", "b", "result"]
            }
            Self::Doubles
            | Self::Halves
            | Self::Successors
            | Self::Predecessors
            | Self::Squares
            | Self::Parity => &["a", "result"],
            Self::LargeNumbers | Self::LargePairs | Self::LargeProducts | Self::BelowZero => &["a", "b"],
            Self::Nonsense => &["word"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// The rows, always the same.
    pub(crate) fn rows(self) -> Vec<Row> {
        let pairs = |a: std::ops::RangeInclusive<usize>, b: std::ops::RangeInclusive<usize>| {
            a.flat_map(move |a| b.clone().map(move |b| (a, b)))
        };
        let three = |a, b, result: usize| vec![number(a), number(b), vec![result.to_string()]];
        let two = |a, result: String| vec![number(a), vec![result]];
        match self {
            Self::Sums => pairs(0..=20, 0..=20).map(|(a, b)| three(a, b, a + b)).collect(),
            Self::Differences => {
                pairs(0..=20, 0..=20).filter(|(a, b)| a >= b).map(|(a, b)| three(a, b, a - b)).collect()
            }
            Self::Products => pairs(0..=12, 0..=12).map(|(a, b)| three(a, b, a * b)).collect(),
            Self::Quotients => pairs(1..=12, 1..=12).map(|(a, b)| three(a * b, b, a)).collect(),
            Self::Greater => {
                pairs(0..=20, 0..=20).filter(|(a, b)| a != b).map(|(a, b)| three(a, b, a.max(b))).collect()
            }
            Self::Doubles => (0..=20).map(|a| two(a, (2 * a).to_string())).collect(),
            Self::Halves => (0..=20).map(|a| two(2 * a, a.to_string())).collect(),
            Self::Successors => (0..=30).map(|a| two(a, (a + 1).to_string())).collect(),
            Self::Predecessors => (1..=30).map(|a| two(a, (a - 1).to_string())).collect(),
            Self::Squares => (0..=12).map(|a| two(a, (a * a).to_string())).collect(),
            Self::Parity => {
                (0..=30).map(|a| two(a, if a % 2 == 0 { "even" } else { "odd" }.to_owned())).collect()
            }
            Self::LargeNumbers => large_numbers(),
            Self::LargePairs => large_pairs(),
            Self::LargeProducts => {
                pairs(2..=20, 2..=20).filter(|&(a, b)| a.max(b) > 12).map(unsolved).collect()
            }
            Self::BelowZero => pairs(0..=20, 0..=20).filter(|(a, b)| a < b).map(unsolved).collect(),
            Self::Nonsense => nonsense(),
        }
    }
}

/// The numbers from zero on that are written as words too.
pub(crate) const NUMBER_WORDS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// In digits, and as a word where it is short. Digits come first: that is how answers write numbers.
fn number(value: usize) -> Vec<String> {
    let mut cell = vec![value.to_string()];
    cell.extend(NUMBER_WORDS.get(value).map(|&name| name.to_owned()));
    cell
}

/// A row without a result.
fn unsolved((a, b): (usize, usize)) -> Row {
    vec![number(a), number(b)]
}

/// Pairs of which the first is beyond what was learned.
fn large_numbers() -> Vec<Row> {
    let mut random = Random::new(1);
    let cell = |value: usize| vec![value.to_string()];
    let mut number = |digits: u32| 10_usize.pow(digits - 1) * 5 + random.below(10_usize.pow(digits - 1) * 5);
    (0..300).map(|row| vec![cell(number(2 + row % 4)), cell(number(2 + (row / 4) % 3))]).collect()
}

/// Numbers of one to five digits, of which at least one is beyond what was learned.
fn large_pairs() -> Vec<Row> {
    let mut random = Random::new(4);
    let mut pairs = std::collections::BTreeSet::new();
    while pairs.len() < 2000 {
        let mut any = || {
            let bound = *random.pick(&[10, 100, 1000, 10_000, 100_000]);
            random.below(bound)
        };
        let pair = (any(), any());
        if pair.0.max(pair.1) > 20 {
            pairs.insert(pair);
        }
    }
    pairs.into_iter().map(unsolved).collect()
}

/// Words like "blimu", each once.
fn nonsense() -> Vec<Row> {
    const BEGIN: [&str; 24] = [
        "bl", "br", "d", "dr", "f", "fl", "g", "gl", "h", "k", "kr", "m", "n", "pl", "qu", "r", "sk", "sn",
        "t", "tr", "v", "w", "y", "z",
    ];
    const MIDDLE: [&str; 10] = ["a", "e", "i", "o", "u", "ee", "oo", "au", "y", "ia"];
    const END: [&str; 14] = ["b", "ck", "f", "g", "lix", "m", "n", "nk", "p", "rt", "x", "zzle", "mbo", "do"];
    let mut random = Random::new(2);
    let words: std::collections::BTreeSet<String> = (0..600)
        .map(|_| {
            let mut word = format!("{}{}", random.pick(&BEGIN), random.pick(&MIDDLE));
            if random.chance(0.4) {
                word += *random.pick(&BEGIN);
                word += *random.pick(&MIDDLE);
            }
            word + *random.pick(&END)
        })
        .filter(|word| word.len() > 3)
        .collect();
    words.into_iter().map(|word| vec![vec![word]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_a_cell_for_each_slot() {
        for kind in [
            Generated::Sums,
            Generated::Differences,
            Generated::Products,
            Generated::Quotients,
            Generated::Doubles,
            Generated::Halves,
            Generated::Successors,
            Generated::Predecessors,
            Generated::Greater,
            Generated::Squares,
            Generated::Parity,
            Generated::LargeNumbers,
            Generated::LargePairs,
            Generated::LargeProducts,
            Generated::BelowZero,
            Generated::Nonsense,
        ] {
            let slots = kind.slots().len();
            assert!(kind.rows().iter().all(|row| row.len() == slots), "{kind:?}");
            assert!(kind.rows().len() > 10, "{kind:?}");
        }
    }

    #[test]
    fn a_small_number_can_be_written_as_a_word() {
        assert_eq!(number(7), ["7", "seven"]);
        assert_eq!(number(21), ["21"]);
    }
}
