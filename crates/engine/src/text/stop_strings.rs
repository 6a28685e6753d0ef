//! Ends an answer at a stop string, also if it is spread over several tokens.
//!
//! Text that may turn out to be the beginning of a stop string is held back until it is known. The stop string that is complete
//! first counts, as if the text came one character at a time; of two that end together, the one that began first. What comes
//! out does not depend on how the text is cut into pieces.

use std::collections::VecDeque;

/// Watches the text of an answer. Takes time in proportion to the text, whatever the stop strings, and memory in proportion to
/// both.
#[derive(Clone, Debug)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    /// All stop strings as one tree, the root first. A node is what they have in common up to there.
    nodes: Vec<Node>,
    /// The longest end of the text that some stop string begins with.
    at: usize,
    /// Not emitted yet: the text of that node.
    held: VecDeque<u8>,
}

/// The beginning of some stop strings.
#[derive(Clone, Debug)]
struct Node {
    byte: u8,
    length: usize,
    first_child: usize,
    next_sibling: usize,
    /// The longest end of its text that is a node as well.
    shorter: usize,
    /// The longest stop string that its text ends with.
    complete: Option<usize>,
}

/// The node of no text, and no child of anything.
const ROOT: usize = 0;

/// What a piece of text leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StopOutput {
    /// What can be emitted.
    pub text: String,
    /// The stop string that was found; it and what follows are not emitted.
    pub stopped: Option<String>,
}

impl StopStrings {
    /// Watches for any of `stops`; empty ones are ignored.
    #[must_use]
    pub(crate) fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        let root =
            Node { byte: 0, length: 0, first_child: ROOT, next_sibling: ROOT, shorter: ROOT, complete: None };
        let mut tree = Self { stops: Vec::new(), nodes: vec![root], at: ROOT, held: VecDeque::new() };
        for (index, stop) in stops.iter().enumerate() {
            let end = stop.bytes().fold(ROOT, |node, byte| {
                tree.child(node, byte).unwrap_or_else(|| tree.add_child(node, byte))
            });
            tree.nodes[end].complete = Some(index);
        }
        tree.link();
        tree.stops = stops;
        tree
    }

    /// Takes the next piece of text.
    #[must_use]
    pub(crate) fn push(&mut self, text: &str) -> StopOutput {
        for byte in text.bytes() {
            self.held.push_back(byte);
            self.at = self.step(self.at, byte);
            if let Some(stop) = self.nodes[self.at].complete.and_then(|index| self.stops.get(index)) {
                let stopped = Some(stop.clone());
                let text = self.emit(self.held.len() - stop.len());
                self.held.clear();
                self.at = ROOT;
                return StopOutput { text, stopped };
            }
        }
        StopOutput { text: self.emit(self.held.len() - self.nodes[self.at].length), stopped: None }
    }

    /// What was held back, when the answer ends for another reason.
    #[must_use]
    pub(crate) fn finish(&mut self) -> String {
        self.at = ROOT;
        self.emit(self.held.len())
    }

    /// The first bytes of what is held: whole characters, since stop strings consist of them and so does the text.
    fn emit(&mut self, bytes: usize) -> String {
        let bytes: Vec<u8> = self.held.drain(..bytes).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let mut child = self.nodes[node].first_child;
        while child != ROOT && self.nodes[child].byte != byte {
            child = self.nodes[child].next_sibling;
        }
        (child != ROOT).then_some(child)
    }

    fn add_child(&mut self, node: usize, byte: u8) -> usize {
        let child = self.nodes.len();
        let next_sibling = std::mem::replace(&mut self.nodes[node].first_child, child);
        let length = self.nodes[node].length + 1;
        self.nodes.push(Node {
            byte,
            length,
            first_child: ROOT,
            next_sibling,
            shorter: ROOT,
            complete: None,
        });
        child
    }

    /// The longest end of the text of `node` and `byte` that is a node. Each byte lengthens it by one at most, so that it is
    /// shortened as often at most.
    fn step(&self, mut node: usize, byte: u8) -> usize {
        loop {
            match self.child(node, byte) {
                Some(child) => return child,
                None if node == ROOT => return ROOT,
                None => node = self.nodes[node].shorter,
            }
        }
    }

    /// Finds `shorter` and what it completes for each node, shorter ones first.
    fn link(&mut self) {
        let mut nodes = VecDeque::from([ROOT]);
        while let Some(node) = nodes.pop_front() {
            let mut child = self.nodes[node].first_child;
            while child != ROOT {
                nodes.push_back(child);
                if node != ROOT {
                    let shorter = self.step(self.nodes[node].shorter, self.nodes[child].byte);
                    self.nodes[child].shorter = shorter;
                    let complete = self.nodes[shorter].complete;
                    self.nodes[child].complete = self.nodes[child].complete.or(complete);
                }
                child = self.nodes[child].next_sibling;
            }
        }
    }
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

    #[test]
    fn the_time_that_it_takes_does_not_depend_on_the_stop_strings() {
        let stops = (0..16).map(|number| format!("{}{number}", "a".repeat(100_000))).collect();
        let mut stops = StopStrings::new(stops);
        let start = std::time::Instant::now();
        let mut text: String = (0..300_000).map(|_| stops.push("a").text).collect();
        text.push_str(&stops.finish());
        assert!(text.len() == 300_000 && text.bytes().all(|byte| byte == b'a'));
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    /// What it all means, one character at a time.
    fn definition(list: &[String], text: &str) -> (String, Option<String>) {
        for (end, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let complete =
                list.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
            if let Some(stop) = complete.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
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
            prop_assert_eq!((text.clone(), stopped.clone()), definition(&list, &whole));
            prop_assert_eq!(run(&pieces), (text.clone(), stopped.clone()));
            prop_assert_eq!(run(std::slice::from_ref(&whole)), (text.clone(), stopped.clone()));
            let present = list.iter().any(|stop| !stop.is_empty() && whole.contains(stop.as_str()));
            prop_assert_eq!(stopped.is_some(), present);
            prop_assert!(whole.starts_with(&(text + &stopped.unwrap_or_default())));
        }
    }
}
