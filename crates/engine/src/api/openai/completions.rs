//! `POST /v1/completions`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::answer::{Answer, Format, Plan};
use super::super::error::ApiError;
use super::super::fields::Fields;
use super::super::probabilities::Columns;
use super::super::{generation, prompt};
use super::{Envelope, finish_reason};
use crate::engine::Engine;
use crate::tokenizer::Tokenizer;
use crate::worker::{Finish, Generation, Piece, Token};

const KIND: &str = "text_completion";

/// Checks a request.
pub(crate) fn read(fields: &Fields, engine: &Engine) -> Result<Plan<Completion>, ApiError> {
    let prompt = prompt::read(fields.require("prompt")?, &engine.tokenizer)?;
    let logprobs = fields.integer("logprobs", 0..=20)?.map(|top| top as usize);
    let echo = fields.flag("echo", false)?;
    let generation = generation::read(fields, prompt.tokens, &["max_tokens", "n_predict"], engine)?;
    Ok(Plan {
        generation: Generation { logprobs, prompt_logprobs: echo && logprobs.is_some(), ..generation },
        format: Completion {
            envelope: Envelope::read(fields, "cmpl", engine)?,
            echo: if echo { prompt.text } else { String::new() },
            prompt: Vec::new(),
            columns: logprobs.map(|_| Columns::default()),
            tokenizer: Arc::clone(&engine.tokenizer),
        },
        stream: fields.flag("stream", false)?,
    })
}

/// Writes the answer.
pub(crate) struct Completion {
    envelope: Envelope,
    /// The prompt's text, until it was sent.
    echo: String,
    /// The prompt's tokens, until they were sent.
    prompt: Vec<Token>,
    columns: Option<Columns>,
    tokenizer: Arc<Tokenizer>,
}

impl Completion {
    /// The choice with this text, after the prompt if that is still to be sent.
    fn choice(&mut self, text: &str, tokens: Vec<Token>, reason: Option<&str>) -> Value {
        let text = std::mem::take(&mut self.echo) + text;
        let mut all = std::mem::take(&mut self.prompt);
        all.extend(tokens);
        let logprobs = self.columns.as_mut().map(|columns| columns.next(&all, &self.tokenizer));
        json!({ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason })
    }
}

impl Format for Completion {
    const DONE: bool = true;

    fn begin(&mut self) -> Option<Value> {
        None
    }

    fn prompt(&mut self, token: Token) {
        self.prompt.push(token);
    }

    fn piece(&mut self, piece: Piece) -> Value {
        let choice = self.choice(&piece.text, piece.tokens, None);
        self.envelope.progress_chunk(KIND, choice, &piece.progress)
    }

    fn finish(&mut self, finish: Finish) -> Vec<Value> {
        let choice = self.choice("", Vec::new(), Some(finish_reason(&finish.reason)));
        self.envelope.last_chunks(KIND, choice, &finish.progress)
    }

    fn whole(mut self, answer: Answer) -> Value {
        let reason = finish_reason(&answer.finish.reason);
        let choice = self.choice(&answer.text, answer.tokens, Some(reason));
        self.envelope.whole(KIND, choice, &answer.finish.progress)
    }
}
