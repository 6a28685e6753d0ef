//! `POST /completion`: llama.cpp's own form.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::Admitted;
use super::super::answer::{Answer, Plan, Wire};
use super::super::error::ApiError;
use super::super::fields::{self, Flag, Integer, PromptField, TokenLimit, is_set};
use super::super::logprobs::{self, Entry};
use super::super::request;
use super::super::usage::Timings;
use super::settings::Settings;
use crate::engine::About;
use crate::generation::{Finish, FinishReason, Piece, Progress, Report, Token};
use crate::http::{reply, sse};
use crate::tokenizer::Tokenizer;

#[derive(Deserialize)]
struct CompletionRequest {
    prompt: Option<PromptField>,
    n_predict: Option<TokenLimit>,
    max_tokens: Option<TokenLimit>,
    n_probs: Option<Integer<0, 100>>,
    stream: Option<Flag>,
    return_tokens: Option<Flag>,
    timings_per_token: Option<Flag>,
}

/// Checks a request.
pub(crate) fn read(admitted: &Admitted) -> Result<Plan<Completion>, ApiError> {
    let &Admitted { body, engine, .. } = admitted;
    let fields: CompletionRequest = fields::parse(body)?;
    let logprobs = fields.n_probs.map(|Integer(n)| n as usize).filter(|n| *n > 0);
    let max_tokens = fields.n_predict.or(fields.max_tokens);
    let stream = is_set(fields.stream);
    let prompt = PromptField::required(fields.prompt)?.tokenize(admitted)?;
    let report = Report { logprobs, prompt: false };
    let request = request::read(admitted, prompt.tokens, max_tokens, report)?;
    let wire = Completion {
        about: engine.about.clone(),
        settings: Settings::of_request(&request, &engine.about, stream),
        prompt: prompt.text,
        return_tokens: stream || is_set(fields.return_tokens),
        probabilities: logprobs.is_some(),
        timings_per_token: is_set(fields.timings_per_token),
        tokenizer: Arc::clone(&engine.tokenizer),
    };
    Ok(Plan { request, wire, stream })
}

/// Writes the answer.
pub(crate) struct Completion {
    about: About,
    settings: Settings,
    prompt: String,
    return_tokens: bool,
    probabilities: bool,
    timings_per_token: bool,
    tokenizer: Arc<Tokenizer>,
}

/// A part of an answer, or with `last` a whole one.
#[derive(Serialize)]
struct Object<'a> {
    index: usize,
    id_slot: usize,
    content: &'a str,
    tokens: Vec<u32>,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    stop: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Entry<'a>>>,
    #[serde(flatten)]
    last: Option<Last<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

/// What only the last object of an answer has.
#[derive(Serialize)]
struct Last<'a> {
    stop_type: &'static str,
    stopping_word: &'a str,
    truncated: bool,
    tokens_cached: usize,
    model: &'a str,
    prompt: &'a str,
    generation_settings: &'a Settings,
}

impl Completion {
    fn object<'a>(&'a self, text: &'a str, tokens: &[Token], progress: &Progress) -> Object<'a> {
        let ids = if self.return_tokens { tokens.iter().map(|token| token.id).collect() } else { Vec::new() };
        Object {
            index: 0,
            id_slot: progress.slot,
            content: text,
            tokens: ids,
            tokens_predicted: progress.sampled,
            tokens_evaluated: progress.prompt,
            stop: false,
            completion_probabilities: self.probabilities.then(|| logprobs::entries(tokens, &self.tokenizer)),
            last: None,
            timings: None,
        }
    }

    /// The object that ends the answer.
    fn last<'a>(&'a self, text: &'a str, tokens: &[Token], finish: &'a Finish) -> Object<'a> {
        let progress = &finish.progress;
        let (stop_type, stopping_word) = match &finish.reason {
            FinishReason::EndOfGeneration => ("eos", ""),
            FinishReason::StopString(word) => ("word", word.as_str()),
            FinishReason::Length => ("limit", ""),
        };
        let last = Last {
            stop_type,
            stopping_word,
            truncated: progress.prompt + progress.sampled >= self.about.context,
            tokens_cached: progress.reused,
            model: &self.about.name,
            prompt: &self.prompt,
            generation_settings: &self.settings,
        };
        let timings = Some(Timings::of(progress));
        Object { stop: true, last: Some(last), timings, ..self.object(text, tokens, progress) }
    }
}

impl Wire for Completion {
    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>) {
        let timings = self.timings_per_token.then(|| Timings::of(&piece.progress));
        let object = self.object(&piece.text, &piece.tokens, &piece.progress);
        sse::event(&Object { timings, ..object }, out);
    }

    fn finish(&mut self, finish: Finish, out: &mut Vec<u8>) {
        sse::event(&self.last("", &[], &finish), out);
    }

    fn whole(self, answer: Answer) -> Vec<u8> {
        reply::to_json(&self.last(&answer.text, &answer.tokens, &answer.finish))
    }
}
