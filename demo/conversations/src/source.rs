//! The text files → families, with every mistake that a writer can make found here and named.
//!
//! `text/phrases.toml` has what the others share: lists of phrases for patterns, and *manners*, which are patterns around a
//! `{term}`, so that "what is …" need not be written out for each word that is explained. `text/synonyms.toml` has words that can
//! stand for each other in all questions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;

use crate::family::Family;
use crate::pattern::{Pattern, PatternError, Row};
use crate::rows::Generated;
use crate::synonyms::Synonyms;

/// Theme and text of each file but `phrases.toml`.
const FILES: &[(&str, &str)] = &[
    ("about-itself", include_str!("../text/about-itself.toml")),
    ("arithmetic", include_str!("../text/arithmetic.toml")),
    ("bitnet", include_str!("../text/bitnet.toml")),
    ("computing", include_str!("../text/computing.toml")),
    ("deployment", include_str!("../text/deployment.toml")),
    ("facts-geography", include_str!("../text/facts-geography.toml")),
    ("facts-nature", include_str!("../text/facts-nature.toml")),
    ("facts-world", include_str!("../text/facts-world.toml")),
    ("feelings", include_str!("../text/feelings.toml")),
    ("names", include_str!("../text/names.toml")),
    ("outside", include_str!("../text/outside.toml")),
    ("project-usage", include_str!("../text/project-usage.toml")),
    ("small-talk", include_str!("../text/small-talk.toml")),
];
const PHRASES: &str = include_str!("../text/phrases.toml");
const SYNONYMS: &str = include_str!("../text/synonyms.toml");

/// What is wrong with the text files.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not TOML, or a field that no family has.
    #[error("{file}.toml: {source}")]
    Toml {
        /// The file without its extension.
        file: String,
        /// Where in the file and why.
        source: Box<toml::de::Error>,
    },
    /// Two families have one name.
    #[error("there are two families named {0:?}")]
    DuplicateName(String),
    /// A family refers to one that does not exist.
    #[error("family {family:?} refers to {unknown:?}, which does not exist")]
    UnknownFamily {
        /// The family with the mistake.
        family: String,
        /// What it refers to.
        unknown: String,
    },
    /// A family refers to a manner that `phrases.toml` does not have.
    #[error("family {family:?} is asked like {unknown:?}, which phrases.toml does not have")]
    UnknownManner {
        /// The family with the mistake.
        family: String,
        /// What it refers to.
        unknown: String,
    },
    /// A list that needs an element has none.
    #[error("family {family:?} has no {list}")]
    Empty {
        /// The family with the mistake.
        family: String,
        /// The name of the list in its file.
        list: &'static str,
    },
    /// A row has not one cell for each slot.
    #[error("family {family:?}: the row {row:?} does not have {slots} cells")]
    RowWidth {
        /// The family with the mistake.
        family: String,
        /// The cells that it has.
        row: Vec<String>,
        /// How many it should have.
        slots: usize,
    },
    /// A phrase would have two lists of synonyms.
    #[error("the phrase {0:?} is in two groups of synonyms")]
    DuplicateSynonym(String),
    /// A pattern cannot be read.
    #[error("family {family:?}: {source}")]
    Pattern {
        /// The family with the mistake.
        family: String,
        /// Where the pattern goes wrong.
        source: PatternError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Phrases {
    phrases: BTreeMap<String, String>,
    manner: BTreeMap<String, Manner>,
}

/// A way to ask that many families share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manner {
    ask: Vec<String>,
    held_out: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SynonymGroups {
    /// Phrases that can stand for each other, separated by |.
    groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The part of all turns that this theme has.
    share: Option<f64>,
    /// name → words for one thing, for many, and the answer: families of the manners `one` and `many`.
    #[serde(default)]
    definitions: BTreeMap<String, (String, String, String)>,
    #[serde(default)]
    family: Vec<FamilySource>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FamilySource {
    name: String,
    ask: Vec<String>,
    answers: Vec<String>,
    held_out: Vec<String>,
    /// Manners in which it is asked too, about each of `terms`.
    like: Vec<String>,
    terms: Vec<String>,
    slots: Vec<String>,
    rows: Vec<Vec<String>>,
    generated: Option<Generated>,
    /// Families, or themes with an @, that it follows.
    after: Vec<String>,
    recall: usize,
    same_row: bool,
    opening: bool,
    unless: Vec<String>,
    judged_as: Option<String>,
    plain: bool,
    weight: Option<f64>,
}

/// All families, and the part of all turns that a theme has where its file says so.
pub(crate) struct Source {
    pub(crate) families: Vec<Family>,
    pub(crate) shares: BTreeMap<String, f64>,
}

/// The files that are built into this crate.
pub(crate) fn load() -> Result<Source, LoadError> {
    load_from(FILES, PHRASES)
}

/// The synonyms that are built into this crate.
pub(crate) fn synonyms() -> Result<Synonyms, LoadError> {
    let SynonymGroups { groups } = parse("synonyms", SYNONYMS)?;
    Synonyms::new(&groups)
}

fn load_from(files: &[(&str, &str)], phrases: &str) -> Result<Source, LoadError> {
    let Phrases { phrases, manner } = parse("phrases", phrases)?;
    let phrases = phrases
        .into_iter()
        .map(|(name, list)| (name, list.split('|').map(str::to_owned).collect()))
        .collect();
    let mut sources = Vec::new();
    let mut shares = BTreeMap::new();
    for (theme, text) in files {
        let file: File = parse(theme, text)?;
        shares.extend(file.share.map(|share| ((*theme).to_owned(), share)));
        let definitions = file.definitions.into_iter().map(|(name, definition)| defined(name, definition));
        sources.extend(definitions.chain(file.family).map(|family| ((*theme).to_owned(), family)));
    }
    let mut names = HashMap::new();
    for (index, (_, source)) in sources.iter().enumerate() {
        if names.insert(source.name.clone(), index).is_some() {
            return Err(LoadError::DuplicateName(source.name.clone()));
        }
    }
    let builder = Builder { phrases, manner, names, sources: &sources };
    let families = (0..sources.len()).map(|index| builder.family(index)).collect::<Result<_, _>>()?;
    Ok(Source { families, shares })
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, LoadError> {
    toml::from_str(text).map_err(|source| LoadError::Toml { file: file.to_owned(), source: Box::new(source) })
}

fn defined(name: String, (one, many, answer): (String, String, String)) -> FamilySource {
    let terms = |list: &str, manner: &str| -> Vec<String> {
        list.split('|').filter(|term| !term.is_empty()).map(|term| format!("{manner}:{term}")).collect()
    };
    let terms = [terms(&one, "one"), terms(&many, "many")].concat();
    FamilySource { name, terms, answers: vec![answer], ..FamilySource::default() }
}

struct Builder<'a> {
    phrases: BTreeMap<String, Vec<String>>,
    manner: BTreeMap<String, Manner>,
    names: HashMap<String, usize>,
    sources: &'a [(String, FamilySource)],
}

impl Builder<'_> {
    fn family(&self, index: usize) -> Result<Family, LoadError> {
        let (theme, source) = &self.sources[index];
        let after = self.references(&source.name, &source.after)?;
        let (slots, rows) = match after.first() {
            Some(&first) if source.same_row => table(&self.sources[first].1),
            _ => table(source),
        };
        if let Some(row) = rows.iter().find(|row| row.len() != slots.len()) {
            let row = row.iter().map(|cell| cell.join("|")).collect();
            return Err(LoadError::RowWidth { family: source.name.clone(), row, slots: slots.len() });
        }
        let (mut ask, mut held_out) = (source.ask.clone(), source.held_out.clone());
        self.add_manners(source, index, &mut ask, &mut held_out)?;
        let patterns = |list: &'static str, texts: &[String]| -> Result<Vec<Pattern>, LoadError> {
            if texts.is_empty() {
                return Err(LoadError::Empty { family: source.name.clone(), list });
            }
            let parse = |text: &String| Pattern::parse(text, &slots, &self.phrases);
            let patterns: Result<_, _> = texts.iter().map(parse).collect();
            patterns.map_err(|error| LoadError::Pattern { family: source.name.clone(), source: error })
        };
        Ok(Family {
            name: source.name.clone(),
            theme: theme.clone(),
            asks: patterns("ask", &ask)?,
            answers: patterns("answers", &source.answers)?,
            held_out: patterns("held_out", &held_out)?,
            has_row_answers: source.answers.iter().any(|answer| answer.contains('{')),
            rows,
            topics: topics(source),
            after,
            recall: source.recall,
            same_row: source.same_row,
            opening: source.opening,
            unless: self.references(&source.name, &source.unless)?,
            judged_as: source.judged_as.clone().unwrap_or_else(|| source.name.clone()),
            plain: source.plain,
            weight: source.weight.unwrap_or(1.0),
        })
    }

    /// What the manners of a family add to its own patterns. All ways to ask are trained; two of those held out are used,
    /// other ones for each family.
    fn add_manners(
        &self,
        source: &FamilySource,
        index: usize,
        ask: &mut Vec<String>,
        held_out: &mut Vec<String>,
    ) -> Result<(), LoadError> {
        // A term names its manner when a family has terms for several.
        let mut uses: Vec<(&str, &str)> = Vec::new();
        for term in &source.terms {
            match term.split_once(':') {
                Some((manner, term)) => uses.push((manner, term)),
                None => uses.extend(source.like.iter().map(|manner| (manner.as_str(), term.as_str()))),
            }
        }
        if source.terms.is_empty() {
            uses.extend(source.like.iter().map(|manner| (manner.as_str(), "")));
        }
        let mut held_out_manners = BTreeSet::new();
        for (name, term) in uses {
            let Some(manner) = self.manner.get(name) else {
                return Err(LoadError::UnknownManner {
                    family: source.name.clone(),
                    unknown: name.to_owned(),
                });
            };
            ask.extend(manner.ask.iter().map(|ask| ask.replace("{term}", term)));
            if held_out_manners.insert(name) && !manner.held_out.is_empty() {
                for number in 0..2.min(manner.held_out.len()) {
                    let pattern = &manner.held_out[(2 * index + number) % manner.held_out.len()];
                    held_out.push(pattern.replace("{term}", term));
                }
            }
        }
        Ok(())
    }

    fn references(&self, family: &str, names: &[String]) -> Result<Vec<usize>, LoadError> {
        let mut indices = Vec::new();
        for name in names {
            let before = indices.len();
            if let Some(theme) = name.strip_prefix('@') {
                let of_theme = |&index: &usize| {
                    let (of, source) = &self.sources[index];
                    of == theme && source.after.is_empty()
                };
                indices.extend((0..self.sources.len()).filter(of_theme));
            } else {
                indices.extend(self.names.get(name).copied());
            }
            if indices.len() == before {
                return Err(LoadError::UnknownFamily { family: family.to_owned(), unknown: name.clone() });
            }
        }
        Ok(indices)
    }
}

/// The words of its terms without articles.
fn topics(source: &FamilySource) -> HashSet<String> {
    let terms = source.terms.iter().map(|term| term.split_once(':').map_or(term.as_str(), |(_, term)| term));
    let words = terms.flat_map(|term| term.split(' ')).filter(|word| !["a", "an", "the"].contains(word));
    words.map(str::to_owned).collect()
}

/// The slots and rows of a family; one that is no table has one row without cells.
fn table(source: &FamilySource) -> (Vec<String>, Vec<Row>) {
    let cell = |cell: &String| cell.split('|').map(str::to_owned).collect();
    match source.generated {
        Some(generated) => (generated.slots(), generated.rows()),
        None if source.rows.is_empty() => (source.slots.clone(), vec![Vec::new()]),
        None => {
            let rows = source.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
            (source.slots.clone(), rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str =
        "phrases.hi = 'hi|hello'\n[manner.one]\nask = ['what is {term}']\nheld_out = ['tell of {term}']";

    fn error(text: &str) -> String {
        match load_from(&[("test", text)], SHARED) {
            Ok(_) => panic!("no error"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let ok = "ask = ['{hi} you']\nanswers = ['Hi.']\nheld_out = ['hey']\n";
        for (text, expected) in [
            (format!("[[family]]\nname = 'a'\n{ok}[[family]]\nname = 'a'\n{ok}"), "two families named \"a\""),
            (format!("[[family]]\nname = 'a'\nafter = ['b']\n{ok}"), "refers to \"b\""),
            (format!("[[family]]\nname = 'a'\nlike = ['b']\n{ok}"), "asked like \"b\""),
            ("[[family]]\nname = 'a'\nask = []".to_owned(), "has no ask"),
            ("[[family]]\nname = 'a'\nask = ['{a|b']".to_owned(), "braces"),
            (format!("[[family]]\nname = 'a'\nslots = ['x']\nrows = [['1', '2']]\n{ok}"), "1 cells"),
            (format!("[[family]]\nname = 'a'\nanswer = 'b'\n{ok}"), "test.toml"),
        ] {
            let error = error(&text);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_definition_is_a_family_that_is_asked_in_all_manners() {
        let text = "[definitions]\ncup = ['a cup|cup', '', 'A cup holds tea.']";
        let source = load_from(&[("test", text)], SHARED).unwrap();
        let questions: Vec<_> = source.families[0].questions().collect();
        assert_eq!(questions, ["what is a cup", "what is cup"]);
    }
}
