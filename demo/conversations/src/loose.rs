//! A question as it is written in the text files → as somebody words it who does not care.
//!
//! Words are lost, added or swapped; how they are spelled is left to [`crate::surface`].

use crate::random::Random;
use crate::rows::NUMBER_WORDS;
use crate::surface::{OTHER_QUESTION_WORDS, QUESTION_WORDS};

/// Words that a question can lose and still be understood.
const LIGHT_WORDS: &[&str] = &[
    "the", "a", "an", "is", "are", "was", "were", "do", "does", "did", "has", "have", "of", "to", "in", "on",
    "at", "for", "by", "with", "there", "please",
];
/// Such words too, but the question is about them if it has hardly any others: "who made you".
const PRONOUNS: &[&str] = &["me", "you", "it", "that", "this"];
/// Inserted where a person hesitates, or says more than is needed.
const FILLERS: &[&str] = &[
    "so",
    "well",
    "actually",
    "just",
    "then",
    "maybe",
    "really",
    "perhaps",
    "simply",
    "basically",
    "honestly",
    "kindly",
    "probably",
    "possibly",
    "certainly",
    "somehow",
    "quickly",
    "briefly",
    "finally",
    "usually",
    "normally",
    "generally",
    "currently",
    "also",
    "again",
    "still",
    "now",
    "here",
    "today",
    "somewhat",
    "rather",
    "quite",
    "indeed",
    "anyway",
    "though",
    "however",
    "like",
    "hmm",
    "um",
    "uh",
    "oh",
    "ah",
    "please",
    "kind of",
    "sort of",
    "you know",
    "i mean",
    "i guess",
    "i think",
    "i suppose",
    "i believe",
    "let's say",
    "of course",
    "by chance",
    "for example",
    "for sure",
    "for once",
    "for now",
    "at least",
    "at all",
    "at the moment",
    "in fact",
    "in general",
    "in the end",
    "in my case",
    "as far as you know",
    "my friend",
    "my dear",
    "mate",
    "buddy",
    "bot",
];
/// How often a question loses words, and how often it is reordered or filled.
const LOSS: f64 = 0.25;
const DISORDER: f64 = 0.16;

/// `text` as somebody writes it who does not care: perhaps without one or two light words, perhaps with a filler or with two
/// neighbours swapped. Numbers, names and what carries the meaning stay, each in its order.
pub(crate) fn loosened(text: &str, random: &mut Random) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    if random.chance(LOSS) {
        for _ in 0..=random.below(2) {
            let losable: Vec<usize> = (0..words.len()).filter(|&index| is_losable(&words, index)).collect();
            if !losable.is_empty() {
                words.remove(*random.pick(&losable));
            }
        }
    }
    if random.chance(DISORDER) {
        if random.chance(0.3) {
            swap_neighbours(&mut words, random);
        } else {
            fill(&mut words, random);
        }
    }
    words.join(" ")
}

fn is_light(word: &str) -> bool {
    LIGHT_WORDS.contains(&word) || PRONOUNS.contains(&word)
}

/// Whether a word says what the question is about: not light, and not the question word.
fn is_content(word: &str) -> bool {
    let bare = word.trim_end_matches([',', ':']);
    let is_about_asking = QUESTION_WORDS.contains(&bare) || OTHER_QUESTION_WORDS.contains(&bare);
    !is_light(bare) && !is_about_asking && bare.chars().any(char::is_alphanumeric)
}

fn is_losable(words: &[&str], index: usize) -> bool {
    let content = words.iter().filter(|word| is_content(word)).count();
    words.len() > 2
        && if PRONOUNS.contains(&words[index]) {
            content >= 2
        } else {
            is_light(words[index]) && content >= 1
        }
}

/// A light word and one beside it. Two words that are not light stay in their order, because it may matter, and so does all
/// that is a number, a sign or a name.
fn swap_neighbours(words: &mut [&str], random: &mut Random) {
    let can_move =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase()) && !NUMBER_WORDS.contains(&word);
    let places: Vec<usize> = (1..words.len())
        .filter(|&at| {
            can_move(words[at - 1]) && can_move(words[at]) && (is_light(words[at - 1]) || is_light(words[at]))
        })
        .collect();
    if !places.is_empty() {
        let at = *random.pick(&places);
        words.swap(at - 1, at);
    }
}

/// Puts a filler at the beginning or before a light word, where it cannot tear a name apart.
fn fill(words: &mut Vec<&str>, random: &mut Random) {
    let places: Vec<usize> = (0..words.len()).filter(|&at| at == 0 || is_light(words[at])).collect();
    words.insert(*random.pick(&places), *random.pick(FILLERS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loose_question_keeps_what_it_is_about() {
        let mut random = Random::new(4);
        let text = "can you tell me what is the capital of New Zealand";
        let loose: Vec<String> = (0..2000).map(|_| loosened(text, &mut random)).collect();
        for question in &loose {
            assert!(question.contains("New Zealand"), "{question}");
            assert!(["tell", "what", "capital"].iter().all(|word| question.contains(word)), "{question}");
        }
        let changed = loose.iter().filter(|&question| question != text).count();
        assert!((600..900).contains(&changed), "{changed}");
        assert!(loose.iter().any(|question| question == "can you tell me what is capital New Zealand"));
        let words = |question: &String| question.split(' ').count();
        assert!(loose.iter().map(words).min() == Some(words(&text.to_owned()) - 2));
        assert!(loose.iter().map(words).max() > Some(words(&text.to_owned())));
    }

    #[test]
    fn numbers_and_signs_keep_their_order() {
        let mut random = Random::new(5);
        for text in ["subtract 3 from 12", "8 - three", "what is nine minus 4"] {
            for _ in 0..500 {
                let loose = loosened(text, &mut random);
                let kept = |question: &str| -> Vec<String> {
                    let is_number = |word: &str| word.parse::<u32>().is_ok() || NUMBER_WORDS.contains(&word);
                    let stays = |word: &&str| is_number(word) || *word == "-";
                    question.split(' ').filter(stays).map(str::to_owned).collect()
                };
                assert_eq!(kept(text), kept(&loose));
            }
        }
    }

    #[test]
    fn a_question_about_you_or_it_still_is() {
        let mut random = Random::new(6);
        for text in
            ["who made you", "who are you", "how are you", "what can you do", "is it free", "hello", "a dog"]
        {
            for _ in 0..500 {
                let loose = loosened(text, &mut random);
                let about = text.split(' ').filter(|word| !LIGHT_WORDS.contains(word) || text == "a dog");
                for word in about {
                    assert!(loose.split(' ').any(|other| other == word), "{text} became {loose}");
                }
            }
        }
    }

    #[test]
    fn a_seed_fixes_the_loose_questions() {
        let loose = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| loosened("what is the color of the sky", &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(loose(7), loose(7));
        assert_ne!(loose(7), loose(8));
    }
}
