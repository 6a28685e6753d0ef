//! `POST /v1/chat/completions`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Admitted;
use super::super::answer::{Answer, Plan, Wire};
use super::super::error::ApiError;
use super::super::fields::{self, Flag, Integer, Messages, TokenLimit, is_set};
use super::super::logprobs::{self, Entry};
use super::super::request;
use super::{Envelope, fail, finish_reason};
use crate::generation::{Finish, Piece, Report, Token};
use crate::tokenizer::Tokenizer;

const CHUNK: &str = "chat.completion.chunk";

#[derive(Deserialize)]
struct ChatRequest {
    messages: Option<Messages>,
    logprobs: Option<Flag>,
    top_logprobs: Option<Integer<0, 20>>,
    max_completion_tokens: Option<TokenLimit>,
    max_tokens: Option<TokenLimit>,
    n_predict: Option<TokenLimit>,
    stream: Option<Flag>,
}

/// Checks a request.
pub(crate) fn read(admitted: &Admitted) -> Result<Plan<Chat>, ApiError> {
    let &Admitted { body, engine, .. } = admitted;
    let fields: ChatRequest = fields::parse(body)?;
    let logprobs = fields.logprobs()?;
    let max_tokens = fields.max_completion_tokens.or(fields.max_tokens).or(fields.n_predict);
    let envelope = Envelope::read(body, "chatcmpl", engine)?;
    let messages = Messages::required(fields.messages)?;
    let (context, wanted) = (engine.about.context, || admitted.wanted.is());
    let prompt = engine.template.prompt_while(&messages, true, &engine.tokenizer, context, &wanted);
    let prompt = prompt.map_err(|error| ApiError::of_template(error, context))?;
    let report = Report { logprobs, prompt: false };
    Ok(Plan {
        request: request::read(admitted, prompt, max_tokens, report)?,
        wire: Chat { envelope, logprobs: logprobs.is_some(), tokenizer: Arc::clone(&engine.tokenizer) },
        stream: is_set(fields.stream),
    })
}

impl ChatRequest {
    /// How many alternatives to report; `None`: no probabilities at all.
    fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        let top = self.top_logprobs.map(|Integer(top)| top as usize);
        match (is_set(self.logprobs), top) {
            (true, top) => Ok(Some(top.unwrap_or(0))),
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => {
                Err(ApiError::invalid("logprobs", "true if `top_logprobs` is given", "false"))
            }
        }
    }
}

/// Writes the answer.
pub(crate) struct Chat {
    envelope: Envelope,
    logprobs: bool,
    tokenizer: Arc<Tokenizer>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

/// What a chunk adds to the message.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    /// `null` where the message begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Logprobs<'a> {
    content: Vec<Entry<'a>>,
    refusal: Option<()>,
}

impl Chat {
    fn logprobs(&self, tokens: &[Token]) -> Option<Logprobs<'_>> {
        let content = || logprobs::entries(tokens, &self.tokenizer);
        self.logprobs.then(|| Logprobs { content: content(), refusal: None })
    }
}

impl Wire for Chat {
    fn begin(&mut self, out: &mut Vec<u8>) {
        let delta = Delta { role: Some("assistant"), content: Some(""), refusal: Some(()) };
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason: None };
        self.envelope.chunk(CHUNK, choice, None, out);
    }

    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>) {
        let delta = Delta { content: Some(&piece.text), ..Delta::default() };
        let logprobs = self.logprobs(&piece.tokens);
        let choice = ChunkChoice { index: 0, delta, logprobs, finish_reason: None };
        self.envelope.progress_chunk(CHUNK, choice, &piece.progress, out);
    }

    fn finish(&mut self, finish: Finish, out: &mut Vec<u8>) {
        let finish_reason = Some(finish_reason(&finish.reason));
        let choice = ChunkChoice { index: 0, delta: Delta::default(), logprobs: None, finish_reason };
        self.envelope.last_chunks(CHUNK, choice, &finish.progress, out);
    }

    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        fail(error, out);
    }

    fn whole(self, answer: Answer) -> Vec<u8> {
        let choice = Choice {
            index: 0,
            message: Message { role: "assistant", content: &answer.text, refusal: None },
            logprobs: self.logprobs(&answer.tokens),
            finish_reason: finish_reason(&answer.finish.reason),
        };
        self.envelope.whole("chat.completion", choice, &answer.finish.progress)
    }
}
