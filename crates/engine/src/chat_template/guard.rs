//! Keeps the text of messages from becoming control tokens, whatever a template does with it.
//!
//! A sentinel, a character that occurs nowhere else, goes into each message before rendering: behind every character that could
//! begin a control token, and to the front of a text that could continue one. The template may then cut, join or change the case
//! of what people wrote; every control token in its result is its own. Afterwards the result is cut at those tokens and the
//! sentinels are taken out, so that each piece is encoded as if they had never been there. A template that compares message
//! text with something that contains `<` may notice the difference; that is the price.

use std::collections::HashSet;

use super::{Message, TemplateError};

/// Roles that templates know. They may complete what a template begins, as in `<|user|>`.
const ROLES: [&str; 8] =
    ["system", "user", "assistant", "tool", "developer", "function", "ipython", "environment"];

/// What is known about the control tokens of a vocabulary.
#[derive(Debug)]
pub(super) struct Guard {
    /// Characters that begin a control token, in either case.
    openers: HashSet<char>,
    /// The texts of all control tokens in lower case.
    lowercase: Vec<String>,
    /// The length of the longest in characters.
    longest: usize,
    /// Private-use characters that control tokens contain.
    used: HashSet<char>,
}

impl Guard {
    /// A guard against control tokens with these texts.
    pub(super) fn new<'a>(control_texts: impl Iterator<Item = &'a str>) -> Self {
        let mut guard =
            Self { openers: HashSet::new(), lowercase: Vec::new(), longest: 0, used: HashSet::new() };
        for text in control_texts {
            guard.openers.extend(text.chars().take(1).flat_map(cases));
            guard.lowercase.push(text.to_lowercase());
            guard.longest = guard.longest.max(text.chars().count());
            guard.used.extend(private_use(text));
        }
        guard
    }

    /// The messages with sentinels in them, and the sentinel, which neither they nor the template had before.
    pub(super) fn messages(
        &self,
        template: &str,
        messages: &[Message],
    ) -> Result<(Vec<Message>, char), TemplateError> {
        let texts = messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()]);
        let mut used = self.used.clone();
        used.extend(texts.chain([template]).flat_map(private_use));
        let sentinel = ('\u{f0000}'..='\u{ffffd}')
            .chain('\u{100000}'..='\u{10fffd}')
            .find(|character| !used.contains(character))
            .ok_or(TemplateError::NoSentinel)?;
        let guarded = messages.iter().map(|message| Message {
            role: if ROLES.iter().any(|role| role.eq_ignore_ascii_case(&message.role)) {
                message.role.clone()
            } else {
                self.text(&message.role, sentinel)
            },
            content: self.text(&message.content, sentinel),
        });
        Ok((guarded.collect(), sentinel))
    }

    fn text(&self, text: &str, sentinel: char) -> String {
        // Behind the white space that templates trim.
        let start = text.len() - text.trim_start().len();
        let mut guarded = String::with_capacity(text.len() + text.len() / 8 + sentinel.len_utf8());
        for (index, character) in text.char_indices() {
            if index == start && self.may_continue(&text[start..]) {
                guarded.push(sentinel);
            }
            guarded.push(character);
            if cases(character).any(|character| self.openers.contains(&character)) {
                guarded.push(sentinel);
            }
        }
        guarded
    }

    /// Whether `text` could be the end, or lie in the middle, of a control token that a template begins.
    fn may_continue(&self, text: &str) -> bool {
        let start: String = text.chars().take(self.longest).flat_map(char::to_lowercase).collect();
        self.lowercase.iter().any(|control| {
            let tails = control.char_indices().skip(1).map(|(index, _)| &control[index..]);
            tails.into_iter().any(|tail| tail.starts_with(&start) || start.starts_with(tail))
        })
    }
}

/// `character` and what a change of case may begin with in its place.
fn cases(character: char) -> impl Iterator<Item = char> {
    character.to_lowercase().chain(character.to_uppercase()).chain([character])
}

/// The characters of the supplementary private-use planes, which ordinary text does not use.
fn private_use(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|&character| character >= '\u{f0000}')
}
