//! The bytes of tokens in, the visible text of an answer out, each token with the text that begins in it.

use std::collections::VecDeque;

use super::{StopStrings, Utf8Stream};

/// Puts an answer together. Held back are the bytes of incomplete characters, text that might
/// begin a stop string, and the tokens that belong to both. `Token` is whatever is told of one.
pub(crate) struct AnswerText<Token> {
    characters: Utf8Stream,
    stops: StopStrings,
    /// Tokens of which nothing is visible yet, each with the offset where its text begins.
    held: VecDeque<(usize, Token)>,
    decoded: usize,
    visible: usize,
}

/// What became visible.
pub(crate) struct Visible<Token> {
    /// Complete characters that follow those before.
    pub text: String,
    /// The tokens whose text begins in what has become visible, in order.
    pub tokens: Vec<Token>,
    /// The stop string that ends the answer here.
    pub stopped: Option<String>,
}

impl<Token> AnswerText<Token> {
    /// An answer that ends before any of `stop`; empty ones are ignored.
    #[must_use]
    pub(crate) fn new(stop: Vec<String>) -> Self {
        Self {
            characters: Utf8Stream::default(),
            stops: StopStrings::new(stop),
            held: VecDeque::new(),
            decoded: 0,
            visible: 0,
        }
    }

    /// The answer goes on with a token that stands for `bytes`.
    #[must_use]
    pub(crate) fn push(&mut self, token: Token, bytes: &[u8]) -> Visible<Token> {
        self.held.push_back((self.decoded, token));
        let text = self.characters.push(bytes);
        self.reveal(&text)
    }

    /// The answer is over: shows what was held back, unless that completes a stop string.
    #[must_use]
    pub(crate) fn finish(&mut self) -> Visible<Token> {
        let rest = self.characters.finish();
        let mut last = self.reveal(&rest);
        if last.stopped.is_none() {
            last.text.push_str(&self.stops.finish());
            last.tokens.extend(self.held.drain(..).map(|(_, token)| token));
        }
        last
    }

    fn reveal(&mut self, text: &str) -> Visible<Token> {
        self.decoded += text.len();
        let output = self.stops.push(text);
        self.visible += output.text.len();
        // Tokens that begin inside a stop string are no part of the answer and stay behind.
        let count = self.held.partition_point(|(start, _)| *start < self.visible);
        let tokens = self.held.drain(..count).map(|(_, token)| token).collect();
        Visible { text: output.text, tokens, stopped: output.stopped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes the pieces as tokens 0, 1, …; returns the visible (text, tokens) after each and at the end.
    fn reveal(stop: &[&str], pieces: &[&[u8]]) -> Vec<(String, Vec<u32>)> {
        let mut answer = AnswerText::new(stop.iter().map(ToString::to_string).collect());
        let mut seen = Vec::new();
        let mut see = |visible: Visible<u32>| {
            seen.push((visible.text, visible.tokens));
            visible.stopped.is_some()
        };
        for (id, piece) in (0..).zip(pieces) {
            if see(answer.push(id, piece)) {
                return seen;
            }
        }
        see(answer.finish());
        seen
    }

    fn check(stop: &[&str], pieces: &[&[u8]], expected: &[(&str, &[u32])]) {
        let expected: Vec<_> =
            expected.iter().map(|(text, ids)| ((*text).to_owned(), ids.to_vec())).collect();
        assert_eq!(reveal(stop, pieces), expected);
    }

    #[test]
    fn a_token_comes_with_its_text() {
        check(&[], &[b"Hel", b"lo"], &[("Hel", &[0]), ("lo", &[1]), ("", &[])]);
    }

    #[test]
    fn the_tokens_of_a_character_come_with_its_last_byte() {
        check(&[], &[b"\xf0\x9f", b"\x98\x80", b"!"], &[("", &[]), ("😀", &[0, 1]), ("!", &[2]), ("", &[])]);
    }

    #[test]
    fn tokens_inside_a_stop_string_are_no_part_of_the_answer() {
        check(&["STOP"], &[b"a", b"b ST", b"OP c"], &[("a", &[0]), ("b ", &[1]), ("", &[])]);
    }

    #[test]
    fn what_only_looked_like_a_stop_string_appears_when_that_is_known() {
        check(&["STOP"], &[b"S", b"T", b"X"], &[("", &[]), ("", &[]), ("STX", &[0, 1, 2]), ("", &[])]);
        check(&["STOP"], &[b"S", b"S"], &[("", &[]), ("S", &[0]), ("S", &[1])]);
    }

    #[test]
    fn an_incomplete_character_at_the_end_is_replaced() {
        check(&[], &[b"a\xf0"], &[("a", &[0]), ("\u{fffd}", &[])]);
    }
}
