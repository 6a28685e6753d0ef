//! A question as it is written in the text files → as a person might type it.
//!
//! Spelling, case, punctuation, and polite words around. Only questions are changed: answers stay as they were written, so that the model learns to write properly.

use crate::random::Random;
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

/// With which a question begins.
pub(crate) const QUESTION_WORDS: &[&str] =
    &["what", "whats", "what's", "who", "who's", "where", "when", "why", "how", "which", "whose"];
/// With which a question that is answered by yes or no begins, and some others before which nothing polite fits.
pub(crate) const OTHER_QUESTION_WORDS: &[&str] = &[
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
}
