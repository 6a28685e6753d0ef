//! `POST /completion`: llama.cpp's own form.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::answer::{Answer, Format, Plan};
use super::super::error::ApiError;
use super::super::fields::Fields;
use super::super::usage::timings;
use super::super::{generation, probabilities, prompt};
use super::props;
use crate::engine::{About, Engine};
use crate::tokenizer::Tokenizer;
use crate::worker::{Finish, FinishReason, Generation, Piece, Progress, Token};

/// Checks a request.
pub(crate) fn read(fields: &Fields, engine: &Engine) -> Result<Plan<Completion>, ApiError> {
    let prompt = prompt::read(fields.require("prompt")?, &engine.tokenizer)?;
    let generation = generation::read(fields, prompt.tokens, &["n_predict", "max_tokens"], engine)?;
    let n_probs = fields.integer("n_probs", 0..=100)?.unwrap_or(0) as usize;
    let stream = fields.flag("stream", false)?;
    let generation = Generation { logprobs: (n_probs > 0).then_some(n_probs), ..generation };
    let format = Completion {
        about: engine.about.clone(),
        settings: props::settings(&generation, &engine.about, stream),
        prompt: prompt.text,
        return_tokens: stream || fields.flag("return_tokens", false)?,
        probabilities: n_probs > 0,
        timings_per_token: fields.flag("timings_per_token", false)?,
        tokenizer: Arc::clone(&engine.tokenizer),
    };
    Ok(Plan { generation, format, stream })
}

/// Writes the answer.
pub(crate) struct Completion {
    about: About,
    settings: Value,
    prompt: String,
    return_tokens: bool,
    probabilities: bool,
    timings_per_token: bool,
    tokenizer: Arc<Tokenizer>,
}

impl Completion {
    /// What every chunk and the whole answer have in common.
    fn object(&self, text: &str, tokens: &[Token], progress: &Progress) -> Value {
        let ids = if self.return_tokens { tokens.iter().map(|token| token.id).collect() } else { Vec::new() };
        let mut object = json!({
            "index": 0,
            "id_slot": progress.slot,
            "content": text,
            "tokens": ids,
            "tokens_predicted": progress.generated,
            "tokens_evaluated": progress.prompt,
            "stop": false,
        });
        if self.probabilities {
            object["completion_probabilities"] = probabilities::entries(tokens, &self.tokenizer).into();
        }
        object
    }

    /// The object that ends the answer.
    fn last(&mut self, text: &str, tokens: &[Token], finish: &Finish) -> Value {
        let progress = &finish.progress;
        let mut last = self.object(text, tokens, progress);
        let (stop_type, stopping_word) = match &finish.reason {
            FinishReason::EndOfGeneration => ("eos", ""),
            FinishReason::StopString(word) => ("word", word.as_str()),
            FinishReason::Length => ("limit", ""),
        };
        last["stop"] = json!(true);
        last["stop_type"] = json!(stop_type);
        last["stopping_word"] = json!(stopping_word);
        last["truncated"] = json!(progress.prompt + progress.generated >= self.about.context);
        last["tokens_cached"] = json!(progress.reused);
        last["model"] = json!(self.about.name);
        last["prompt"] = std::mem::take(&mut self.prompt).into();
        last["generation_settings"] = self.settings.take();
        last["timings"] = timings(progress);
        last
    }
}

impl Format for Completion {
    const DONE: bool = false;

    fn begin(&mut self) -> Option<Value> {
        None
    }

    fn piece(&mut self, piece: Piece) -> Value {
        let mut chunk = self.object(&piece.text, &piece.tokens, &piece.progress);
        if self.timings_per_token {
            chunk["timings"] = timings(&piece.progress);
        }
        chunk
    }

    fn finish(&mut self, finish: Finish) -> Vec<Value> {
        vec![self.last("", &[], &finish)]
    }

    fn whole(mut self, answer: Answer) -> Value {
        self.last(&answer.text, &answer.tokens, &answer.finish)
    }
}
