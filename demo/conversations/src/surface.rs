//! A question as it is written in the text files → as a person might type it.
//!
//! Only questions are changed: answers stay as they were written, so that the model learns to write properly.

use crate::random::Random;
use crate::rows::NUMBER_WORDS;
use crate::words::normalized;

/// Put before a question that begins with a question word.
const BEFORE_QUESTIONS: &[&str] = &[
    "hey,",
    "hi,",
    "hello,",
    "so",
    "ok,",
    "ok, so",
    "and",
    "please tell me",
    "tell me",
    "can you tell me",
    "could you tell me",
    "do you know",
    "i want to know",
    "i would like to know",
    "quick question:",
    "i have a question:",
    "um,",
    "well,",
    "sorry,",
    "now",
    "just wondering,",
    "hey there,",
    "excuse me,",
    "next question:",
    "another question:",
    "one more thing:",
    "listen,",
    "look,",
    "my friend asks",
    "my son asks me",
    "somebody asked me",
    "i wonder",
    "i was wondering",
    "say,",
    "help me out:",
    "honest question:",
    "out of curiosity,",
    "by the way,",
    "first of all,",
    "for my homework:",
];
/// Put before a request.
const BEFORE_REQUESTS: &[&str] = &[
    "please",
    "can you",
    "could you",
    "can you please",
    "could you please",
    "hey,",
    "hi,",
    "ok,",
    "i want you to",
    "would you",
    "will you",
    "kindly",
    "go ahead and",
    "now",
    "listen,",
    "try to",
];
/// Put before what is neither.
const BEFORE_OTHERS: &[&str] =
    &["hey,", "ok,", "well,", "so,", "hi,", "listen,", "you know,", "hm,", "oh,", "look,", "by the way,"];
/// Put after questions and requests.
const AFTER: &[&str] = &["please", "pls", "for me", "if you can", "mate", "exactly", "quickly", "by the way"];

const QUESTION_WORDS: &[&str] =
    &["what", "whats", "what's", "who", "who's", "where", "when", "why", "how", "which", "whose"];
const OTHER_QUESTION_WORDS: &[&str] = &[
    "is", "are", "am", "do", "does", "did", "can", "could", "will", "would", "should", "may", "have", "has",
    "was", "were", "shall", "must", "in", "any", "isn't", "aren't", "don't", "for",
];
const REQUEST_WORDS: &[&str] = &[
    "tell",
    "explain",
    "describe",
    "define",
    "give",
    "say",
    "name",
    "show",
    "sing",
    "write",
    "calculate",
    "compute",
    "help",
    "count",
    "list",
    "solve",
    "recite",
    "teach",
];

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

enum Kind {
    /// "What is …": polite words can stand before it.
    Question,
    /// "Is it …": only a greeting can.
    OtherQuestion,
    Request,
    Other,
}

fn kind(text: &str) -> Kind {
    let first = text.split([' ', ',']).next().unwrap_or_default().to_lowercase();
    let is_in = |list: &[&str]| list.contains(&first.as_str());
    if is_in(QUESTION_WORDS) {
        Kind::Question
    } else if is_in(OTHER_QUESTION_WORDS) {
        Kind::OtherQuestion
    } else if is_in(REQUEST_WORDS) {
        Kind::Request
    } else {
        Kind::Other
    }
}

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

/// `text` with other case and punctuation, perhaps with polite words, abbreviations or one typo.
pub(crate) fn noisy(text: &str, plain: bool, random: &mut Random) -> String {
    let mut text = text.to_owned();
    let kind = kind(&text);
    if !plain {
        text = polite(&text, &kind, random);
        if random.chance(0.05) {
            text = abbreviated(&text);
        }
        if random.chance(0.08) {
            text = with_typo(&text, random);
        }
    }
    text = in_some_case(&text, plain, random);
    punctuated(text, &kind, random)
}

fn polite(text: &str, kind: &Kind, random: &mut Random) -> String {
    let before = match kind {
        Kind::Question if random.chance(0.16) => *random.pick(BEFORE_QUESTIONS),
        Kind::Request if random.chance(0.25) => *random.pick(BEFORE_REQUESTS),
        Kind::OtherQuestion | Kind::Other if random.chance(0.06) => *random.pick(BEFORE_OTHERS),
        _ => "",
    };
    let after = match kind {
        Kind::Question | Kind::Request if random.chance(0.04) => *random.pick(AFTER),
        _ => "",
    };
    format!("{before} {text} {after}").trim().to_owned()
}

/// All that `text` may have been before [`noisy`] put polite words around it, normalized; `text` itself comes first.
pub(crate) fn without_polite_words(text: &str) -> Vec<String> {
    let mut texts = vec![normalized(text)];
    let before = [BEFORE_QUESTIONS, BEFORE_REQUESTS, BEFORE_OTHERS].concat();
    for words in before {
        let rest = texts[0].strip_prefix(&normalized(words)).and_then(|rest| rest.strip_prefix(' '));
        texts.extend(rest.map(str::to_owned));
    }
    for index in 0..texts.len() {
        for words in AFTER {
            let rest = texts[index].strip_suffix(words).and_then(|rest| rest.strip_suffix(' '));
            texts.extend(rest.map(str::to_owned));
        }
    }
    texts
}

fn abbreviated(text: &str) -> String {
    let short = |word| match word {
        "you" => "u",
        "are" => "r",
        "your" => "ur",
        "please" => "pls",
        "what's" => "whats",
        "don't" => "dont",
        "i'm" => "im",
        "thanks" => "thx",
        "because" => "cuz",
        "and" => "&",
        word => word,
    };
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// One letter dropped, doubled or swapped with the next, inside of a longer word in lower case: names stay as they are.
fn with_typo(text: &str, random: &mut Random) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let long = |word: &&mut String| word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut candidates: Vec<&mut String> = words.iter_mut().filter(long).collect();
    if !candidates.is_empty() {
        let chosen = random.below(candidates.len());
        let word = &mut *candidates[chosen];
        let at = 1 + random.below(word.len() - 2);
        let letter = char::from(word.as_bytes()[at]);
        match random.below(3) {
            0 => drop(word.remove(at)),
            1 => word.insert(at, letter),
            _ => {
                word.remove(at);
                word.insert(at + 1, letter);
            }
        }
    }
    words.join(" ")
}

fn in_some_case(text: &str, plain: bool, random: &mut Random) -> String {
    match random.unit() {
        unit if unit < 0.42 => text.to_lowercase(),
        unit if unit < 0.435 && !plain => text.to_uppercase(),
        _ => {
            let mut sentence = String::with_capacity(text.len());
            for (index, word) in text.split(' ').enumerate() {
                let mut characters = word.chars();
                match characters.next() {
                    Some(first) if index == 0 => {
                        sentence.extend(first.to_uppercase());
                        sentence += characters.as_str();
                    }
                    Some('i') if matches!(word, "i" | "i'm" | "i'd" | "i've" | "i'll") => {
                        sentence.push_str(" I");
                        sentence += characters.as_str();
                    }
                    _ => {
                        sentence.push(' ');
                        sentence += word;
                    }
                }
            }
            sentence
        }
    }
}

fn punctuated(text: String, kind: &Kind, random: &mut Random) -> String {
    if text.ends_with(|last: char| last.is_ascii_punctuation()) {
        return text;
    }
    let end = match (kind, random.unit()) {
        (Kind::Question | Kind::OtherQuestion, unit) if unit < 0.62 => "?",
        (Kind::Question | Kind::OtherQuestion, unit) if unit < 0.64 => "??",
        (Kind::Question | Kind::OtherQuestion, unit) if unit < 0.66 => " ?",
        (Kind::Question | Kind::OtherQuestion, unit) if unit < 0.68 => ".",
        (Kind::Request, unit) if unit < 0.4 => ".",
        (Kind::Request, unit) if unit < 0.46 => "!",
        (Kind::Other, unit) if unit < 0.25 => ".",
        (Kind::Other, unit) if unit < 0.28 => "?",
        (Kind::Other, unit) if unit < 0.38 => "!",
        _ => "",
    };
    text + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_keeps_its_words() {
        let mut random = Random::new(1);
        for _ in 0..100 {
            assert_eq!(normalized(&noisy("what is 7 + 5", true, &mut random)), "what is 7 + 5");
        }
    }

    #[test]
    fn the_first_letter_and_i_are_the_only_ones_that_a_sentence_raises() {
        let mut random = Random::new(2);
        let texts: Vec<_> =
            (0..50).map(|_| in_some_case("can i ask Bob, i'm new", true, &mut random)).collect();
        assert!(texts.iter().any(|text| text == "Can I ask Bob, I'm new"));
        assert!(texts.iter().any(|text| text == "can i ask bob, i'm new"));
    }

    #[test]
    fn a_typo_changes_one_word_and_no_name() {
        let mut random = Random::new(3);
        for _ in 0..100 {
            let text = with_typo("my friend Alexander", &mut random);
            assert!(text.starts_with("my ") && text.ends_with(" Alexander") && text != "my friend Alexandre");
        }
    }

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
