//! OpenAI's API.

pub(super) mod chat;
pub(super) mod completions;
pub(super) mod models;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;
use super::usage::{timings, usage};
use crate::engine::Engine;
use crate::worker::{FinishReason, Progress};

/// Bytes of a model's name in a request: it comes back with every chunk.
const NAME_BYTES: usize = 256;

/// What every object of an answer has, and what the request wants in it.
struct Envelope {
    id: String,
    created: u64,
    model: String,
    /// Whether a stream ends with a chunk of counts.
    include_usage: bool,
    /// Whether every chunk tells how far the request is.
    timings_per_token: bool,
}

impl Envelope {
    fn read(fields: &Fields, id_prefix: &str, engine: &Engine) -> Result<Self, ApiError> {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        // Any name is fine, since there is one model.
        let model = match fields.string("model")? {
            Some(name) if name.len() > NAME_BYTES => {
                let expected = format!("a name of at most {NAME_BYTES} bytes");
                return Err(ApiError::invalid("model", expected, &name.into()));
            }
            Some(name) if !name.is_empty() => name,
            _ => &engine.about.name,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let include_usage = match fields.get("stream_options") {
            None => false,
            Some(options) => match options.get("include_usage") {
                None | Some(Value::Null) if options.is_object() => false,
                Some(Value::Bool(flag)) => *flag,
                _ => {
                    let expected = "an object; `include_usage` in it true or false";
                    return Err(ApiError::invalid("stream_options", expected, options));
                }
            },
        };
        Ok(Self {
            id: format!("{id_prefix}-{:016x}{number:08x}", now.as_nanos() as u64),
            created: now.as_secs(),
            model: model.to_owned(),
            include_usage,
            timings_per_token: fields.flag("timings_per_token", false)?,
        })
    }

    /// An object of the answer; `choices` is what differs.
    fn object(&self, kind: &str, choices: Value) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("bitnet-engine-", env!("CARGO_PKG_VERSION")),
        });
        object["choices"] = choices;
        object
    }

    /// A part of a streamed answer. Where counts come at the end, all others say `null`.
    fn chunk(&self, kind: &str, choice: Value) -> Value {
        let mut chunk = self.object(kind, vec![choice].into());
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// A chunk with text.
    fn progress_chunk(&self, kind: &str, choice: Value, progress: &Progress) -> Value {
        let mut chunk = self.chunk(kind, choice);
        if self.timings_per_token {
            chunk["timings"] = timings(progress);
        }
        chunk
    }

    /// The last chunks of a stream.
    fn last_chunks(&self, kind: &str, choice: Value, progress: &Progress) -> Vec<Value> {
        let mut chunks = vec![self.chunk(kind, choice)];
        if self.include_usage {
            let mut chunk = self.object(kind, Value::Array(Vec::new()));
            chunk["usage"] = usage(progress);
            chunks.push(chunk);
        }
        if let Some(last) = chunks.last_mut() {
            last["timings"] = timings(progress);
        }
        chunks
    }

    /// A whole answer.
    fn whole(&self, kind: &str, choice: Value, progress: &Progress) -> Value {
        let mut whole = self.object(kind, vec![choice].into());
        whole["usage"] = usage(progress);
        whole["timings"] = timings(progress);
        whole
    }
}

fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfGeneration | FinishReason::StopString(_) => "stop",
        FinishReason::Length => "length",
    }
}
