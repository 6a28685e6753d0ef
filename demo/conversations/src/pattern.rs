//! `"{hi|hello} {there|}"` → all texts that it stands for, or one at random.
//!
//! A group in braces is a choice between texts (one may be empty), the name of a list of phrases, or the name of a slot that a
//! table's row fills. A choice may name lists of phrases too. Groups do not nest: a list of patterns says the same and is easier to read.

use std::collections::BTreeMap;

use crate::random::Random;
use crate::words::single_spaced;

/// A text with choices and slots.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Choice(Vec<String>),
    /// The column of a row.
    Slot(usize),
}

/// One row of a table: the first text of a cell stands in answers, any of them in questions.
pub(crate) type Row = Vec<Vec<String>>;

/// Why a pattern cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// `{` without `}`, `}` without `{`, or one inside of another.
    #[error("the braces of {0:?} do not match; groups cannot nest")]
    Braces(String),
    /// A group without `|` whose name nobody knows.
    #[error("{{{name}}} in {pattern:?} is neither a slot nor a phrase; a choice needs a |")]
    UnknownName {
        /// What stands in the braces.
        name: String,
        /// The whole pattern.
        pattern: String,
    },
}

impl Pattern {
    pub(crate) fn parse(
        text: &str,
        slots: &[String],
        phrases: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, PatternError> {
        let braces = || PatternError::Braces(text.to_owned());
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, group) = (&rest[..open], &rest[open + 1..]);
            let close = group.find('}').ok_or_else(braces)?;
            let (group, after) = (&group[..close], &group[close + 1..]);
            if before.contains('}') || group.contains('{') {
                return Err(braces());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(if group.contains('|') {
                let named =
                    |choice| phrases.get(choice).cloned().unwrap_or_else(|| vec![str::to_owned(choice)]);
                Piece::Choice(group.split('|').flat_map(named).collect())
            } else if let Some(slot) = slots.iter().position(|slot| slot == group) {
                Piece::Slot(slot)
            } else if let Some(phrases) = phrases.get(group) {
                Piece::Choice(phrases.clone())
            } else {
                return Err(PatternError::UnknownName { name: group.to_owned(), pattern: text.to_owned() });
            });
            rest = after;
        }
        if rest.contains('}') {
            return Err(braces());
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// How many texts it stands for, given a row for its slots; texts that are reached twice count twice.
    pub(crate) fn count(&self, row: &Row) -> usize {
        self.0.iter().map(|piece| piece.choices(row).len()).product()
    }

    /// All texts that it stands for.
    pub(crate) fn expansions(&self, row: &Row) -> Vec<String> {
        let mut texts = vec![String::new()];
        for piece in &self.0 {
            let choices = piece.choices(row);
            texts = texts
                .iter()
                .flat_map(|text| choices.iter().map(move |choice| format!("{text}{choice}")))
                .collect();
        }
        texts.iter().map(|text| single_spaced(text)).collect()
    }

    /// One of them, each with the same probability.
    pub(crate) fn sample(&self, row: &Row, random: &mut Random) -> String {
        let text: String = self.0.iter().map(|piece| random.pick(piece.choices(row)).as_str()).collect();
        single_spaced(&text)
    }

    /// The one with the first of all choices: how a family's answer reads.
    pub(crate) fn first(&self, row: &Row) -> String {
        let text: String = self.0.iter().map(|piece| piece.choices(row)[0].as_str()).collect();
        single_spaced(&text)
    }
}

impl Piece {
    fn choices<'a>(&'a self, row: &'a Row) -> &'a [String] {
        match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::Choice(choices) => choices,
            Self::Slot(column) => &row[*column],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, PatternError> {
        let phrases = BTreeMap::from([("greeting".to_owned(), vec!["hi".to_owned(), "hello".to_owned()])]);
        Pattern::parse(text, &["city".to_owned()], &phrases)
    }

    #[test]
    fn choices_phrases_and_slots_multiply() {
        let row = vec![vec!["Rome".to_owned(), "rome".to_owned()]];
        let pattern = pattern("{greeting} {my |}{city}").unwrap();
        assert_eq!(pattern.count(&row), 8);
        let texts = pattern.expansions(&row);
        assert_eq!(texts[0], "hi my Rome");
        assert_eq!(texts[7], "hello rome");
        assert_eq!(pattern.first(&row), "hi my Rome");
        assert!(texts.contains(&pattern.sample(&row, &mut Random::new(1))));
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_an_error() {
        for text in ["{a|b", "a}", "{a|{b|c}}", "a} {b|c}"] {
            assert_eq!(pattern(text).unwrap_err(), PatternError::Braces(text.to_owned()), "{text}");
        }
        assert!(matches!(pattern("{town}"), Err(PatternError::UnknownName { .. })));
    }
}
