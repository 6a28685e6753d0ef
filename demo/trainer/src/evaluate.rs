//! Asks a finished model the held-out questions, by the engine: the file, the template and the arithmetic that people will meet.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use bitnet_engine::chat_template::{ChatTemplate, Message};
use bitnet_engine::checkpoint::Checkpoint;
use bitnet_engine::config::Config;
use bitnet_engine::engine::{inference, language};
use bitnet_engine::model::{Inference, Row};
use bitnet_engine::tokenizer::Tokenizer;

use crate::corpus::{Lessons, Question};

/// An answer that has not ended by then is wrong anyway.
const LONGEST_ANSWER: usize = 160;

/// A model that answers.
#[derive(Debug)]
pub struct Chat {
    inference: Inference,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Chat {
    /// Loads a model file.
    pub fn open(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path).with_context(|| format!("cannot use {}", path.display()))?;
        Self::new(&checkpoint)
    }

    /// Loads a model.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let config = Config::parse(["bitnet-demo"])?;
        let (tokenizer, template) = language(&config, checkpoint)?;
        Ok(Self { inference: inference(&config, checkpoint)?, tokenizer, template })
    }

    /// The likeliest answer, token by token.
    pub fn answer(&mut self, messages: &[Message]) -> Result<String> {
        let prompt = self.template.prompt(messages, true, &self.tokenizer)?;
        let mut next = self.read(&prompt, 0)?;
        let mut answer = Vec::new();
        let room = self.inference.context().saturating_sub(prompt.len());
        while !self.tokenizer.end_of_generation().contains(&next) && answer.len() < LONGEST_ANSWER.min(room) {
            answer.push(next);
            next = self.read(&[next], prompt.len() + answer.len() - 1)?;
        }
        Ok(self.tokenizer.decode(&answer, false))
    }

    /// Reads tokens from `start` on and returns the likeliest next one.
    fn read(&mut self, tokens: &[u32], start: usize) -> Result<u32> {
        let at_once = self.inference.max_rows();
        for (chunk, part) in tokens.chunks(at_once).enumerate() {
            let first = start + chunk * at_once;
            let end = start + tokens.len();
            let rows: Vec<Row> = part
                .iter()
                .zip(first..)
                .map(|(&token, position)| Row { token, slot: 0, position, logits: position + 1 == end })
                .collect();
            self.inference.forward(&rows)?;
        }
        let logits = self.inference.logits(0)?;
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        Ok(likeliest.unwrap_or_default() as u32)
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
    /// Wrong answers.
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
