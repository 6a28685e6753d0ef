//! The parameters that all generating endpoints share: OpenAI's and llama.cpp's, in one body.
//!
//! A parameter that would change the answer and is not supported is an error, never ignored.

use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, as_f32};
use super::prompt;
use crate::engine::Engine;
use crate::sampling::SamplingParameters;
use crate::worker::Generation;

/// Stop strings of a request, and bytes of each.
const STOP_STRINGS: usize = 64;
const STOP_STRING_BYTES: usize = 1024;

/// Checks everything that applies to `prompt`, which is not empty. The most tokens of an answer
/// are the first of `limits` that is there.
pub(super) fn read(
    fields: &Fields,
    prompt: Vec<u32>,
    limits: &[&str],
    engine: &Engine,
) -> Result<Generation, ApiError> {
    refuse_unsupported(fields)?;
    let mut generation = engine.generation(prompt)?;
    if let Some(max_tokens) = max_tokens(fields, limits)? {
        generation.max_tokens = max_tokens.min(engine.about.context - generation.prompt.len());
    }
    read_sampling(fields, &mut generation.sampling, engine)?;
    generation.stop = stop(fields)?;
    generation.cache_prompt = fields.flag("cache_prompt", true)?;
    Ok(generation)
}

fn max_tokens(fields: &Fields, limits: &[&str]) -> Result<Option<usize>, ApiError> {
    for name in limits {
        if let Some(number) = fields.integer(name, -1..=i64::MAX)? {
            // -1 is llama.cpp's "until the context is full".
            return Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)));
        }
    }
    Ok(None)
}

fn read_sampling(
    fields: &Fields,
    sampling: &mut SamplingParameters,
    engine: &Engine,
) -> Result<(), ApiError> {
    for (name, value) in [
        ("temperature", &mut sampling.temperature),
        ("top_p", &mut sampling.top_p),
        ("min_p", &mut sampling.min_p),
        ("repeat_penalty", &mut sampling.repeat_penalty),
        ("presence_penalty", &mut sampling.presence_penalty),
        ("frequency_penalty", &mut sampling.frequency_penalty),
    ] {
        *value = fields.number(name)?.unwrap_or(*value);
    }
    if let Some(k) = fields.integer("top_k", -1..=i64::MAX)? {
        // llama.cpp takes anything below 1 for "all".
        sampling.top_k = usize::try_from(k).unwrap_or(0);
    }
    if let Some(n) = fields.integer("repeat_last_n", -1..=i64::MAX)? {
        // -1 is llama.cpp's "the whole context".
        sampling.repeat_last_n = usize::try_from(n).unwrap_or(usize::MAX).min(engine.about.context);
    }
    if let Some(seed) = seed(fields)? {
        sampling.seed = seed;
    }
    sampling.logit_bias = logit_bias(fields, engine)?;
    sampling.validate().map_err(|error| ApiError::Invalid {
        field: error.field.to_owned(),
        expected: error.limit.to_string(),
        value: error.value.to_string(),
    })
}

/// `None`: the default, or a random one.
fn seed(fields: &Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    match (value.as_u64(), value.as_i64()) {
        (Some(seed), _) => Ok(Some(seed)),
        (None, Some(-1)) => Ok(None),
        (None, Some(negative)) => Ok(Some(negative as u64)),
        (None, None) => Err(ApiError::invalid("seed", "a whole number of 64 bits", value)),
    }
}

/// OpenAI: `{"id": bias}`. llama.cpp: `[[id, bias], …]` too, `false` for "never", and text in
/// place of an id for all tokens of that text.
fn logit_bias(fields: &Fields, engine: &Engine) -> Result<Vec<(u32, f32)>, ApiError> {
    let mut biases = Vec::new();
    let mut add = |token: &Value, bias: &Value| {
        let amount = match bias {
            Value::Bool(false) => Some(f32::NEG_INFINITY),
            bias => as_f32(bias),
        };
        let amount =
            amount.ok_or_else(|| ApiError::invalid("logit_bias", "made of numbers or false", bias))?;
        match token.as_str() {
            Some(text) => {
                let tokens = prompt::encode("logit_bias", text, true, &engine.tokenizer)?;
                biases.extend(tokens.into_iter().map(|id| (id, amount)));
            }
            None => biases.push((prompt::token_id("logit_bias", token, &engine.tokenizer)?, amount)),
        }
        Ok::<_, ApiError>(())
    };
    match fields.get("logit_bias") {
        None => {}
        Some(Value::Object(map)) => {
            for (key, bias) in map {
                // Keys of an object are strings; one that is a number is an id.
                let token = key.parse::<i64>().map_or_else(|_| Value::from(key.as_str()), Value::from);
                add(&token, bias)?;
            }
        }
        Some(Value::Array(pairs)) => {
            for pair in pairs {
                match pair.as_array().map(Vec::as_slice) {
                    Some([token, bias]) => add(token, bias)?,
                    _ => return Err(ApiError::invalid("logit_bias", "made of pairs", pair)),
                }
            }
        }
        Some(other) => return Err(ApiError::invalid("logit_bias", "an object or an array", other)),
    }
    if fields.flag("ignore_eos", false)? {
        biases.extend(engine.tokenizer.end_of_generation().iter().map(|&id| (id, f32::NEG_INFINITY)));
    }
    Ok(biases)
}

fn stop(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let expected =
        || format!("a string or up to {STOP_STRINGS} strings of at most {STOP_STRING_BYTES} bytes");
    let Some(value) = fields.get("stop") else { return Ok(Vec::new()) };
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let strings: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    match strings {
        Some(strings)
            if strings.len() <= STOP_STRINGS
                && strings.iter().all(|string| string.len() <= STOP_STRING_BYTES) =>
        {
            // An empty string would stop everything; clients send it for "none".
            Ok(strings.into_iter().filter(|string| !string.is_empty()).map(ToOwned::to_owned).collect())
        }
        _ => Err(ApiError::invalid("stop", expected(), value)),
    }
}

/// Values of a parameter that ask for nothing.
enum Off {
    /// Only this number.
    Number(f64),
    /// `false`, 0, "", [] or {}.
    Empty,
    /// One of these strings.
    Text(&'static [&'static str]),
}

/// What would change the answer and is not there, what is fine nevertheless, and why.
const UNSUPPORTED: &[(&str, Off, &str)] = &[
    ("n", Off::Number(1.0), "one answer for each request; send it again for another"),
    ("n_cmpl", Off::Number(1.0), "one answer for each request; send it again for another"),
    ("best_of", Off::Number(1.0), "one answer for each request"),
    ("suffix", Off::Empty, "this model cannot fill in"),
    ("tools", Off::Empty, "this model cannot call tools"),
    ("functions", Off::Empty, "this model cannot call functions"),
    ("tool_choice", Off::Text(&["none", "auto"]), "this model cannot call tools"),
    ("function_call", Off::Text(&["none", "auto"]), "this model cannot call functions"),
    ("audio", Off::Empty, "this model writes text only"),
    ("web_search_options", Off::Empty, "there is no web search"),
    ("moderation", Off::Empty, "there is no moderation"),
    ("grammar", Off::Empty, "answers cannot be constrained"),
    ("json_schema", Off::Empty, "answers cannot be constrained"),
    ("lora", Off::Empty, "there are no adapters"),
    ("mirostat", Off::Number(0.0), "this sampler is not available"),
    ("dynatemp_range", Off::Number(0.0), "this sampler is not available"),
    ("typical_p", Off::Number(1.0), "this sampler is not available"),
    ("xtc_probability", Off::Number(0.0), "this sampler is not available"),
    ("dry_multiplier", Off::Number(0.0), "this sampler is not available"),
    ("top_n_sigma", Off::Number(-1.0), "this sampler is not available"),
    ("adaptive_target", Off::Number(-1.0), "this sampler is not available"),
    ("samplers", Off::Empty, "the order of the samplers is fixed"),
    ("post_sampling_probs", Off::Empty, "probabilities are those before sampling"),
    ("n_indent", Off::Number(0.0), "answers cannot be constrained"),
    ("t_max_predict_ms", Off::Number(0.0), "there is no limit of time; close the connection to stop"),
];

fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    for (name, off, reason) in UNSUPPORTED {
        if fields.get(name).is_some_and(|value| !off.matches(value)) {
            return Err(ApiError::Unsupported { field: (*name).to_owned(), reason });
        }
    }
    let unsupported = |field: &str, reason| Err(ApiError::Unsupported { field: field.to_owned(), reason });
    match fields.get("response_format") {
        Some(format) if format["type"] != "text" => {
            unsupported("response_format", "answers cannot be constrained")
        }
        _ => Ok(()),
    }?;
    match fields.get("modalities").and_then(Value::as_array) {
        Some(modalities) if modalities.iter().any(|modality| modality != "text") => {
            unsupported("modalities", "this model writes text only")
        }
        _ => Ok(()),
    }
}

impl Off {
    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Number(off) => value.as_f64() == Some(*off),
            Self::Text(off) => value.as_str().is_some_and(|text| off.contains(&text)),
            Self::Empty => match value {
                Value::Null => true,
                Value::Bool(flag) => !flag,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
            },
        }
    }
}
