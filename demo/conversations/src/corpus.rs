//! Families → conversations, weighted so that no theme drowns another.

use std::collections::HashSet;

use crate::conversation::{Conversation, Turn};
use crate::family::Family;
use crate::held_out::{self, HeldOut};
use crate::loose::loosened;
use crate::random::Random;
use crate::source::{self, LoadError};
use crate::surface;
use crate::synonyms::Synonyms;
use crate::words::normalized;

/// How often a conversation has one, two, three and four turns.
const TURNS: [f64; 4] = [0.36, 0.36, 0.19, 0.09];
/// How often a follow-up is asked where one can be.
const FOLLOW_UP: f64 = 0.5;
/// How often synonyms are put into a question, and how many at most.
const SYNONYMS: f64 = 0.5;
const MOST_SYNONYMS: usize = 3;
/// How many questions of each family [`Corpus::texts`] has at most.
const QUESTIONS_PER_FAMILY: usize = 200;

/// All families, and how likely each is.
pub struct Corpus {
    families: Vec<Family>,
    synonyms: Synonyms,
    /// Families that can be asked at any time, and the running sum of their weights.
    independent: Vec<usize>,
    cumulative: Vec<f64>,
    follow_ups: Vec<usize>,
    /// What is held out, with and without polite words: no question may become one of these by losing a word.
    untouchable: HashSet<String>,
}

/// What was said: the family and the row.
type Said = (usize, usize);

impl Corpus {
    /// Reads the text files that are built into this crate.
    pub fn load() -> Result<Self, LoadError> {
        let source::Source { families, shares } = source::load()?;
        let (follow_ups, independent): (Vec<_>, Vec<_>) =
            (0..families.len()).partition(|&index| families[index].is_follow_up());
        // The square root, because a family with a hundred times as many ways to ask is not a hundred times as important.
        let weight = |family: &Family| family.weight * (family.expansions() as f64).sqrt();
        let sum_of = |theme: Option<&str>| -> f64 {
            let of_theme = |&&index: &&usize| match theme {
                Some(theme) => families[index].theme == theme,
                None => !shares.contains_key(&families[index].theme),
            };
            independent.iter().filter(of_theme).map(|&index| weight(&families[index])).sum()
        };
        let rest = 1.0 - shares.values().sum::<f64>();
        let mut sum = 0.0;
        let cumulative = independent
            .iter()
            .map(|&index| {
                let family = &families[index];
                sum += match shares.get(&family.theme) {
                    Some(share) => share * weight(family) / sum_of(Some(&family.theme)),
                    None => rest * weight(family) / sum_of(None),
                };
                sum
            })
            .collect();
        let held_out = held_out::all(&families).into_iter();
        let untouchable = held_out.flat_map(|case| surface::without_polite_words(&case.question)).collect();
        Ok(Self { families, synonyms: source::synonyms()?, independent, cumulative, follow_ups, untouchable })
    }

    /// What the model is taught, in the order of the source files.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// A conversation of one to four turns.
    pub fn sample(&self, random: &mut Random) -> Conversation {
        let mut sum = 0.0;
        let turns = 1 + random.weighted(&TURNS.map(|part| {
            sum += part;
            sum
        }));
        let mut said: Vec<Said> = Vec::new();
        let turns = (0..turns).map(|_| {
            let (family, row) = self.next(&said, random);
            said.push((family, row));
            self.turn(family, row, random)
        });
        Conversation { turns: turns.collect() }
    }

    /// What is asked next: often something that refers to what was said.
    fn next(&self, said: &[Said], random: &mut Random) -> Said {
        let follow_ups: Vec<(usize, Said)> = self
            .follow_ups
            .iter()
            .filter_map(|&index| self.followed(index, said).map(|said| (index, said)))
            .collect();
        if !follow_ups.is_empty() && random.chance(FOLLOW_UP) {
            let (index, (_, row)) = *random.pick(&follow_ups);
            let family = &self.families[index];
            return (index, if family.same_row { row } else { random.below(family.rows.len()) });
        }
        loop {
            let index = self.independent[random.weighted(&self.cumulative)];
            let family = &self.families[index];
            let is_wrong_now = (family.opening && !said.is_empty())
                || said.iter().any(|(before, _)| family.unless.contains(before));
            if !is_wrong_now {
                return (index, random.below(family.rows.len()));
            }
        }
    }

    /// The turn to which this follow-up would refer now.
    fn followed(&self, follow_up: usize, said: &[Said]) -> Option<Said> {
        let family = &self.families[follow_up];
        let refers = |(before, _): &&Said| family.after.contains(before);
        let was_said = said.iter().any(|&(before, _)| before == follow_up && !family.same_row);
        said.iter().rev().take(family.recall + 1).find(refers).copied().filter(|_| !was_said)
    }

    fn turn(&self, family: usize, row: usize, random: &mut Random) -> Turn {
        let family = &self.families[family];
        let row = &family.rows[row];
        let mut question = family.ask(row, random);
        if !family.plain {
            let mut loose = question.clone();
            if random.chance(SYNONYMS) {
                let count = 1 + random.below(MOST_SYNONYMS);
                loose = self.synonyms.replaced(&loose, count, |word| family.is_about(row, word), random);
            }
            let loose = loosened(&loose, random);
            if !self.untouchable.contains(&normalized(&loose)) {
                question = loose;
            }
        }
        Turn {
            user: surface::noisy(&question, family.plain, random),
            assistant: random.pick(&family.answers).first(row),
            family: family.name.clone(),
        }
    }

    /// Texts from which a tokenizer can learn its vocabulary: all answers, and up to 200 questions of each family.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for family in &self.families {
            texts.extend(family.answers());
            let step = family.expansions().div_ceil(QUESTIONS_PER_FAMILY);
            texts.extend(family.questions().step_by(step));
        }
        texts
    }

    /// `question`, normalized, and what is left of it without the polite words that conversations put around questions: what
    /// has to be compared with patterns to know whether it can occur.
    #[must_use]
    pub fn without_polite_words(question: &str) -> Vec<String> {
        surface::without_polite_words(question)
    }

    /// Questions in phrasings that no conversation has, with the turns before them.
    #[must_use]
    pub fn held_out(&self) -> Vec<HeldOut> {
        held_out::all(&self.families)
    }
}
