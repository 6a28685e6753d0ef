//! Conversations in, token sequences and what is to be predicted in them out.
//!
//! A template writes `User: …<|eot_id|>Assistant: …<|eot_id|>`, and asks for an answer with `Assistant: ` and a space at the end. That
//! space is a token of its own there, while in an answer of an earlier turn it belongs to the first word. Both forms are trained as they
//! will be read: the last answer follows the lone space, earlier ones are written as the template writes them.

use std::ops::Range;

use anyhow::Result;
use bitnet_demo_conversations::Turn;
use bitnet_engine::tokenizer::Tokenizer;

use crate::vocabulary::{END_OF_TURN, Vocabulary};

/// What BitNet b1.58 2B4T was trained with (its `tokenizer_config.json`).
pub const CHAT_TEMPLATE: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = message['role'] | capitalize + ': '+ message['content'] | trim + '<|eot_id|>' %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// A token that should be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The token after which it comes: a row of the batch, or an index in the sequence.
    pub position: usize,
    /// The id that should be the likeliest.
    pub token: u32,
}

/// A conversation as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// BOS first.
    pub tokens: Vec<u32>,
    /// The assistant's tokens and the ends of its turns.
    pub targets: Vec<Target>,
}

impl Sequence {
    /// Appends tokens of which all from `first` on should be predicted.
    fn extend(&mut self, tokens: &[u32], first: usize) {
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        let wanted = tokens.iter().enumerate().skip(first);
        self.targets.extend(wanted.map(|(i, &token)| Target { position: start + i - 1, token }));
    }

    /// The same, but only the last answer should be predicted.
    #[must_use]
    pub fn last_answer_only(mut self) -> Self {
        // Targets of one answer follow each other without a gap.
        let gap = self.targets.windows(2).rposition(|pair| pair[0].position + 1 != pair[1].position);
        self.targets.drain(..gap.map_or(0, |gap| gap + 1));
        self
    }
}

/// Encodes conversations as the engine does.
#[derive(Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    bos: u32,
    end_of_turn: u32,
    /// Tokens of `Assistant:`.
    name_length: usize,
}

impl Encoder {
    /// With this vocabulary.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let tokenizer = vocabulary.tokenizer()?;
        let name_length = tokenizer.encode("Assistant:", false)?.len();
        let bos = tokenizer.bos().unwrap_or_default();
        Ok(Self { tokenizer, bos, end_of_turn: vocabulary.special(END_OF_TURN), name_length })
    }

    /// The engine's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens of a conversation, which ends with an answer.
    pub fn sequence(&self, turns: &[Turn]) -> Result<Sequence> {
        let mut sequence = Sequence { tokens: vec![self.bos], targets: Vec::new() };
        for (index, turn) in turns.iter().enumerate() {
            let question = self.closed(&format!("User: {}", turn.user.trim()))?;
            sequence.extend(&question, question.len());
            let answer = turn.assistant.trim();
            if index + 1 < turns.len() {
                // How its first word is joined to the name is never asked for.
                sequence.extend(&self.closed(&format!("Assistant: {answer}"))?, self.name_length + 1);
            } else {
                let name = self.tokenizer.encode("Assistant: ", false)?;
                sequence.extend(&name, name.len());
                sequence.extend(&self.closed(answer)?, 0);
            }
        }
        Ok(sequence)
    }

    fn closed(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(text, false)?;
        tokens.push(self.end_of_turn);
        Ok(tokens)
    }
}

/// Sequences side by side, without padding.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Of all sequences.
    pub tokens: Vec<u32>,
    /// Where each sequence is; none is empty.
    pub sequences: Vec<Range<usize>>,
    /// Their positions are rows of the batch, each at most once.
    pub targets: Vec<Target>,
}

impl Batch {
    /// Appends a sequence.
    pub fn push(&mut self, sequence: &Sequence) {
        let start = self.tokens.len();
        self.tokens.extend(&sequence.tokens);
        self.sequences.push(start..self.tokens.len());
        let moved = |target: &Target| Target { position: start + target.position, ..*target };
        self.targets.extend(sequence.targets.iter().map(moved));
    }

    /// The same sequences in `parts` batches.
    #[must_use]
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let each = self.sequences.len().div_ceil(parts.max(1)).max(1);
        let parts = self.sequences.chunks(each).map(|sequences| {
            let (start, end) = (sequences[0].start, sequences[sequences.len() - 1].end);
            let of_part = self.targets.iter().filter(|target| (start..end).contains(&target.position));
            Self {
                tokens: self.tokens[start..end].to_vec(),
                sequences: sequences.iter().map(|range| range.start - start..range.end - start).collect(),
                targets: of_part
                    .map(|target| Target { position: target.position - start, ..*target })
                    .collect(),
            }
        });
        parts.collect()
    }
}
