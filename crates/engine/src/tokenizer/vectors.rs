//! Test vocabularies, and the reference vectors of the Llama 3 vocabulary.
//!
//! That vocabulary is not part of the project: these tests read the folder that `BITNET_LLAMA3_VECTORS` names
//! (`tokenizer.model`, `vectors.json`, `vectors-cut2048.json`) and say so when it is not set.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::gguf::{Gguf, Source};

/// A [`Vocabulary`] that owns its parts.
#[derive(Clone)]
pub(crate) struct TestVocabulary {
    pub(crate) model: &'static str,
    pub(crate) split_rule: Option<&'static str>,
    pub(crate) tokens: Vec<String>,
    pub(crate) token_types: Vec<i32>,
    pub(crate) merges: Vec<String>,
    pub(crate) bos: Option<u64>,
    pub(crate) eos: Option<u64>,
    pub(crate) eot: Option<u64>,
    pub(crate) adds_bos: Option<bool>,
}

impl TestVocabulary {
    /// Ordinary tokens with these bytes, merged in this order, and no others.
    pub(crate) fn of_bytes(tokens: &[Vec<u8>]) -> Self {
        let text = |bytes: &[u8]| bytes.iter().map(|&byte| byte_level::character(byte)).collect::<String>();
        let ranks: HashMap<&[u8], usize> =
            tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank)).collect();
        let mut merges = Vec::new();
        for token in tokens {
            let splits = (1..token.len()).map(|middle| token.split_at(middle));
            let mut ranked: Vec<_> = splits
                .filter_map(|(left, right)| Some((ranks.get(left)?, ranks.get(right)?, left, right)))
                .collect();
            ranked.sort_unstable();
            merges.extend(ranked.iter().map(|(_, _, left, right)| text(left) + " " + &text(right)));
        }
        Self {
            model: "gpt2",
            split_rule: None,
            tokens: tokens.iter().map(|token| text(token)).collect(),
            token_types: vec![1; tokens.len()],
            merges,
            bos: None,
            eos: None,
            eot: None,
            adds_bos: None,
        }
    }

    /// All bytes, `he`, `ll`, `hell` and `hello`.
    pub(crate) fn hello() -> Self {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let words = ["he", "ll", "hell", "hello"].map(|word| word.as_bytes().to_vec());
        Self::of_bytes(&bytes.chain(words).collect::<Vec<_>>())
    }

    /// Adds a token that is not ordinary and returns its id.
    pub(crate) fn add(&mut self, text: &str, token_type: i32) -> u32 {
        self.tokens.push(text.to_owned());
        self.token_types.push(token_type);
        self.tokens.len() as u32 - 1
    }

    /// Adds the 256 special tokens of Llama 3, with the first as BOS and the second as EOS.
    pub(crate) fn with_llama3_specials(mut self) -> Self {
        let base = self.tokens.len() as u64;
        let mut reserved = (0..).map(|number| format!("<|reserved_special_token_{number}|>"));
        for offset in 0..256 {
            let text = match offset {
                0 => "<|begin_of_text|>".to_owned(),
                1 => "<|end_of_text|>".to_owned(),
                6 => "<|start_header_id|>".to_owned(),
                7 => "<|end_header_id|>".to_owned(),
                9 => "<|eot_id|>".to_owned(),
                _ => reserved.next().unwrap(),
            };
            self.add(&text, 3);
        }
        Self { bos: Some(base), eos: Some(base + 1), adds_bos: Some(true), ..self }
    }

    pub(crate) fn view(&self) -> Vocabulary<'_> {
        Vocabulary {
            model: self.model,
            split_rule: self.split_rule,
            tokens: &self.tokens,
            token_types: &self.token_types,
            merges: &self.merges,
            bos: self.bos,
            eos: self.eos,
            eot: self.eot,
            adds_bos: self.adds_bos,
        }
    }

    pub(crate) fn build(&self) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::new(&self.view(), self.tokens.len())
    }
}

/// The tokenizer of a fixture model, from its GGUF file.
pub(crate) fn fixture(name: &str) -> Tokenizer {
    let gguf = Gguf::read(&Source::open(&fixture_folder(name).join("model-i2_s.gguf")).unwrap()).unwrap();
    let size = gguf.metadata.u64("bitnet-b1.58.vocab_size").unwrap().unwrap();
    Tokenizer::from_metadata(&gguf.metadata, size as usize).unwrap()
}

fn fixture_folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures", name].iter().collect()
}

/// The Llama 3 tokenizer; `None`, with a word about it, if its folder is not named.
pub(crate) fn llama3() -> Option<&'static Tokenizer> {
    static TOKENIZER: OnceLock<Option<Tokenizer>> = OnceLock::new();
    TOKENIZER.get_or_init(|| Some(llama3_vocabulary(128_000)?.build().unwrap())).as_ref()
}

fn llama3_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("BITNET_LLAMA3_VECTORS").map(PathBuf::from);
    if folder.is_none() {
        // Not `eprintln`, which tests that pass do not show.
        writeln!(std::io::stderr(), "not run: BITNET_LLAMA3_VECTORS is not set").unwrap();
    }
    folder
}

/// The first `ranks` tokens of the Llama 3 vocabulary, and all special ones.
fn llama3_vocabulary(ranks: usize) -> Option<TestVocabulary> {
    let file = std::fs::read_to_string(llama3_folder()?.join("tokenizer.model")).unwrap();
    let tokens: Vec<Vec<u8>> =
        file.lines().take(ranks).map(|line| base64(line.split(' ').next().unwrap())).collect();
    Some(TestVocabulary::of_bytes(&tokens).with_llama3_specials())
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').chars().map(|digit| DIGITS.find(digit).unwrap());
    let (mut bits, mut length, mut bytes) = (0, 0, Vec::new());
    for digit in digits {
        bits = (bits << 6 | digit) & 0xffff;
        length += 6;
        if length >= 8 {
            length -= 8;
            bytes.push((bits >> length) as u8);
        }
    }
    bytes
}

pub(crate) fn vectors(name: &str) -> Option<Value> {
    let file = std::fs::read(llama3_folder()?.join(name)).unwrap();
    Some(serde_json::from_slice(&file).unwrap())
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn the_prompts_of_the_fixture_models_are_encoded_as_their_references_say() {
    for name in ["pico", "nano64", "nano128"] {
        let tokenizer = fixture(name);
        let file = std::fs::read(fixture_folder(name).join("reference.json")).unwrap();
        let reference: Value = serde_json::from_slice(&file).unwrap();
        let mut texts = 0;
        for prompt in reference["prompts"].as_array().unwrap() {
            // Random prompts have no text, and the text of long ones is cut.
            let Some(text) = prompt["text"].as_str().filter(|text| !text.ends_with('…')) else { continue };
            let mut encoded = tokenizer.encode(text, true).unwrap();
            encoded.splice(0..0, tokenizer.bos().filter(|_| tokenizer.adds_bos()));
            assert_eq!(encoded, ids(&prompt["ids"]), "{name}: {text:?}");
            texts += 1;
        }
        assert!(texts >= 3, "{name} has only {texts} prompts with text");
    }
}

fn check_encoding(tokenizer: &Tokenizer, text: &Value, parse_special: bool, expected: &Value) {
    let text = text.as_str().unwrap();
    let expected = ids(expected);
    assert_eq!(tokenizer.encode(text, parse_special).unwrap(), expected, "{text:?}, {parse_special}");
    assert_eq!(tokenizer.decode(&expected, parse_special), text);
}

#[test]
fn all_encoding_vectors_of_llama_3_agree() {
    let (Some(tokenizer), Some(vectors)) = (llama3(), vectors("vectors.json")) else { return };
    let cases = vectors["encode"].as_array().unwrap();
    assert_eq!(cases.len(), 170);
    for case in cases {
        check_encoding(tokenizer, &case["text"], false, &case["ids"]);
        let special = case.get("ids_parse_special").unwrap_or(&case["ids"]);
        check_encoding(tokenizer, &case["text"], true, special);
    }
}

#[test]
fn all_encoding_vectors_of_the_shortened_vocabulary_agree() {
    let (Some(vocabulary), Some(vectors)) = (llama3_vocabulary(1792), vectors("vectors-cut2048.json")) else {
        return;
    };
    let tokenizer = vocabulary.build().unwrap();
    let cases = vectors["encode"].as_array().unwrap();
    assert_eq!(cases.len(), 57);
    for case in cases {
        check_encoding(&tokenizer, &case["text"], false, &case["ids"]);
    }
}

#[test]
fn the_full_vocabulary_loads_quickly_and_long_texts_are_encoded_in_linear_time() {
    let Some(vocabulary) = llama3_vocabulary(128_000) else { return };
    assert_eq!(vocabulary.merges.len(), 280_147);
    let start = Instant::now();
    let tokenizer = vocabulary.build().unwrap();
    println!("loaded in {:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 5, "loaded in {:?}", start.elapsed());
    for unit in ["a", "ab", " ", "\n", "0", "!", "\0", "\u{301}", "é", "日本", "the quick brown fox, 2024. "]
    {
        let text = unit.repeat(1_000_000 / unit.len());
        let start = Instant::now();
        let ids = tokenizer.encode(&text, true).unwrap();
        println!("a megabyte of {unit:?}: {} tokens in {:?}", ids.len(), start.elapsed());
        assert_eq!(tokenizer.decode(&ids, true), text);
        assert!(start.elapsed().as_secs() < 20, "{unit:?} took {:?}", start.elapsed());
    }
}
