//! Split rules: where text is cut into words before byte pairs are merged inside each word.
//!
//! A vocabulary is only right together with the rule that it was trained with, and GGUF files name the rule
//! (`tokenizer.ggml.pre`) instead of spelling it out. The published expressions end in `\s+(?!\S)|\s+`, which needs
//! look-ahead and so a backtracking engine, whose step limit a megabyte of spaces exceeds. Here everything else is an
//! expression for an engine that takes linear time on any input, and runs of white space are cut by hand.

use regex::Regex;

use super::TokenizerError;

const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";
/// As Llama 3, with single digits.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";
const FALCON_PUNCTUATION: &str = r"[\p{P}$+<=>^~|`]+";
const DEFAULT_PUNCTUATION: &str = r"[\p{P}$+<=>^~|]+";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// How text is cut into words, and how a word meets the vocabulary.
#[derive(Debug)]
pub(super) struct SplitRule {
    passes: Vec<Pass>,
    /// A word that is a token is taken whole, whatever the merges would make of it.
    pub(super) ignore_merges: bool,
}

/// One pass over the pieces that the pass before it left.
#[derive(Debug)]
enum Pass {
    /// Each match is a piece, and so is what lies between matches.
    Isolate(Regex),
    /// The match at the current place is a piece; where there is none, a run of white space is.
    Words(Regex),
}

impl SplitRule {
    /// The names in `tokenizer.ggml.pre` that [`named`](Self::named) knows.
    pub(super) const NAMES: &str =
        "llama-bpe, llama3, llama-v3, qwen2, gpt-2, gpt2, falcon, falcon3, falcon_e, default";

    /// The rule that `tokenizer.ggml.pre` calls `name`.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerError> {
        let isolate = |expression| Regex::new(expression).map(Pass::Isolate);
        let words = |expression| Regex::new(&format!("^(?:{expression})")).map(Pass::Words);
        let passes = match name {
            "llama-bpe" | "llama3" | "llama-v3" => vec![words(LLAMA3)],
            "qwen2" => vec![words(QWEN2)],
            "gpt-2" | "gpt2" => vec![words(GPT2)],
            "falcon" => vec![isolate(FALCON_PUNCTUATION), words(GPT2), isolate(THREE_DIGITS)],
            "falcon3" | "falcon_e" => vec![isolate(FALCON_PUNCTUATION), words(GPT2), isolate("[0-9]")],
            "default" => {
                vec![isolate(DEFAULT_PUNCTUATION), words(GPT2), isolate(r"\p{N}+"), isolate(THREE_DIGITS)]
            }
            _ => return Err(TokenizerError::UnknownSplitRule { name: name.to_owned() }),
        };
        Ok(Self {
            passes: passes
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|error| TokenizerError::Build(error.to_string()))?,
            ignore_merges: matches!(name, "llama-bpe" | "llama3" | "llama-v3"),
        })
    }

    /// Hands the words of `text` to `each`, in order; joined they are `text`. Ends with the first error.
    pub(super) fn split<'t, E>(
        &self,
        text: &'t str,
        each: &mut dyn FnMut(&'t str) -> Result<(), E>,
    ) -> Result<(), E> {
        cut(&self.passes, text, each)
    }
}

/// What the first pass leaves of `text` goes through the others.
fn cut<'t, E>(
    passes: &[Pass],
    text: &'t str,
    each: &mut dyn FnMut(&'t str) -> Result<(), E>,
) -> Result<(), E> {
    let Some((pass, later)) = passes.split_first() else { return each(text) };
    match pass {
        Pass::Isolate(expression) => {
            let mut end = 0;
            for found in expression.find_iter(text) {
                if end < found.start() {
                    cut(later, &text[end..found.start()], each)?;
                }
                cut(later, found.as_str(), each)?;
                end = found.end();
            }
            if end < text.len() { cut(later, &text[end..], each) } else { Ok(()) }
        }
        Pass::Words(expression) => {
            let mut rest = text;
            while !rest.is_empty() {
                let length =
                    expression.find(rest).map_or_else(|| white_space_length(rest), |found| found.end());
                let (word, after) = rest.split_at(length);
                cut(later, word, each)?;
                rest = after;
            }
            Ok(())
        }
    }
}

/// The length of what `\s+(?!\S)|\s+` matches: the run of white space that `text` starts with, without the last character
/// if a word follows (a space then belongs to that word) and the run has another.
fn white_space_length(text: &str) -> usize {
    let run = text.len() - text.trim_start().len();
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    match run {
        // Every other character is matched by the expressions; advance all the same.
        0 => text.chars().next().map_or(0, char::len_utf8),
        _ if run < text.len() && last < run => run - last,
        _ => run,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::tests::words;

    fn check(rule: &str, text: &str, expected: &[&str]) {
        assert_eq!(words(&SplitRule::named(rule).unwrap(), text), expected, "{rule}: {text:?}");
    }

    #[test]
    fn llama_3_keeps_a_space_with_its_word_and_digits_in_threes() {
        check(
            "llama-bpe",
            "Hello, world  12345!\n\n",
            &["Hello", ",", " world", " ", " ", "123", "45", "!\n\n"],
        );
        check("llama-bpe", "it's I'LL \t  end ", &["it", "'s", " I", "'LL", " \t ", " end", " "]);
        check("llama-bpe", " \n  \n   x", &[" \n  \n", "  ", " x"]);
    }

    #[test]
    fn gpt_2_leaves_newlines_in_runs_of_white_space() {
        check("gpt-2", "a\n\n b 2024", &["a", "\n\n", " b", " 2024"]);
        check("gpt-2", "a\n\nb", &["a", "\n", "\n", "b"]);
    }

    #[test]
    fn falcon_3_cuts_punctuation_first_and_digits_last() {
        check("falcon3", "it's f(x) 2024", &["it", "'", "s", " f", "(", "x", ")", " ", "2", "0", "2", "4"]);
        check("falcon", "x 12345", &["x", " ", "123", "45"]);
        check("default", "x 12345", &["x", " ", "123", "45"]);
    }

    #[test]
    fn an_unknown_rule_is_named_together_with_the_known_ones() {
        let error = SplitRule::named("klingon").unwrap_err().to_string();
        assert!(error.contains("klingon") && error.contains("llama-bpe"), "{error}");
    }

    #[test]
    fn every_listed_name_is_known() {
        for name in SplitRule::NAMES.split(", ") {
            SplitRule::named(name).unwrap();
        }
    }

    #[test]
    fn long_runs_take_linear_time() {
        let start = Instant::now();
        for name in SplitRule::NAMES.split(", ") {
            let rule = SplitRule::named(name).unwrap();
            for run in [" ", "\t", "\n", " \n", "\n ", "a", "1", "!", "'", "\u{301}", "\0"] {
                let text = run.repeat(100_000) + "x";
                assert_eq!(words(&rule, &text).concat(), text);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    proptest! {
        #[test]
        fn words_joined_are_the_text(text in r"[\PC\s\x00'0-9a-z]{0,40}") {
            for name in SplitRule::NAMES.split(", ") {
                let rule = SplitRule::named(name).unwrap();
                let words = words(&rule, &text);
                prop_assert!(words.iter().all(|word| !word.is_empty()));
                prop_assert_eq!(words.concat(), text.as_str());
            }
        }
    }
}
