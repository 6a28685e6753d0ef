//! Words that mean the same → other ways to ask the same thing, for all families at once.
//!
//! `text/synonyms.toml` has groups of words and phrases of which each can stand for each other. Patterns name the ways to ask that
//! their writer thought of; the groups make sure that a family is not known by one of its words alone.

use std::collections::HashMap;

use crate::random::Random;
use crate::source::LoadError;

/// Groups of phrases, found by their words.
#[derive(Debug)]
pub(crate) struct Synonyms {
    groups: Vec<Vec<String>>,
    /// phrase → its group.
    group_of: HashMap<String, usize>,
    /// Words of the longest phrase.
    longest: usize,
}

/// A phrase of a text that has synonyms.
struct Place {
    /// Its first word and the one behind its last.
    words: std::ops::Range<usize>,
    group: usize,
}

impl Synonyms {
    /// From groups of phrases, separated by `|`.
    pub(crate) fn new(groups: &[String]) -> Result<Self, LoadError> {
        let groups: Vec<Vec<String>> =
            groups.iter().map(|group| group.split('|').map(str::to_owned).collect()).collect();
        let mut group_of = HashMap::new();
        for (index, group) in groups.iter().enumerate() {
            for phrase in group {
                if group_of.insert(phrase.clone(), index).is_some() {
                    return Err(LoadError::DuplicateSynonym(phrase.clone()));
                }
            }
        }
        let longest = group_of.keys().map(|phrase| phrase.split(' ').count()).max().unwrap_or_default();
        Ok(Self { groups, group_of, longest })
    }

    /// `text` with up to `count` phrases replaced by synonyms. Words for which `is_kept` stay: what a question is about.
    pub(crate) fn replaced(
        &self,
        text: &str,
        count: usize,
        is_kept: impl Fn(&str) -> bool,
        random: &mut Random,
    ) -> String {
        let mut text = text.to_owned();
        for _ in 0..count {
            let words: Vec<&str> = text.split(' ').collect();
            let places = self.places(&words, &is_kept);
            if places.is_empty() {
                break;
            }
            let Place { words: range, group } = random.pick(&places);
            let synonym = random.pick(&self.groups[*group]);
            let last = words[range.end - 1];
            let comma = &last[last.trim_end_matches(',').len()..];
            text = [&words[..range.start], &[&format!("{synonym}{comma}")], &words[range.end..]]
                .concat()
                .join(" ");
        }
        text
    }

    /// Where phrases with synonyms are; of those that begin at one word the longest.
    fn places(&self, words: &[&str], is_kept: impl Fn(&str) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        let mut start = 0;
        while start < words.len() {
            let found = (1..=self.longest.min(words.len() - start)).rev().find_map(|length| {
                let phrase = words[start..start + length].join(" ");
                let group = *self.group_of.get(phrase.trim_end_matches(','))?;
                let is_free = !phrase.split(' ').any(|word| is_kept(word.trim_end_matches(',')));
                is_free.then_some(Place { words: start..start + length, group })
            });
            start = found.as_ref().map_or(start + 1, |place| place.words.end);
            places.extend(found);
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synonyms() -> Synonyms {
        Synonyms::new(&["made|put together|built", "dog|hound", "who|which person"].map(str::to_owned))
            .unwrap()
    }

    fn all(text: &str, count: usize, kept: &str) -> std::collections::BTreeSet<String> {
        let mut random = Random::new(1);
        (0..200).map(|_| synonyms().replaced(text, count, |word| word == kept, &mut random)).collect()
    }

    #[test]
    fn a_phrase_is_replaced_by_another_of_its_group() {
        let expected = ["was it built", "was it made", "was it put together"];
        assert_eq!(all("was it put together", 1, "").iter().collect::<Vec<_>>(), expected.each_ref());
        assert!(all("who made you", 2, "").contains("which person put together you"));
        assert_eq!(all("who, then", 1, "").iter().collect::<Vec<_>>(), ["which person, then", "who, then"]);
    }

    #[test]
    fn what_a_question_is_about_stays() {
        assert!(all("who made the dog", 3, "dog").iter().all(|text| text.ends_with("the dog")));
        assert_eq!(all("Dog putting together", 3, "").len(), 1);
    }

    #[test]
    fn the_groups_that_are_built_in_are_choices_of_plain_words() {
        for group in crate::source::synonyms().unwrap().groups {
            assert!(group.len() > 1, "{group:?}");
            for phrase in &group {
                let is_plain =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"'-".contains(&byte);
                let are_plain = |word: &str| !word.is_empty() && word.bytes().all(is_plain);
                assert!(phrase.split(' ').all(are_plain), "{phrase:?}");
            }
        }
    }

    #[test]
    fn a_phrase_has_one_group() {
        let error = Synonyms::new(&["a|b", "c|a"].map(str::to_owned)).unwrap_err();
        assert_eq!(error.to_string(), "the phrase \"a\" is in two groups of synonyms");
    }
}
