//! Text to tokens and back: byte-level BPE as the GGUF file describes it.
//!
//! Text is cut at special tokens (only where the caller allows it), then into words by the vocabulary's split rule,
//! then each word into tokens by merging byte pairs.
//! `SentencePiece` vocabularies (`tokenizer.ggml.model` = `llama`) are absent on purpose: no supported architecture needs one.

mod bpe;
mod byte_level;
mod error;
mod matcher;
mod split;
mod vocabulary;

use std::fmt;

use tracing::{info, warn};

use crate::gguf::Metadata;
use bpe::BytePairs;
pub use error::TokenizerError;
use matcher::Matcher;
use split::SplitRule;
use vocabulary::TokenKind;
pub use vocabulary::Vocabulary;

/// Bytes between two looks at whether anybody still waits.
const LOOK: usize = 1 << 17;

/// Encodes text to token ids and decodes ids to bytes. Wrap it in an `Arc` to share it.
pub struct Tokenizer {
    pairs: BytePairs,
    split: SplitRule,
    /// Token texts that text stands for wherever they occur.
    user_defined: Matcher,
    /// The same and control tokens.
    special: Matcher,
    kinds: Vec<TokenKind>,
    bytes: Vec<Box<[u8]>>,
    /// Bytes of the longest token.
    longest: usize,
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
            pairs: BytePairs::new(vocabulary, &kinds, &bytes, split.ignore_merges)?,
            split,
            user_defined: Matcher::new(vocabulary, &kinds, &[TokenKind::UserDefined])?,
            special: Matcher::new(vocabulary, &kinds, &[TokenKind::UserDefined, TokenKind::Control])?,
            end_of_generation: vocabulary.end_of_generation(&kinds, [eos, eot]),
            longest: bytes.iter().map(|bytes| bytes.len()).max().unwrap_or(1).max(1),
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
        self.encode_while(text, parse_special, &|| true)
    }

    /// As [`encode`](Self::encode), for somebody who may leave: gives up with [`TokenizerError::Abandoned`] soon after `wanted`
    /// says no. Takes time in proportion to the text, and memory in proportion to the tokens.
    pub fn encode_while(
        &self,
        text: &str,
        parse_special: bool,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut words = Words { tokenizer: self, wanted, unlooked: 0, ids: Vec::new() };
        for part in self.parts(text, parse_special) {
            match part {
                Part::Text(text) => words.encode(text)?,
                Part::Token(id) => words.ids.push(id),
            }
        }
        Ok(words.ids)
    }

    /// A lower bound of the number of tokens that a text of so many bytes can have: what cannot fit need not be counted.
    #[must_use]
    pub fn fewest_tokens(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.longest)
    }

    /// Cuts `text` at the tokens that are taken whole: user-defined ones, and control tokens if `parse_special`.
    pub(crate) fn parts<'t>(&'t self, text: &'t str, parse_special: bool) -> impl Iterator<Item = Part<'t>> {
        if parse_special { self.special.parts(text) } else { self.user_defined.parts(text) }
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

/// Text on its way to becoming tokens.
struct Words<'a> {
    tokenizer: &'a Tokenizer,
    wanted: &'a dyn Fn() -> bool,
    /// Bytes since the last look at `wanted`.
    unlooked: usize,
    ids: Vec<u32>,
}

impl Words<'_> {
    fn encode(&mut self, text: &str) -> Result<(), TokenizerError> {
        self.tokenizer.split.split(text, &mut |word| {
            self.unlooked += word.len();
            if self.unlooked >= LOOK {
                self.unlooked = 0;
                if !(self.wanted)() {
                    return Err(TokenizerError::Abandoned);
                }
            }
            self.tokenizer.pairs.encode(word.as_bytes(), &mut self.ids, self.wanted)
        })
    }
}

/// A part of a text.
pub(crate) enum Part<'t> {
    Text(&'t str),
    /// The text of one token that is taken whole.
    Token(u32),
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

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod vectors;
