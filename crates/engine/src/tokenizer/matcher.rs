//! Finds the texts of special tokens: the leftmost, and of those the longest.
//!
//! A sorted list, narrowed byte by byte. An automaton would read each byte of a text once, but a file of a megabyte can describe
//! one of a gigabyte; the list takes what the tokens themselves take.

use super::vocabulary::TokenKind;
use super::{Part, TokenizerError, Vocabulary};

/// Bytes of a special token; published ones have less than a hundred. It is also how often a byte of a text may be read.
pub(super) const LONGEST: usize = 1 << 8;

/// The texts, and what they stand for.
pub(super) struct Matcher {
    /// Ascending.
    tokens: Vec<(Box<[u8]>, u32)>,
    /// For each byte, where the texts that begin with it begin; and the end.
    by_first: Vec<usize>,
}

impl Matcher {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        kinds: &[TokenKind],
        wanted: &[TokenKind],
    ) -> Result<Self, TokenizerError> {
        let mut tokens = Vec::new();
        for ((text, kind), id) in vocabulary.tokens.iter().zip(kinds).zip(0..) {
            if wanted.contains(kind) {
                if text.len() > LONGEST {
                    return Err(TokenizerError::LongSpecialToken { id, bytes: text.len() });
                }
                tokens.push((text.as_bytes().into(), id));
            }
        }
        tokens.sort_unstable();
        let begins = |byte| tokens.partition_point(|(text, _): &(Box<[u8]>, u32)| text.first() < Some(&byte));
        let by_first = (0..=u8::MAX).map(begins).chain([tokens.len()]).collect();
        Ok(Self { tokens, by_first })
    }

    /// The longest text that `bytes` begin with: its length, and what it stands for.
    fn longest_at(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let first = usize::from(*bytes.first()?);
        let mut candidates = self.tokens.get(self.by_first[first]..self.by_first[first + 1])?;
        let (mut longest, mut length) = (None, 1);
        // All candidates begin with so many of the bytes; of these the shortest is the first.
        while let Some((text, id)) = candidates.first() {
            if text.len() == length {
                longest = Some((length, *id));
            }
            let Some(next) = bytes.get(length) else { break };
            let start = candidates.partition_point(|(text, _)| text.get(length) < Some(next));
            let end = candidates.partition_point(|(text, _)| text.get(length) <= Some(next));
            candidates = &candidates[start..end];
            length += 1;
        }
        longest
    }

    /// Cuts `text` at these tokens.
    pub(super) fn parts<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Part<'t>> {
        let mut start = 0;
        let mut found = None;
        std::iter::from_fn(move || {
            if let Some(id) = found.take() {
                return Some(Part::Token(id));
            }
            let bytes = text.as_bytes();
            // Only whole characters match, so the cuts are between characters.
            let next = (start..bytes.len()).find_map(|at| Some((at, self.longest_at(&bytes[at..])?)));
            let (end, length) = match next {
                Some((at, (length, id))) => {
                    found = Some(id);
                    (at, length)
                }
                None => (bytes.len(), 0),
            };
            let before = &text[start..end];
            start = end + length;
            if before.is_empty() { found.take().map(Part::Token) } else { Some(Part::Text(before)) }
        })
    }
}
