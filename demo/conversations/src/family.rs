//! Everything that is known about one thing that can be asked.

use std::collections::HashSet;

use crate::pattern::{Pattern, Row};
use crate::random::Random;

/// How often a question is asked by the first pattern of its family.
const FIRST: f64 = 0.25;

/// Questions that mean the same and their answers; for a table, those of each row.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a yes or no that the text files state by itself")]
pub struct Family {
    pub(crate) name: String,
    /// The file that it is from, without `.toml`.
    pub(crate) theme: String,
    pub(crate) asks: Vec<Pattern>,
    pub(crate) answers: Vec<Pattern>,
    pub(crate) held_out: Vec<Pattern>,
    /// Never empty; a family that is no table has one row without cells. For a follow-up that repeats what was said before
    /// these are the rows of that family.
    pub(crate) rows: Vec<Row>,
    /// The words that its manners ask about.
    pub(crate) topics: HashSet<String>,
    /// Whether the answer depends on the row: a family whose answers have no slots is right or wrong as a whole.
    pub(crate) has_row_answers: bool,
    /// Indices of the families after which it can be asked; empty when it can always be asked.
    pub(crate) after: Vec<usize>,
    /// How many other turns may lie between.
    pub(crate) recall: usize,
    /// Whether the row is the one of the turn that it follows.
    pub(crate) same_row: bool,
    /// Whether it can only begin a conversation: "why?" means something else later.
    pub(crate) opening: bool,
    /// Indices of the families after which its answer would be wrong.
    pub(crate) unless: Vec<usize>,
    pub(crate) judged_as: String,
    /// Whether nothing may be put around the question and no letter changed.
    pub(crate) plain: bool,
    pub(crate) weight: f64,
}

impl Family {
    /// Its name, unique in the corpus.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it is from, without its extension.
    #[must_use]
    pub fn theme(&self) -> &str {
        &self.theme
    }

    /// The name under which [`crate::Judge`] knows its answers: usually its own.
    #[must_use]
    pub fn judged_as(&self) -> &str {
        &self.judged_as
    }

    /// Whether it is asked only after certain other families.
    #[must_use]
    pub fn is_follow_up(&self) -> bool {
        !self.after.is_empty()
    }

    /// In how many ways it can be asked, all rows together, before noise.
    #[must_use]
    pub fn expansions(&self) -> usize {
        self.rows.iter().map(|row| self.asks.iter().map(|ask| ask.count(row)).sum::<usize>()).sum()
    }

    /// All these ways.
    pub fn questions(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(|row| self.asks.iter().flat_map(|ask| ask.expansions(row)))
    }

    /// All answers, those of each row.
    pub fn answers(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(|row| self.answers.iter().map(|answer| answer.first(row)))
    }

    /// Whether a question about this row is about this word, so that no synonym can stand for it.
    pub(crate) fn is_about(&self, row: &Row, word: &str) -> bool {
        self.topics.contains(word)
            || row.iter().flatten().any(|cell| cell.split(' ').any(|of_cell| of_cell == word))
    }

    /// A question about this row. The first pattern is how most people ask, so it comes often. Of the others, those with more
    /// expansions come more often, but not in proportion: a short form that is written once should be heard too.
    pub(crate) fn ask(&self, row: &Row, random: &mut Random) -> String {
        if random.chance(FIRST) {
            return self.asks[0].sample(row, random);
        }
        let mut sum = 0.0;
        let cumulative: Vec<f64> = self
            .asks
            .iter()
            .map(|ask| {
                sum += (ask.count(row) as f64).sqrt();
                sum
            })
            .collect();
        self.asks[random.weighted(&cumulative)].sample(row, random)
    }
}
