//! `GET /props` and `GET /slots`: what is served, and what it is doing.

use serde::Serialize;

use super::super::VERSION;
use super::settings::Settings;
use crate::engine::Engine;

#[derive(Serialize)]
pub(crate) struct Props<'a> {
    default_generation_settings: Defaults,
    total_slots: usize,
    model_alias: &'a str,
    model_path: String,
    demo_notice: Option<&'static str>,
    chat_template: &'a str,
    bos_token: Option<String>,
    eos_token: Option<String>,
    modalities: Modalities,
    build_info: &'static str,
}

#[derive(Serialize)]
struct Defaults {
    id: usize,
    id_task: i64,
    n_ctx: usize,
    is_processing: bool,
    params: Settings,
}

#[derive(Serialize)]
struct Modalities {
    vision: bool,
    audio: bool,
}

#[derive(Serialize)]
pub(crate) struct Slot {
    id: usize,
    n_ctx: usize,
    is_processing: bool,
    n_past: usize,
}

/// What is served, with the settings of a request that says nothing.
pub(crate) fn props(engine: &Engine) -> Props<'_> {
    let slots = engine.handle.status().slots;
    let token = |id: Option<u32>| id.map(|id| engine.tokenizer.token_text(id));
    Props {
        default_generation_settings: Defaults {
            id: 0,
            id_task: -1,
            n_ctx: engine.about.context,
            is_processing: slots.iter().any(|slot| slot.sequence.is_some()),
            params: Settings::of_defaults(engine),
        },
        total_slots: slots.len(),
        model_alias: &engine.about.name,
        model_path: engine.about.origin.to_string(),
        demo_notice: engine.about.demo_notice(),
        chat_template: engine.template.source(),
        bos_token: token(engine.tokenizer.bos()),
        eos_token: token(engine.tokenizer.eos()),
        modalities: Modalities { vision: false, audio: false },
        build_info: VERSION,
    }
}

/// What each slot is doing.
pub(crate) fn slots(engine: &Engine) -> Vec<Slot> {
    let slots = engine.handle.status().slots.into_iter().enumerate();
    slots
        .map(|(id, slot)| Slot {
            id,
            n_ctx: engine.about.context,
            is_processing: slot.sequence.is_some(),
            n_past: slot.stored,
        })
        .collect()
}
