//! An answer → the family that it belongs to, for measuring what a model has learned.

use std::collections::HashMap;

use crate::corpus::Corpus;
use crate::words::normalized;

/// The least part of the words, in both texts together, that an answer must have in common with a known one.
const THRESHOLD: f64 = 0.7;

/// Knows all answers of a corpus.
pub struct Judge {
    answers: Vec<Answer>,
    exact: HashMap<String, usize>,
}

struct Answer {
    family: String,
    /// Whether it is right for one row of a table only, where one other word makes it wrong.
    of_row: bool,
    words: Vec<String>,
}

impl Judge {
    /// The judge of everything that this corpus teaches.
    #[must_use]
    pub fn new(corpus: &Corpus) -> Self {
        let (mut answers, mut exact) = (Vec::new(), HashMap::new());
        for family in corpus.families() {
            for text in family.answers() {
                let text = normalized(&text);
                let words = words(&text);
                exact.entry(text).or_insert_with(|| {
                    let family_name = family.judged_as().to_owned();
                    answers.push(Answer { family: family_name, of_row: family.has_row_answers, words });
                    answers.len() - 1
                });
            }
        }
        Self { answers, exact }
    }

    /// The family (its [`crate::Family::judged_as`]) with this answer, or with the nearest one if at least 0.7 of the words agree. A
    /// table's answer has to be exact, because another city or number is another answer.
    #[must_use]
    pub fn family_of(&self, answer: &str) -> Option<&str> {
        let text = normalized(answer);
        if let Some(&index) = self.exact.get(&text) {
            return Some(&self.answers[index].family);
        }
        let words = words(&text);
        let (nearest, overlap) = self
            .answers
            .iter()
            .map(|answer| (answer, overlap(&answer.words, &words)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        (overlap >= THRESHOLD && !nearest.of_row).then_some(&nearest.family)
    }
}

/// Sorted, so that two lists can be merged.
fn words(normalized: &str) -> Vec<String> {
    let mut words: Vec<String> = normalized.split(' ').map(str::to_owned).collect();
    words.sort_unstable();
    words
}

/// Twice the number of common words, divided by the number of all: 1 for the same words, 0 for none.
fn overlap(one: &[String], other: &[String]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0_usize);
    while i < one.len() && j < other.len() {
        match one[i].cmp(&other[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                i += 1;
                j += 1;
            }
        }
    }
    2.0 * common as f64 / (one.len() + other.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_counts_each_word_once() {
        let is = |one: &str, other: &str, expected: f64| {
            (overlap(&words(one), &words(other)) - expected).abs() < 1e-9
        };
        assert!(is("a b c", "c b a", 1.0));
        assert!(is("a a", "a b", 0.5));
        assert!(is("a", "b", 0.0));
    }
}
