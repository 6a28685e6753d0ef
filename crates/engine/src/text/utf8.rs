//! Bytes of tokens in, text out: a character appears when its last byte has arrived.
//!
//! Tokens of a byte-level vocabulary cut characters anywhere. Incomplete ones are held back; bytes that can no longer become
//! a character turn into U+FFFD at once, one for each maximal invalid part (Unicode 16, section 3.9, as `from_utf8_lossy` does).

/// Turns token bytes into text without ever emitting half a character.
#[derive(Clone, Debug, Default)]
pub(crate) struct Utf8Stream {
    /// The start of a character, at most three bytes.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// The text that `bytes` complete.
    #[must_use]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut incomplete = 0;
        let mut chunks = self.held.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            match chunk.invalid() {
                [] => {}
                part if chunks.peek().is_none() && is_incomplete(part) => incomplete = part.len(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        self.held.drain(..self.held.len() - incomplete);
        text
    }

    /// What is left at the end: one U+FFFD for a character that was never completed.
    #[must_use]
    pub(crate) fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Whether `part` is the start of a character.
fn is_incomplete(part: &[u8]) -> bool {
    std::str::from_utf8(part).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::tokenizer::vectors::{ids, llama3, vectors};

    #[test]
    fn an_emoji_appears_with_its_last_byte() {
        let mut stream = Utf8Stream::default();
        let pushed: Vec<String> = "😀".bytes().map(|byte| stream.push(&[byte])).collect();
        assert_eq!(pushed, ["", "", "", "😀"]);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn an_impossible_continuation_is_replaced_at_once() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"\xc3"), "");
        assert_eq!(stream.push(b"a"), "\u{fffd}a");
        assert_eq!(stream.push(b"\xf0\x9f"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
    }

    /// Bytes in which UTF-8 lead and continuation bytes are common.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte =
            prop_oneof![any::<u8>(), 0x80..=0xbf_u8, 0xc0..=0xff_u8, Just(b'a'), Just(0xed), Just(0xf4)];
        let bytes = prop_oneof![prop::collection::vec(byte, 0..6), "\\PC{0,3}".prop_map(String::into_bytes)];
        prop::collection::vec(bytes, 0..12)
    }

    #[test]
    fn all_decoding_vectors_of_llama_3_agree() {
        let (Some(tokenizer), Some(vectors)) = (llama3(), vectors("vectors.json")) else { return };
        let cases = vectors["decode"].as_array().unwrap();
        assert_eq!(cases.len(), 24);
        for case in cases {
            let ids = ids(&case["ids"]);
            let pieces = ids.iter().map(|&id| tokenizer.token_bytes(id).unwrap());
            let digit = |half: u8| char::from_digit(half.into(), 16).unwrap();
            let hex =
                |piece: &[u8]| piece.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect();
            assert_eq!(Value::from(pieces.clone().map(hex).collect::<Vec<String>>()), case["piece_hex"]);
            let mut stream = Utf8Stream::default();
            let streamed: Vec<String> = pieces.map(|piece| stream.push(piece)).collect();
            assert_eq!(Value::from(streamed), case["stream_text"], "{case}");
            assert_eq!(Value::from(stream.finish()), case["flush_text"], "{case}");
            assert_eq!(Value::from(tokenizer.decode(&ids, true)), case["text"], "{case}");
        }
    }

    proptest! {
        #[test]
        fn any_splitting_gives_the_lossy_text_of_the_whole(pieces in pieces()) {
            let mut stream = Utf8Stream::default();
            let mut text: String = pieces.iter().map(|piece| stream.push(piece)).collect();
            text.push_str(&stream.finish());
            let whole = pieces.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }

        #[test]
        fn valid_text_in_single_bytes_never_shows_a_replacement(text in "\\PC{0,20}") {
            let mut stream = Utf8Stream::default();
            let decoded: String = text.bytes().map(|byte| stream.push(&[byte])).collect();
            prop_assert_eq!(decoded, text);
        }
    }
}
