//! `POST /v1/completions`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Admitted;
use super::super::answer::{Answer, Plan, Wire};
use super::super::error::ApiError;
use super::super::fields::{self, Flag, Integer, PromptField, TokenLimit, is_set};
use super::super::logprobs::{Columns, Offsets};
use super::super::request;
use super::{Envelope, fail, finish_reason};
use crate::generation::{Finish, Piece, Report, Token};
use crate::tokenizer::Tokenizer;

const KIND: &str = "text_completion";

#[derive(Deserialize)]
struct CompletionRequest {
    prompt: Option<PromptField>,
    logprobs: Option<Integer<0, 20>>,
    echo: Option<Flag>,
    max_tokens: Option<TokenLimit>,
    n_predict: Option<TokenLimit>,
    stream: Option<Flag>,
}

/// Checks a request.
pub(crate) fn read(admitted: &Admitted) -> Result<Plan<Completion>, ApiError> {
    let &Admitted { body, engine, .. } = admitted;
    let fields: CompletionRequest = fields::parse(body)?;
    let logprobs = fields.logprobs.map(|Integer(top)| top as usize);
    let max_tokens = fields.max_tokens.or(fields.n_predict);
    let echo = is_set(fields.echo);
    let envelope = Envelope::read(body, "cmpl", engine)?;
    let prompt = PromptField::required(fields.prompt)?.tokenize(admitted)?;
    let report = Report { logprobs, prompt: echo && logprobs.is_some() };
    Ok(Plan {
        request: request::read(admitted, prompt.tokens, max_tokens, report)?,
        wire: Completion {
            envelope,
            echo: if echo { prompt.text } else { String::new() },
            prompt: Vec::new(),
            offsets: logprobs.map(|_| Offsets::default()),
            tokenizer: Arc::clone(&engine.tokenizer),
        },
        stream: is_set(fields.stream),
    })
}

/// Writes the answer.
pub(crate) struct Completion {
    envelope: Envelope,
    /// The prompt's text, until it was sent.
    echo: String,
    /// The prompt's tokens, until they were sent.
    prompt: Vec<Token>,
    offsets: Option<Offsets>,
    tokenizer: Arc<Tokenizer>,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<Columns>,
    finish_reason: Option<&'static str>,
}

impl Completion {
    /// The choice with this text, after the prompt if that is still to be sent.
    fn choice(&mut self, text: &str, tokens: Vec<Token>, finish_reason: Option<&'static str>) -> Choice {
        let text = std::mem::take(&mut self.echo) + text;
        let mut all = std::mem::take(&mut self.prompt);
        all.extend(tokens);
        let logprobs = self.offsets.as_mut().map(|offsets| offsets.columns(&all, &self.tokenizer));
        Choice { index: 0, text, logprobs, finish_reason }
    }
}

impl Wire for Completion {
    fn prompt(&mut self, token: Token) {
        self.prompt.push(token);
    }

    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>) {
        let choice = self.choice(&piece.text, piece.tokens, None);
        self.envelope.progress_chunk(KIND, choice, &piece.progress, out);
    }

    fn finish(&mut self, finish: Finish, out: &mut Vec<u8>) {
        let choice = self.choice("", Vec::new(), Some(finish_reason(&finish.reason)));
        self.envelope.last_chunks(KIND, choice, &finish.progress, out);
    }

    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        fail(error, out);
    }

    fn whole(mut self, answer: Answer) -> Vec<u8> {
        let reason = finish_reason(&answer.finish.reason);
        let choice = self.choice(&answer.text, answer.tokens, Some(reason));
        self.envelope.whole(KIND, choice, &answer.finish.progress)
    }
}
