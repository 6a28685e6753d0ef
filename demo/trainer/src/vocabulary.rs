//! Texts in, a byte-level BPE vocabulary out, and the engine's tokenizer made of it.
//!
//! The engine encodes with a vocabulary as a GGUF file describes it, so what the trainer needs is only the list of tokens and merges;
//! words are cut for counting by the rule that the file will name.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, ensure};
use bitnet_engine::tokenizer::{self, Tokenizer};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior,
    Trainer as _,
};

/// `tokenizer.ggml.pre`: as Llama 3 cuts, but each digit is a word of its own, so that numbers have only one form.
pub const SPLIT_RULE: &str = "qwen2";
/// That rule, spelled out.
const SPLIT_EXPRESSION: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Begins a sequence.
pub const BOS: &str = "<|begin_of_text|>";
/// Ends a sequence.
pub const EOS: &str = "<|end_of_text|>";
/// Ends a turn.
pub const END_OF_TURN: &str = "<|eot_id|>";
/// At the end of the vocabulary, in this order.
const SPECIALS: [&str; 5] = [BOS, EOS, "<|start_header_id|>", "<|end_header_id|>", END_OF_TURN];

/// Rarer pairs stay apart.
const LEAST_FREQUENCY: u64 = 3;

/// Tokens and merges as a GGUF file has them: ordinary tokens first, then the special ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// In the byte-level alphabet; special ones as they are.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 for ordinary, 3 for special.
    pub types: Vec<i32>,
    /// Pairs with a space between, most important first.
    pub merges: Vec<String>,
}

impl Vocabulary {
    /// Finds at most `size` tokens, the special ones included, for these texts. The same texts give the same tokens.
    pub fn train(texts: &[String], size: usize) -> Result<Self> {
        let fault = |error: tokenizers::Error| anyhow!("cannot train the vocabulary: {error}");
        let split = Split::new(
            SplitPattern::Regex(SPLIT_EXPRESSION.to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map_err(fault)?;
        let byte_level = ByteLevel::new(false, false, false);
        let words = |text: &str| {
            let mut text = PreTokenizedString::from(text);
            split.pre_tokenize(&mut text)?;
            byte_level.pre_tokenize(&mut text)?;
            let pieces = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
            Ok(pieces.into_iter().map(|(word, ..)| word.to_owned()).collect())
        };
        let mut trainer = BpeTrainer::builder()
            .vocab_size(size.saturating_sub(SPECIALS.len()))
            .min_frequency(LEAST_FREQUENCY)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
            .show_progress(false)
            .build();
        trainer.feed(texts.iter(), words).map_err(fault)?;
        let mut bpe = BPE::default();
        trainer.train(&mut bpe).map_err(fault)?;
        Self::from_model(&bpe)
    }

    fn from_model(bpe: &BPE) -> Result<Self> {
        let ordinary = bpe.get_vocab_size();
        let tokens: Vec<String> = (0..ordinary as u32)
            .map(|id| bpe.id_to_token(id).context("the vocabulary has a hole"))
            .collect::<Result<_>>()?;
        // The crate shows its merges only in the form that it stores.
        let stored = serde_json::to_value(bpe)?;
        let pairs: Vec<[String; 2]> = serde_json::from_value(stored["merges"].clone())?;
        let merges = pairs.iter().map(|pair| pair.join(" ")).collect();
        Ok(Self::new(tokens.into_iter().chain(SPECIALS.map(str::to_owned)).collect(), merges))
    }

    /// With tokens of which the last are the special ones.
    fn new(tokens: Vec<String>, merges: Vec<String>) -> Self {
        let ordinary = tokens.len().saturating_sub(SPECIALS.len());
        let types = [vec![1; ordinary], vec![3; SPECIALS.len()]].concat();
        Self { tokens, types, merges }
    }

    /// As JSON, to be kept with a training.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!([self.tokens, self.merges]).to_string()
    }

    /// What [`Vocabulary::to_json`] wrote.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let (tokens, merges): (Vec<String>, _) = serde_json::from_slice(text)?;
        ensure!(tokens.ends_with(&SPECIALS.map(str::to_owned)), "the vocabulary lacks special tokens");
        Ok(Self::new(tokens, merges))
    }

    /// The engine's tokenizer with this vocabulary.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let vocabulary = tokenizer::Vocabulary {
            model: "gpt2",
            split_rule: Some(SPLIT_RULE),
            tokens: &self.tokens,
            token_types: &self.types,
            merges: &self.merges,
            bos: Some(u64::from(self.special(BOS))),
            eos: Some(u64::from(self.special(EOS))),
            eot: Some(u64::from(self.special(END_OF_TURN))),
            adds_bos: Some(true),
        };
        Ok(Tokenizer::new(&vocabulary, self.tokens.len())?)
    }

    /// The id of a special token.
    #[must_use]
    pub fn special(&self, text: &str) -> u32 {
        let after = SPECIALS.iter().rev().position(|special| *special == text).map_or(0, |index| index + 1);
        (self.tokens.len() - after) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        let numbers = (0..2_000).map(|i| format!("User: what's {i} plus 7?\nIt is {}, isn't it?", i + 7));
        numbers.chain(["  spaces\t and\n\n lines \u{e9}\u{1f600}".to_owned()]).collect()
    }

    #[test]
    fn the_same_texts_give_the_same_vocabulary() {
        let first = Vocabulary::train(&texts(), 300).unwrap();
        assert_eq!(first, Vocabulary::train(&texts(), 300).unwrap());
        assert!(first.tokens.len() <= 300 && !first.merges.is_empty());
        assert_eq!(first, Vocabulary::from_json(first.to_json().as_bytes()).unwrap());
        assert!(Vocabulary::from_json(b"[[], []]").is_err());
        assert_eq!(first.tokens.len(), 256 + first.merges.len() + SPECIALS.len());
    }

    #[test]
    fn digits_are_single_tokens_and_texts_come_back() {
        let tokenizer = Vocabulary::train(&texts(), 320).unwrap().tokenizer().unwrap();
        assert_eq!(tokenizer.encode("1234", false).unwrap().len(), 4);
        for text in texts() {
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text, false).unwrap(), false), text);
        }
    }
}
