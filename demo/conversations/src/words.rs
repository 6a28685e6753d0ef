//! Text → its words, for comparing what differs only in case, punctuation and spaces.

/// The words of `text` in lower case, separated by single spaces, without punctuation. Signs of arithmetic are words; a text
/// without any word stays as it is, so that "???" and "..." differ.
#[must_use]
pub fn normalized(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut gap = false;
    let mut previous = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let sign = match character {
            '+' | '*' | '/' | '=' | '%' | '^' => true,
            // Between numbers; elsewhere these are punctuation.
            '-' | ':' => is_number_side(previous) && is_number_side(characters.peek().copied()),
            _ => false,
        };
        if character.is_alphanumeric() || sign {
            if (gap || sign) && !words.is_empty() && !words.ends_with(' ') {
                words.push(' ');
            }
            words.extend(character.to_lowercase());
            gap = sign;
        } else if !matches!(character, '\'' | '’') {
            gap = true;
        }
        previous = Some(character);
    }
    if words.chars().any(char::is_alphanumeric) { words } else { text.trim().to_owned() }
}

fn is_number_side(neighbour: Option<char>) -> bool {
    neighbour.is_some_and(|neighbour| neighbour == ' ' || neighbour.is_ascii_digit())
}

/// Without runs of spaces, and without spaces at the ends.
pub(crate) fn single_spaced(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !result.is_empty() {
            result.push(' ');
        }
        result.push_str(word);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_and_spaces_do_not_count() {
        for (one, other) in [
            ("What's  up?", "whats up"),
            ("7+5", "7 + 5 "),
            ("BitNet b1.58!", "bitnet b1 58"),
            ("  7 + 5 = ?", "7+5="),
            ("9-4", "9 - 4"),
            ("self-test: ok", "self test ok"),
        ] {
            assert_eq!(normalized(one), normalized(other));
        }
        assert_ne!(normalized("???"), normalized("..."));
        assert_ne!(normalized("8 - 4"), normalized("8 : 4"));
    }
}
