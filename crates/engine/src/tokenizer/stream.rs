//! Bytes of tokens in, text out: a character appears when its last byte has arrived.
//!
//! Tokens of a byte-level vocabulary cut characters anywhere. Incomplete ones are held back; bytes that can no longer become
//! a character turn into U+FFFD at once, one for each maximal invalid part (Unicode 16, section 3.9, as `from_utf8_lossy` does).

/// Turns token bytes into text without ever emitting half a character.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The start of a character, at most three bytes.
    held: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder that holds nothing back yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `bytes` complete.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> String {
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
    pub fn finish(&mut self) -> String {
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

    use super::*;

    #[test]
    fn an_emoji_appears_with_its_last_byte() {
        let mut decoder = StreamDecoder::new();
        let pushed: Vec<String> = "😀".bytes().map(|byte| decoder.push(&[byte])).collect();
        assert_eq!(pushed, ["", "", "", "😀"]);
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn an_impossible_continuation_is_replaced_at_once() {
        let mut decoder = StreamDecoder::new();
        assert_eq!(decoder.push(b"\xc3"), "");
        assert_eq!(decoder.push(b"a"), "\u{fffd}a");
        assert_eq!(decoder.push(b"\xf0\x9f"), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    /// Bytes in which UTF-8 lead and continuation bytes are common.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte =
            prop_oneof![any::<u8>(), 0x80..=0xbf_u8, 0xc0..=0xff_u8, Just(b'a'), Just(0xed), Just(0xf4)];
        let bytes = prop_oneof![prop::collection::vec(byte, 0..6), "\\PC{0,3}".prop_map(String::into_bytes)];
        prop::collection::vec(bytes, 0..12)
    }

    proptest! {
        #[test]
        fn any_splitting_gives_the_lossy_text_of_the_whole(pieces in pieces()) {
            let mut decoder = StreamDecoder::new();
            let mut text: String = pieces.iter().map(|piece| decoder.push(piece)).collect();
            text.push_str(&decoder.finish());
            let whole = pieces.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }

        #[test]
        fn valid_text_in_single_bytes_never_shows_a_replacement(text in "\\PC{0,20}") {
            let mut decoder = StreamDecoder::new();
            let decoded: String = text.bytes().map(|byte| decoder.push(&[byte])).collect();
            prop_assert_eq!(decoded, text);
        }
    }
}
