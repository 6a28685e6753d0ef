//! OpenAI's API.

pub(super) mod chat;
pub(super) mod completions;
pub(super) mod models;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::error::ApiError;
use super::fields::{self, Flag, Text, is_set};
use super::usage::{Timings, Usage};
use crate::engine::Engine;
use crate::generation::{FinishReason, Progress};
use crate::http::{reply, sse};

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

/// What a request says about that.
#[derive(Deserialize)]
struct EnvelopeFields {
    model: Option<Text>,
    stream_options: Option<StreamOptions>,
    timings_per_token: Option<Flag>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct StreamOptions {
    include_usage: Option<Flag>,
}

/// An answer, or a part of one.
#[derive(Serialize)]
struct Object<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Counts {
    /// `null`, as all chunks say of a stream with counts at its end.
    AtTheEnd,
    Now(Usage),
}

impl Envelope {
    fn read(body: &[u8], id_prefix: &str, engine: &Engine) -> Result<Self, ApiError> {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        let fields: EnvelopeFields = fields::parse(body)?;
        // Any name is fine, since there is one model.
        let model = match fields.model {
            Some(Text(name)) if name.len() > NAME_BYTES => {
                let expected = format_args!("a name of at most {NAME_BYTES} bytes");
                return Err(ApiError::invalid("model", expected, format_args!("one of {}", name.len())));
            }
            Some(Text(name)) if !name.is_empty() => name,
            _ => engine.about.name.clone(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            id: format!("{id_prefix}-{:016x}{number:08x}", now.as_nanos() as u64),
            created: now.as_secs(),
            model,
            include_usage: fields.stream_options.is_some_and(|options| is_set(options.include_usage)),
            timings_per_token: is_set(fields.timings_per_token),
        })
    }

    /// A part of a streamed answer.
    fn chunk<C: Serialize>(
        &self,
        object: &'static str,
        choice: C,
        timings: Option<Timings>,
        out: &mut Vec<u8>,
    ) {
        let usage = self.include_usage.then_some(Counts::AtTheEnd);
        sse::event(&self.object(object, &[choice], usage, timings), out);
    }

    /// A chunk with text.
    fn progress_chunk<C: Serialize>(
        &self,
        object: &'static str,
        choice: C,
        progress: &Progress,
        out: &mut Vec<u8>,
    ) {
        let timings = self.timings_per_token.then(|| Timings::of(progress));
        self.chunk(object, choice, timings, out);
    }

    /// The end of a stream.
    fn last_chunks<C: Serialize>(
        &self,
        object: &'static str,
        choice: C,
        progress: &Progress,
        out: &mut Vec<u8>,
    ) {
        let timings = Some(Timings::of(progress));
        if self.include_usage {
            self.chunk(object, choice, None, out);
            let usage = Some(Counts::Now(Usage::of(progress)));
            sse::event(&self.object::<C>(object, &[], usage, timings), out);
        } else {
            self.chunk(object, choice, timings, out);
        }
        sse::done(out);
    }

    /// A whole answer.
    fn whole<C: Serialize>(&self, object: &'static str, choice: C, progress: &Progress) -> Vec<u8> {
        let (usage, timings) = (Some(Counts::Now(Usage::of(progress))), Some(Timings::of(progress)));
        reply::to_json(&self.object(object, &[choice], usage, timings))
    }

    fn object<'a, C>(
        &'a self,
        object: &'static str,
        choices: &'a [C],
        usage: Option<Counts>,
        timings: Option<Timings>,
    ) -> Object<'a, C> {
        let Self { id, created, model, .. } = self;
        Object { id, object, created: *created, model, system_fingerprint: VERSION, choices, usage, timings }
    }
}

/// The end of a stream that fails.
fn fail(error: &ApiError, out: &mut Vec<u8>) {
    sse::event(&error.body(), out);
    sse::done(out);
}

fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfGeneration | FinishReason::StopString(_) => "stop",
        FinishReason::Length => "length",
    }
}
