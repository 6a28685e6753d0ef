//! What a GGUF file says about its tokens, checked before anything is built from it.

use std::collections::HashMap;

use super::{TokenizerError, byte_level};
use crate::gguf::Metadata;

/// The tokenizer's part of a GGUF file, as the file has it.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// `tokenizer.ggml.model`: the kind of tokenizer.
    pub model: &'a str,
    /// `tokenizer.ggml.pre`: the name of the split rule.
    pub split_rule: Option<&'a str>,
    /// `tokenizer.ggml.tokens`: the text of each token, ordinary ones in the byte-level alphabet.
    pub tokens: &'a [String],
    /// `tokenizer.ggml.token_type`: what each token is.
    pub token_types: &'a [i32],
    /// `tokenizer.ggml.merges`: pairs of tokens with a space between, most important first.
    pub merges: &'a [String],
    /// `tokenizer.ggml.bos_token_id`: begins a sequence.
    pub bos: Option<u64>,
    /// `tokenizer.ggml.eos_token_id`: ends a sequence.
    pub eos: Option<u64>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u64>,
    /// `tokenizer.ggml.add_bos_token`: whether prompts begin with `bos`.
    pub adds_bos: Option<bool>,
}

/// What a token is (GGUF spec, `tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Made of bytes; what text is encoded with.
    Ordinary,
    /// Steers the model; text can only stand for it where the caller says so.
    Control,
    /// Added by the model's makers; taken whole wherever its text occurs.
    UserDefined,
    /// A hole in the numbering: never encoded.
    Unused,
}

/// The names with which chat models end their turn.
const END_OF_GENERATION: [&str; 9] = [
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "</s>",
];

/// Where in the last 256 entries of a Llama 3 vocabulary these tokens are, in all of its versions.
const LLAMA3_SPECIALS: [(usize, &str); 5] = [
    (0, "<|begin_of_text|>"),
    (1, "<|end_of_text|>"),
    (6, "<|start_header_id|>"),
    (7, "<|end_header_id|>"),
    (9, "<|eot_id|>"),
];

impl<'a> Vocabulary<'a> {
    /// The tokenizer's part of a file's metadata.
    pub fn from_metadata(metadata: &'a Metadata) -> Result<Self, TokenizerError> {
        let tokens = "tokenizer.ggml.tokens";
        let token_types = "tokenizer.ggml.token_type";
        let merges = "tokenizer.ggml.merges";
        let model = "tokenizer.ggml.model";
        Ok(Self {
            model: metadata.string(model)?.ok_or(TokenizerError::MissingKey(model))?,
            split_rule: metadata.string("tokenizer.ggml.pre")?,
            tokens: metadata.strings(tokens)?.ok_or(TokenizerError::MissingKey(tokens))?,
            token_types: metadata.i32s(token_types)?.ok_or(TokenizerError::MissingKey(token_types))?,
            merges: metadata.strings(merges)?.ok_or(TokenizerError::MissingKey(merges))?,
            bos: metadata.u64("tokenizer.ggml.bos_token_id")?,
            eos: metadata.u64("tokenizer.ggml.eos_token_id")?,
            eot: metadata.u64("tokenizer.ggml.eot_token_id")?,
            adds_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
        })
    }

    /// The kind of every token, after checking that there are as many kinds as tokens.
    pub(super) fn kinds(&self) -> Result<Vec<TokenKind>, TokenizerError> {
        if self.token_types.len() != self.tokens.len() {
            return Err(TokenizerError::Count {
                what: "tokenizer.ggml.token_type",
                found: self.token_types.len(),
                expected: self.tokens.len(),
            });
        }
        self.token_types
            .iter()
            .enumerate()
            .map(|(id, kind)| match kind {
                1 => Ok(TokenKind::Ordinary),
                3 => Ok(TokenKind::Control),
                4 => Ok(TokenKind::UserDefined),
                // Unknown, unused and single-byte tokens have no part in a byte-level vocabulary.
                2 | 5 | 6 => Ok(TokenKind::Unused),
                &found => Err(TokenizerError::TokenType { id, found }),
            })
            .collect()
    }

    /// The bytes of every token: what ordinary tokens stand for, the text itself of all others.
    pub(super) fn bytes(&self, kinds: &[TokenKind]) -> Result<Vec<Box<[u8]>>, TokenizerError> {
        let bytes_of = |(id, (token, kind)): (usize, (&String, &TokenKind))| match kind {
            TokenKind::Ordinary => token
                .chars()
                .map(|character| {
                    byte_level::byte(character).ok_or_else(|| TokenizerError::NotByteLevel {
                        id,
                        token: token.clone(),
                        character,
                    })
                })
                .collect(),
            _ => Ok(token.as_bytes().into()),
        };
        self.tokens.iter().zip(kinds).enumerate().map(bytes_of).collect()
    }

    /// The ids of tokens that text can stand for, by their text: no two the same, none empty.
    pub(super) fn ids(&self, kinds: &[TokenKind]) -> Result<HashMap<&str, u32>, TokenizerError> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, (token, kind)) in self.tokens.iter().zip(kinds).enumerate() {
            if *kind == TokenKind::Unused {
                continue;
            }
            if token.is_empty() {
                return Err(TokenizerError::EmptyToken { id });
            }
            if let Some(first) = ids.insert(token.as_str(), id as u32) {
                return Err(TokenizerError::DuplicateToken { token: token.clone(), first, second: id });
            }
        }
        Ok(ids)
    }

    /// The token with this id in the file under `key`.
    pub(super) fn checked(&self, key: &'static str, id: Option<u64>) -> Result<Option<u32>, TokenizerError> {
        let tokens = self.tokens.len();
        match id {
            Some(id) if id >= tokens as u64 => Err(TokenizerError::IdOutOfRange { key, id, tokens }),
            _ => Ok(id.map(|id| id as u32)),
        }
    }

    /// Ends of generation: those that the file names and those known by their text, ascending.
    pub(super) fn end_of_generation(&self, kinds: &[TokenKind], named: [Option<u32>; 2]) -> Vec<u32> {
        let known = self.tokens.iter().zip(kinds).zip(0..).filter_map(|((token, kind), id)| {
            let special = matches!(kind, TokenKind::Control | TokenKind::UserDefined);
            (special && END_OF_GENERATION.contains(&token.as_str())).then_some(id)
        });
        let mut ids: Vec<u32> = known.chain(named.into_iter().flatten()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether the vocabulary ends with the special tokens of Llama 3; shortened ones do too.
    pub(super) fn is_llama3(&self) -> bool {
        self.tokens.len().checked_sub(256).is_some_and(|base| {
            LLAMA3_SPECIALS
                .iter()
                .all(|&(offset, text)| self.tokens.get(base + offset).is_some_and(|token| token == text))
        })
    }
}
