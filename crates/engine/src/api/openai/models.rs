//! `GET /v1/models` and `GET /v1/models/NAME`.

use serde::Serialize;

use super::super::error::ApiError;
use crate::engine::About;

#[derive(Serialize)]
pub(crate) struct List<'a> {
    object: &'static str,
    data: [Model<'a>; 1],
}

#[derive(Serialize)]
pub(crate) struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    n_vocab: usize,
    n_ctx: usize,
    n_ctx_train: usize,
    n_embd: usize,
    demo_notice: Option<&'static str>,
}

/// All models: the one that is served.
pub(crate) fn list(about: &About) -> List<'_> {
    List { object: "list", data: [model(about)] }
}

/// One model by name.
pub(crate) fn get<'a>(about: &'a About, name: &str) -> Result<Model<'a>, ApiError> {
    if name == about.name { Ok(model(about)) } else { Err(ApiError::ModelNotFound { name: name.to_owned() }) }
}

fn model(about: &About) -> Model<'_> {
    let shape = &about.hyperparameters;
    Model {
        id: &about.name,
        object: "model",
        created: about.loaded,
        owned_by: "bitnet-engine",
        meta: Meta {
            n_vocab: shape.vocab_size,
            n_ctx: about.context,
            n_ctx_train: shape.context_length,
            n_embd: shape.hidden,
            demo_notice: about.demo_notice(),
        },
    }
}
