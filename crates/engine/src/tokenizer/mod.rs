//! Text to tokens and back: byte-level BPE as the GGUF file describes it.
//!
//! Text is cut at special tokens (only where the caller allows it), then into words by the vocabulary's split rule,
//! then each word into tokens by merging byte pairs, which the `tokenizers` crate does. Its own pipeline around that is not
//! used: its special tokens are recognised in all text or in none, and its split expressions backtrack.
//! `SentencePiece` vocabularies (`tokenizer.ggml.model` = `llama`) are absent on purpose: no supported architecture needs one.

mod byte_level;
mod error;
mod split;
mod vocabulary;

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tracing::{info, warn};

use crate::gguf::Metadata;
pub use error::TokenizerError;
use split::SplitRule;
use vocabulary::TokenKind;
pub use vocabulary::Vocabulary;

/// The automaton that finds special tokens takes many times this; published vocabularies have some thousand bytes.
const SPECIAL_TEXT_LIMIT: usize = 1 << 20;

/// Encodes text to token ids and decodes ids to bytes. Wrap it in an `Arc` to share it.
pub struct Tokenizer {
    bpe: BPE,
    split: SplitRule,
    /// Token texts that text stands for wherever they occur.
    user_defined: Matcher,
    /// The same and control tokens.
    special: Matcher,
    kinds: Vec<TokenKind>,
    bytes: Vec<Box<[u8]>>,
    bos: Option<u32>,
    adds_bos: bool,
    eos: Option<u32>,
    end_of_generation: Vec<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer that a file describes, for a model with `vocab_size` embeddings.
    pub fn from_metadata(metadata: &Metadata, vocab_size: usize) -> Result<Self, TokenizerError> {
        Self::new(&Vocabulary::from_metadata(metadata)?, vocab_size)
    }

    /// Builds the tokenizer of a model with `vocab_size` embeddings.
    pub fn new(vocabulary: &Vocabulary, vocab_size: usize) -> Result<Self, TokenizerError> {
        if vocabulary.model != "gpt2" {
            return Err(TokenizerError::UnsupportedModel(vocabulary.model.to_owned()));
        }
        if vocabulary.tokens.len() != vocab_size {
            return Err(TokenizerError::Count {
                what: "tokenizer.ggml.tokens",
                found: vocabulary.tokens.len(),
                expected: vocab_size,
            });
        }
        let bos = vocabulary.checked("tokenizer.ggml.bos_token_id", vocabulary.bos)?;
        let eos = vocabulary.checked("tokenizer.ggml.eos_token_id", vocabulary.eos)?;
        let eot = vocabulary.checked("tokenizer.ggml.eot_token_id", vocabulary.eot)?;
        let adds_bos = vocabulary.adds_bos.unwrap_or_else(|| bos.is_some() && vocabulary.is_llama3());
        if adds_bos && bos.is_none() {
            return Err(TokenizerError::MissingBos);
        }
        let split = split_rule(vocabulary)?;
        let kinds = vocabulary.kinds()?;
        let bytes = vocabulary.bytes(&kinds)?;
        Ok(Self {
            bpe: byte_pair_encoding(vocabulary, &kinds, split.ignore_merges)?,
            split,
            user_defined: Matcher::new(vocabulary, &kinds, &[TokenKind::UserDefined])?,
            special: Matcher::new(vocabulary, &kinds, &[TokenKind::UserDefined, TokenKind::Control])?,
            end_of_generation: vocabulary.end_of_generation(&kinds, [eos, eot]),
            kinds,
            bytes,
            bos,
            adds_bos,
            eos,
        })
    }

    /// The tokens of `text`. With `parse_special` the text of a control token stands for that token; without, control tokens
    /// cannot occur in the result. User-defined tokens are taken whole in either case. Never adds [`bos`](Self::bos).
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        for part in self.parts(text, parse_special) {
            match part {
                Part::Text(text) => self.encode_words(text, &mut ids)?,
                Part::Token(id) => ids.push(id),
            }
        }
        Ok(ids)
    }

    /// Cuts `text` at the tokens that are taken whole: user-defined ones, and control tokens if `parse_special`.
    pub(crate) fn parts<'t>(&'t self, text: &'t str, parse_special: bool) -> impl Iterator<Item = Part<'t>> {
        if parse_special { self.special.parts(text) } else { self.user_defined.parts(text) }
    }

    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut characters = String::new();
        for word in self.split.split(text) {
            characters.clear();
            characters.extend(word.bytes().map(byte_level::character));
            let tokens =
                self.bpe.tokenize(&characters).map_err(|error| TokenizerError::Encode(error.to_string()))?;
            ids.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }

    /// The text of `ids`, with U+FFFD for bytes that are not UTF-8. Control tokens appear as their text if `special`, else not at
    /// all; nor do ids outside the vocabulary.
    #[must_use]
    pub fn decode(&self, ids: &[u32], special: bool) -> String {
        let shown = ids.iter().filter(|&&id| special || !self.is_control(id));
        let bytes: Vec<&[u8]> = shown.filter_map(|&id| self.token_bytes(id)).collect();
        String::from_utf8_lossy(&bytes.concat()).into_owned()
    }

    /// The bytes that `id` stands for (control tokens: their text); `None` outside the vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize).map(AsRef::as_ref)
    }

    /// The text of one token, with U+FFFD where it is a part of a character; empty outside the vocabulary.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.token_bytes(id).unwrap_or_default()).into_owned()
    }

    /// The token that begins a sequence.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether prompts begin with [`bos`](Self::bos); then there is one.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The token that ends a sequence.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens at which generation ends, ascending: the file's, and end-of-turn tokens known by their text.
    #[must_use]
    pub fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// Whether `id` steers the model instead of standing for text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.kinds.get(id as usize) == Some(&TokenKind::Control)
    }

    /// The texts of all control tokens.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        let control = self.bytes.iter().zip(&self.kinds).filter(|(_, kind)| **kind == TokenKind::Control);
        control.filter_map(|(bytes, _)| std::str::from_utf8(bytes).ok())
    }

    /// The number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

/// A part of a text.
pub(crate) enum Part<'t> {
    /// Plain text.
    Text(&'t str),
    /// The text of one token that is taken whole.
    Token(u32),
}

/// Finds the texts of special tokens: the leftmost, and of those the longest.
struct Matcher {
    automaton: AhoCorasick,
    /// By the automaton's pattern number.
    ids: Vec<u32>,
}

impl Matcher {
    fn new(
        vocabulary: &Vocabulary,
        kinds: &[TokenKind],
        wanted: &[TokenKind],
    ) -> Result<Self, TokenizerError> {
        let found = vocabulary.tokens.iter().zip(kinds).zip(0..);
        let (texts, ids): (Vec<&String>, Vec<u32>) =
            found.filter(|((_, kind), _)| wanted.contains(kind)).map(|((text, _), id)| (text, id)).unzip();
        let bytes = texts.iter().map(|text| text.len()).sum();
        if bytes > SPECIAL_TEXT_LIMIT {
            return Err(TokenizerError::TooMuchSpecialText { bytes });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| TokenizerError::Build(error.to_string()))?;
        Ok(Self { automaton, ids })
    }

    fn parts<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Part<'t>> {
        let mut end = 0;
        let found = self.automaton.find_iter(text).map(Some).chain([None]);
        found
            .flat_map(move |found| {
                let before = &text[end..found.map_or(text.len(), |found| found.start())];
                end = found.map_or(text.len(), |found| found.end());
                let token = found.and_then(|found| self.ids.get(found.pattern().as_usize()));
                [Some(Part::Text(before)), token.map(|&id| Part::Token(id))]
            })
            .flatten()
            .filter(|part| !matches!(part, Part::Text("")))
    }
}

/// The rule that the file names, or the one that its vocabulary was trained with.
fn split_rule(vocabulary: &Vocabulary) -> Result<SplitRule, TokenizerError> {
    let name = match vocabulary.split_rule {
        Some(name) => {
            info!(rule = name, "split rule as tokenizer.ggml.pre says");
            name
        }
        None if vocabulary.is_llama3() => {
            info!(
                rule = "llama-bpe",
                "tokenizer.ggml.pre is missing; the vocabulary is that of Llama 3, and so is the rule"
            );
            "llama-bpe"
        }
        None => {
            warn!(
                rule = "default",
                "tokenizer.ggml.pre is missing and the vocabulary is not known; answers may suffer"
            );
            "default"
        }
    };
    SplitRule::named(name)
}

/// The BPE model over the ordinary tokens: what is not in it cannot come out of it.
fn byte_pair_encoding(
    vocabulary: &Vocabulary,
    kinds: &[TokenKind],
    ignore_merges: bool,
) -> Result<BPE, TokenizerError> {
    let mut ids = vocabulary.ids(kinds)?;
    ids.retain(|_, id| kinds.get(*id as usize) == Some(&TokenKind::Ordinary));
    let mut buffer = [0; 4];
    if let Some(byte) =
        (0..=u8::MAX).find(|&byte| !ids.contains_key(&*byte_level::character(byte).encode_utf8(&mut buffer)))
    {
        return Err(TokenizerError::MissingByte(byte));
    }
    let pairs = vocabulary.merges.iter().enumerate().map(|(index, merge)| {
        let mut joined = String::new();
        merge
            .split_once(' ')
            .filter(|(left, right)| {
                joined.extend([*left, *right]);
                [left, right, joined.as_str()].iter().all(|token| ids.contains_key(token))
            })
            .map(|(left, right)| (left.to_owned(), right.to_owned()))
            .ok_or_else(|| TokenizerError::Merge { index, merge: merge.clone() })
    });
    let merges = pairs.collect::<Result<Merges, _>>()?;
    let tokens: Vocab = ids.into_iter().map(|(token, id)| (token.to_owned(), id)).collect();
    BPE::builder()
        .vocab_and_merges(tokens, merges)
        .ignore_merges(ignore_merges)
        // One cache per thread, of words that an attacker chooses, would outlive the request.
        .cache_capacity(0)
        .build()
        .map_err(|error| TokenizerError::Build(error.to_string()))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;
