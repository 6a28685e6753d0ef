//! `GET /props` and `GET /slots`: what is served, and what it is doing.

use serde_json::{Value, json};

use super::super::error::ApiError;
use crate::engine::{About, Engine};
use crate::worker::Generation;

/// What is served, with the settings of a request that says nothing.
pub(crate) fn props(engine: &Engine) -> Result<Value, ApiError> {
    let mut settings = settings(&engine.generation(vec![0])?, &engine.about, false);
    // Chosen anew for each request, unless they were configured.
    settings["seed"] = engine.defaults.seed.map_or_else(|| json!(-1), Value::from);
    for limit in ["n_predict", "max_tokens"] {
        settings[limit] = engine.defaults.n_predict.map_or_else(|| json!(-1), Value::from);
    }
    let token = |id: Option<u32>| id.map(|id| engine.tokenizer.token_text(id));
    Ok(json!({
        "default_generation_settings": {
            "id": 0,
            "id_task": -1,
            "n_ctx": engine.about.context,
            "is_processing": is_busy(engine),
            "params": settings,
        },
        "total_slots": engine.worker.status().slots.len(),
        "model_alias": engine.about.name,
        "model_path": engine.about.origin.to_string(),
        "demo_notice": engine.about.demo_notice(),
        "chat_template": engine.template.source(),
        "bos_token": token(engine.tokenizer.bos()),
        "eos_token": token(engine.tokenizer.eos()),
        "modalities": { "vision": false, "audio": false },
        "build_info": concat!("bitnet-engine-", env!("CARGO_PKG_VERSION")),
    }))
}

/// What each slot is doing.
pub(crate) fn slots(engine: &Engine) -> Value {
    let status = engine.worker.status();
    let slot = |(id, slot): (usize, &crate::scheduler::SlotStatus)| {
        json!({
            "id": id,
            "n_ctx": engine.about.context,
            "is_processing": slot.sequence.is_some(),
            "n_past": slot.stored,
        })
    };
    status.slots.iter().enumerate().map(slot).collect()
}

fn is_busy(engine: &Engine) -> bool {
    engine.worker.status().slots.iter().any(|slot| slot.sequence.is_some())
}

/// What a generation is made with.
pub(super) fn settings(generation: &Generation, about: &About, stream: bool) -> Value {
    let sampling = &generation.sampling;
    json!({
        "n_ctx": about.context,
        "model": about.name,
        "n_predict": generation.max_tokens,
        "max_tokens": generation.max_tokens,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": sampling.repeat_last_n,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        // -inf, "never", becomes false, as in a request.
        "logit_bias": sampling.logit_bias.iter().map(|&(id, bias)| {
            json!([id, if bias.is_finite() { json!(bias) } else { json!(false) }])
        }).collect::<Vec<_>>(),
        "n_probs": generation.logprobs.unwrap_or(0),
        "stop": generation.stop,
        "stream": stream,
        "cache_prompt": generation.cache_prompt,
    })
}
