//! The byte-level alphabet: one printable character for each of the 256 bytes.
//!
//! Byte-pair vocabularies of this family store tokens as text in which every byte of the UTF-8 form is replaced by a character
//! that survives JSON and whitespace splitting: printable Latin-1 stands for itself, the 68 other bytes take the characters
//! from U+0100 on, in order (so a space is `Ġ`). Source: the encoder published with GPT-2.

/// The character of each byte.
const CHARACTERS: [char; 256] = characters();

/// How many bytes have no printable Latin-1 character of their own.
const DISPLACED: usize = 68;

/// The bytes that U+0100, U+0101, … stand for.
const DISPLACED_BYTES: [u8; DISPLACED] = displaced_bytes();

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

const fn characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let (mut byte, mut displaced) = (0, 0);
    while byte < 256 {
        characters[byte] = if stands_for_itself(byte as u8) {
            byte as u8 as char
        } else {
            displaced += 1;
            // U+0100 is a two-byte character; no value in this range is a surrogate.
            match char::from_u32(0xff + displaced) {
                Some(character) => character,
                None => panic!("the displaced range has no surrogates"),
            }
        };
        byte += 1;
    }
    characters
}

const fn displaced_bytes() -> [u8; DISPLACED] {
    let mut bytes = [0; DISPLACED];
    let (mut byte, mut displaced) = (0, 0);
    while byte < 256 {
        if !stands_for_itself(byte as u8) {
            bytes[displaced] = byte as u8;
            displaced += 1;
        }
        byte += 1;
    }
    bytes
}

/// The character that stands for `byte` in the vocabulary.
pub(super) fn character(byte: u8) -> char {
    CHARACTERS[usize::from(byte)]
}

/// The byte that `character` stands for; `None` outside the alphabet.
pub(super) fn byte(character: char) -> Option<u8> {
    match u8::try_from(character) {
        Ok(byte) => stands_for_itself(byte).then_some(byte),
        Err(_) => DISPLACED_BYTES.get((character as usize).checked_sub(0x100)?).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip() {
        for value in 0..=u8::MAX {
            assert_eq!(byte(character(value)), Some(value));
        }
    }

    #[test]
    fn spaces_and_newlines_have_their_customary_characters() {
        assert_eq!([b' ', b'\n', 0, 0xad].map(character), ['Ġ', 'Ċ', 'Ā', 'Ń']);
    }

    #[test]
    fn characters_outside_the_alphabet_stand_for_nothing() {
        for outside in [' ', '\n', '\u{7f}', '\u{ad}', '\u{144}', '€', '😀'] {
            assert_eq!(byte(outside), None, "{outside:?}");
        }
    }
}
