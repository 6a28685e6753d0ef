//! Where conversations come from: the only module that knows how the crate that writes them works.

use anyhow::{Context, Result};
use bitnet_demo_conversations::{Corpus, Family, HeldOut, Judge, Random, Turn};

use crate::sequence::{Batch, Encoder};
use crate::vocabulary::Vocabulary;

/// Conversations from which the vocabulary is learned.
const VOCABULARY_CONVERSATIONS: usize = 30_000;
/// Their stream of random numbers.
const VOCABULARY_SEED: u64 = 0x766f_6361;
/// That of the conversations by which progress is measured; no training stream begins like it.
const VALIDATION_SEED: u64 = 0x7661_6c69;

/// All that is trained and asked.
pub struct Lessons {
    corpus: Corpus,
    judge: Judge,
    held_out: Vec<HeldOut>,
}

/// A question in words that are not trained.
pub struct Question<'a> {
    /// What was said before.
    pub before: &'a [Turn],
    /// The last turn, which is to be answered.
    pub text: &'a str,
    /// Under which name its result is counted.
    pub group: &'a str,
    case: &'a HeldOut,
}

impl Lessons {
    /// Reads the texts that are built in.
    pub fn load() -> Result<Self> {
        let corpus = Corpus::load().context("cannot read the conversations")?;
        Ok(Self { judge: Judge::new(&corpus), held_out: corpus.held_out(), corpus })
    }

    /// A vocabulary of at most `size` tokens for conversations as they are trained.
    pub fn vocabulary(&self, size: usize) -> Result<Vocabulary> {
        let turns = self.conversations(VOCABULARY_SEED).take(VOCABULARY_CONVERSATIONS).flatten();
        let of_turn = |turn: Turn| {
            [format!("User: {}", turn.user.trim()), format!("Assistant: {}", turn.assistant.trim())]
        };
        Vocabulary::train(&turns.flat_map(of_turn).collect::<Vec<_>>(), size)
    }

    /// The conversations of a seed, without end.
    pub fn conversations(&self, seed: u64) -> impl Iterator<Item = Vec<Turn>> {
        let mut random = Random::new(seed);
        std::iter::repeat_with(move || self.corpus.sample(&mut random).turns)
    }

    /// The next conversations of a stream, until the batch has `tokens` tokens or more. What does not fit into `context` is left out.
    pub fn batch(
        &self,
        encoder: &Encoder,
        random: &mut Random,
        tokens: usize,
        context: usize,
    ) -> Result<Batch> {
        let mut batch = Batch::default();
        while batch.tokens.len() < tokens {
            let sequence = encoder.sequence(&self.corpus.sample(random).turns)?;
            if sequence.tokens.len() <= context {
                batch.push(&sequence);
            }
        }
        Ok(batch)
    }

    /// Conversations with a seed of their own, to measure progress by.
    pub fn validation(&self, encoder: &Encoder, tokens: usize, context: usize) -> Result<Batch> {
        self.batch(encoder, &mut Random::new(VALIDATION_SEED), tokens, context)
    }

    /// Some of the held-out questions, about `tokens` tokens from all parts of the list, each with one right answer. Answers of earlier
    /// turns do not count.
    pub fn held_out(&self, encoder: &Encoder, tokens: usize, context: usize) -> Result<Batch> {
        let mut sequences = Vec::with_capacity(self.held_out.len());
        for case in &self.held_out {
            let mut turns = case.before.clone();
            let assistant = case.example(self.corpus.families());
            turns.push(Turn { user: case.question.clone(), assistant, family: case.family.clone() });
            sequences.push(encoder.sequence(&turns)?.last_answer_only());
        }
        sequences.retain(|sequence| sequence.tokens.len() <= context);
        let all: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        let mut batch = Batch::default();
        for sequence in sequences.iter().step_by(all.div_ceil(tokens).max(1)) {
            batch.push(sequence);
        }
        Ok(batch)
    }

    /// The held-out questions.
    #[must_use]
    pub fn questions(&self) -> impl ExactSizeIterator<Item = Question<'_>> {
        self.held_out.iter().map(|case| {
            let of_case = |family: &&Family| family.name() == case.family;
            let theme = self.corpus.families().iter().find(of_case).map(Family::theme);
            Question {
                before: &case.before,
                text: &case.question,
                group: theme.unwrap_or(&case.family),
                case,
            }
        })
    }

    /// Whether `answer` is right.
    #[must_use]
    pub fn is_right(&self, question: &Question, answer: &str) -> bool {
        question.case.is_right(&self.judge, answer)
    }
}
