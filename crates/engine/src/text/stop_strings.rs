//! Ends an answer at a stop string, also if it is spread over several tokens.
//!
//! Text that may turn out to be the beginning of a stop string is held back until it is known. The stop string that is complete
//! first counts, as if the text came one character at a time; of two that end together, the one that began first. What comes
//! out does not depend on how the text is cut into pieces.

/// Watches the text of an answer.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Not emitted yet: the beginning of some stop string.
    held: String,
}

/// What a piece of text leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOutput {
    /// What can be emitted.
    pub text: String,
    /// The stop string that was found; it and what follows are not emitted.
    pub stopped: Option<String>,
}

impl StopStrings {
    /// Watches for any of `stops`; empty ones are ignored.
    #[must_use]
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { stops, held: String::new() }
    }

    /// Takes the next piece of text.
    #[must_use]
    pub fn push(&mut self, text: &str) -> StopOutput {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((start, stop)) = found.min_by_key(|(start, stop)| (start + stop.len(), *start)) {
            let stopped = Some(stop.clone());
            self.held.truncate(start);
            return StopOutput { text: std::mem::take(&mut self.held), stopped };
        }
        let kept = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - kept);
        StopOutput { text: std::mem::replace(&mut self.held, kept), stopped: None }
    }

    /// What was held back, when the answer ends for another reason.
    #[must_use]
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(length, _)| length).rev();
    lengths.into_iter().find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops(stops: &[&str]) -> StopStrings {
        StopStrings::new(stops.iter().map(|&stop| stop.to_owned()).collect())
    }

    /// Pushes all pieces: everything that is emitted, and the stop string.
    fn run(mut stops: StopStrings, pieces: &[&str]) -> (String, Option<String>) {
        let mut text = String::new();
        for piece in pieces {
            let output = stops.push(piece);
            text.push_str(&output.text);
            if output.stopped.is_some() {
                return (text, output.stopped);
            }
        }
        (text + &stops.finish(), None)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        let (text, stopped) = run(stops(&["\nUser:"]), &["Hello", "\nUs", "er", ": bye"]);
        assert_eq!((text.as_str(), stopped.as_deref()), ("Hello", Some("\nUser:")));
    }

    #[test]
    fn text_that_turns_out_to_be_no_stop_string_is_emitted() {
        let mut stops = stops(&["abc"]);
        assert_eq!(stops.push("xab").text, "x");
        assert_eq!(stops.push("ab").text, "ab");
        assert_eq!(stops.push("d").text, "abd");
        assert_eq!(stops.push("ab").text, "");
        assert_eq!(stops.finish(), "ab");
        assert_eq!(stops.finish(), "");
    }

    #[test]
    fn the_stop_string_that_is_complete_first_counts() {
        let check = |list: &[&str], text: &str, before: &str, stop: &str| {
            assert_eq!(run(stops(list), &[text]), (before.to_owned(), Some(stop.to_owned())));
        };
        check(&["abcd", "bc"], "xabcd", "xa", "bc");
        check(&["c", "abc"], "xabc", "x", "abc");
        check(&["", "b"], "abab", "a", "b");
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        let (text, stopped) = run(stops(&["é😀"]), &["aé", "é", "😀x"]);
        assert_eq!((text.as_str(), stopped.as_deref()), ("aé", Some("é😀")));
    }

    #[test]
    fn without_stop_strings_text_passes_at_once() {
        assert_eq!(stops(&[""]).push("abc"), StopOutput { text: "abc".to_owned(), stopped: None });
    }

    proptest! {
        #[test]
        fn any_cutting_of_the_text_stops_as_single_characters_do(
            list in prop::collection::vec("[abé]{0,4}", 0..4),
            pieces in prop::collection::vec("[abé]{0,5}", 0..12),
        ) {
            let whole = pieces.concat();
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let run = |pieces: &[String]| {
                run(StopStrings::new(list.clone()), &pieces.iter().map(String::as_str).collect::<Vec<_>>())
            };
            let (text, stopped) = run(&characters);
            prop_assert_eq!(run(&pieces), (text.clone(), stopped.clone()));
            prop_assert_eq!(run(std::slice::from_ref(&whole)), (text.clone(), stopped.clone()));
            let present = list.iter().any(|stop| !stop.is_empty() && whole.contains(stop.as_str()));
            prop_assert_eq!(stopped.is_some(), present);
            prop_assert!(whole.starts_with(&(text + &stopped.unwrap_or_default())));
        }
    }
}
