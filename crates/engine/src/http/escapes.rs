//! `%20` and its like in a path.

use super::refusal::Refusal;

/// What a part of a path stands for.
pub(crate) fn decode(part: &str) -> Result<String, Refusal> {
    let malformed = || Refusal::MalformedPath { part: part.to_owned() };
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let ([high, low], after) = rest.split_first_chunk().ok_or_else(malformed)?;
            let (high, low) = digit(*high).zip(digit(*low)).ok_or_else(malformed)?;
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_of_utf_8() {
        for (part, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("my%20model", "my model"),
            ("%E2%82%ac+1", "€+1"),
            ("%25%2F%00", "%/\0"),
        ] {
            assert_eq!(decode(part).unwrap(), expected, "{part}");
        }
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for part in ["%", "a%2", "%zz", "%+1", "% 1", "%ff", "%€"] {
            assert!(matches!(decode(part), Err(Refusal::MalformedPath { .. })), "{part}");
        }
    }
}
