//! What can be wrong with a vocabulary.

use super::matcher;
use super::split::SplitRule;
use crate::gguf::{GgufError, shown};

/// Why a vocabulary cannot be used.
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A value of the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A key without which nothing can be encoded.
    #[error("the file has no {0}, so its tokenizer is unknown")]
    MissingKey(&'static str),
    /// The file has a tokenizer of another kind.
    #[error("tokenizer.ggml.model is {}; only \"gpt2\" (byte-level BPE) is supported", shown(.0))]
    UnsupportedModel(String),
    /// A split rule that would have to be guessed.
    #[error(
        "tokenizer.ggml.pre is {name:?}, a split rule that is not known here; known: {}",
        SplitRule::NAMES
    )]
    UnknownSplitRule {
        /// The name in the file.
        name: String,
    },
    /// Two parts of the file disagree about the number of tokens.
    #[error("{what} has {found} entries; {expected} are expected")]
    Count {
        /// The key of the list.
        what: &'static str,
        found: usize,
        /// What other parts of the file say.
        expected: usize,
    },
    /// A kind of token that does not exist.
    #[error("token {id} has the type {found} in tokenizer.ggml.token_type; 1 to 6 exist")]
    TokenType {
        id: usize,
        /// The type in the file.
        found: i32,
    },
    /// A token that every text would contain everywhere.
    #[error("token {id} is empty")]
    EmptyToken { id: usize },
    /// Encoding would have to choose.
    #[error("tokens {first} and {second} are both {}", shown(token))]
    DuplicateToken {
        token: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: usize,
    },
    /// An ordinary token with a character that stands for no byte.
    #[error(
        "token {id}, {token:?}, has the character {character:?}, which is not in the byte-level alphabet"
    )]
    NotByteLevel {
        id: usize,
        token: String,
        /// The first such character.
        character: char,
    },
    /// Some text could not be encoded at all.
    #[error("no ordinary token stands for the single byte {0:#04x}")]
    MissingByte(u8),
    /// A merge that does not name two tokens whose joined text is a token.
    #[error("merge {index}, {}, does not join two tokens of the vocabulary into a third", shown(merge))]
    Merge {
        /// Its place in `tokenizer.ggml.merges`.
        index: usize,
        merge: String,
    },
    /// A special token that is not in the vocabulary.
    #[error("{key} is {id}, but there are only {tokens} tokens")]
    IdOutOfRange {
        /// The key in the file.
        key: &'static str,
        /// The id in the file.
        id: u64,
        /// The size of the vocabulary.
        tokens: usize,
    },
    /// The file asks for a token that it does not name.
    #[error("tokenizer.ggml.add_bos_token is true, but tokenizer.ggml.bos_token_id is missing")]
    MissingBos,
    /// A special token that is none.
    #[error(
        "token {id} is a special one with {bytes} bytes of text; at most {} are searched for",
        matcher::LONGEST
    )]
    LongSpecialToken {
        id: u32,
        /// The length of its text.
        bytes: usize,
    },
    /// A library refused to build a part of the tokenizer.
    #[error("the tokenizer cannot be built: {0}")]
    Build(String),
    /// A word of more than four billion bytes.
    #[error("a word of the text is too long")]
    TooLong,
    /// Nobody waits for the tokens any more.
    #[error("the tokens are no longer wanted")]
    Abandoned,
}
