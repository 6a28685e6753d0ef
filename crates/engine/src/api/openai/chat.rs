//! `POST /v1/chat/completions`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::answer::{Answer, Format, Plan};
use super::super::error::ApiError;
use super::super::fields::Fields;
use super::super::{generation, messages, probabilities};
use super::{Envelope, finish_reason};
use crate::engine::Engine;
use crate::tokenizer::Tokenizer;
use crate::worker::{Finish, Generation, Piece, Token};

const CHUNK: &str = "chat.completion.chunk";

/// Checks a request.
pub(crate) fn read(fields: &Fields, engine: &Engine) -> Result<Plan<Chat>, ApiError> {
    let messages = messages::read(fields)?;
    let prompt = engine.template.prompt(&messages, true, &engine.tokenizer);
    let prompt = prompt.map_err(|error| ApiError::Template(error.to_string()))?;
    let logprobs = logprobs(fields)?;
    let limits = ["max_completion_tokens", "max_tokens", "n_predict"];
    Ok(Plan {
        generation: Generation { logprobs, ..generation::read(fields, prompt, &limits, engine)? },
        format: Chat {
            envelope: Envelope::read(fields, "chatcmpl", engine)?,
            logprobs: logprobs.is_some(),
            tokenizer: Arc::clone(&engine.tokenizer),
        },
        stream: fields.flag("stream", false)?,
    })
}

/// How many alternatives to report; `None`: no probabilities at all.
fn logprobs(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.flag("logprobs", false)?;
    let top = fields.integer("top_logprobs", 0..=20)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0) as usize)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::invalid("logprobs", "true if `top_logprobs` is given", &false.into()))
        }
    }
}

/// Writes the answer.
pub(crate) struct Chat {
    envelope: Envelope,
    logprobs: bool,
    tokenizer: Arc<Tokenizer>,
}

impl Chat {
    fn logprobs(&self, tokens: &[Token]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        json!({ "content": probabilities::entries(tokens, &self.tokenizer), "refusal": null })
    }
}

impl Format for Chat {
    const DONE: bool = true;

    fn begin(&mut self) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "", "refusal": null });
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null });
        Some(self.envelope.chunk(CHUNK, choice))
    }

    fn piece(&mut self, piece: Piece) -> Value {
        let choice = json!({
            "index": 0,
            "delta": { "content": piece.text },
            "logprobs": self.logprobs(&piece.tokens),
            "finish_reason": null,
        });
        self.envelope.progress_chunk(CHUNK, choice, &piece.progress)
    }

    fn finish(&mut self, finish: Finish) -> Vec<Value> {
        let reason = finish_reason(&finish.reason);
        let choice = json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason });
        self.envelope.last_chunks(CHUNK, choice, &finish.progress)
    }

    fn whole(self, answer: Answer) -> Value {
        let choice = json!({
            "index": 0,
            "message": { "role": "assistant", "content": answer.text, "refusal": null },
            "logprobs": self.logprobs(&answer.tokens),
            "finish_reason": finish_reason(&answer.finish.reason),
        });
        self.envelope.whole("chat.completion", choice, &answer.finish.progress)
    }
}
