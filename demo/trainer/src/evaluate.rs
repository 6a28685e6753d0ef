//! Asks a finished model the held-out questions, by the engine: the file, the template and the arithmetic that people will meet.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use bitnet_engine::bench::Decoder;
use bitnet_engine::chat_template::Message;
use bitnet_engine::config::Config;

use crate::corpus::{Lessons, Question};

/// An answer that has not ended by then is wrong anyway.
const LONGEST_ANSWER: usize = 160;

/// A model that answers.
#[derive(Debug)]
pub struct Chat(Decoder);

impl Chat {
    /// Loads a model file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self(Decoder::open(&Config::parse(["bitnet-demo"])?, path)?))
    }

    /// The likeliest answer, token by token.
    pub fn answer(&mut self, messages: &[Message]) -> Result<String> {
        let Self(decoder) = self;
        let prompt = decoder.prompt(messages)?;
        decoder.prefill(&prompt)?;
        let mut answer = Vec::new();
        let room = decoder.context().saturating_sub(prompt.len());
        loop {
            let next = decoder.likeliest()?;
            let ends = decoder.tokenizer().end_of_generation().contains(&next);
            if ends || answer.len() >= LONGEST_ANSWER.min(room) {
                return Ok(decoder.tokenizer().decode(&answer, false));
            }
            answer.push(next);
            decoder.push(next)?;
        }
    }
}

/// A question and what the model said.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The conversation before, and the question at the end.
    pub asked: Vec<String>,
    /// What was answered.
    pub answer: String,
}

/// How many answers were right.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// By group: right, asked.
    pub groups: BTreeMap<String, (usize, usize)>,
    /// What was answered wrongly, for the report.
    pub failures: Vec<Failure>,
}

impl Score {
    /// Of all groups: right, asked.
    #[must_use]
    pub fn total(&self) -> (usize, usize) {
        self.groups.values().fold((0, 0), |sum, group| (sum.0 + group.0, sum.1 + group.1))
    }
}

/// Asks all held-out questions.
pub fn score(chat: &mut Chat, lessons: &Lessons) -> Result<Score> {
    let mut score = Score::default();
    for question in lessons.questions() {
        let messages = messages(&question);
        let answer = chat.answer(&messages)?;
        let right = lessons.is_right(&question, &answer);
        let group = score.groups.entry(question.group.to_owned()).or_default();
        *group = (group.0 + usize::from(right), group.1 + 1);
        if !right {
            let asked = messages.into_iter().map(|message| message.content).collect();
            score.failures.push(Failure { asked, answer });
        }
    }
    Ok(score)
}

fn messages(question: &Question) -> Vec<Message> {
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let before = question
        .before
        .iter()
        .flat_map(|turn| [message("user", &turn.user), message("assistant", &turn.assistant)]);
    before.chain([message("user", question.text)]).collect()
}
