//! `GET /v1/models` and `GET /v1/models/NAME`.

use serde_json::{Value, json};

use super::super::error::ApiError;
use crate::engine::About;

/// All models: the one that is served.
pub(crate) fn list(about: &About) -> Value {
    json!({ "object": "list", "data": [model(about)] })
}

/// One model by name.
pub(crate) fn get(about: &About, name: &str) -> Result<Value, ApiError> {
    if name == about.name { Ok(model(about)) } else { Err(ApiError::ModelNotFound { name: name.to_owned() }) }
}

fn model(about: &About) -> Value {
    let shape = &about.hyperparameters;
    json!({
        "id": about.name,
        "object": "model",
        "created": about.loaded,
        "owned_by": "bitnet-engine",
        "meta": {
            "n_vocab": shape.vocab_size,
            "n_ctx": about.context,
            "n_ctx_train": shape.context_length,
            "n_embd": shape.hidden,
            "demo_notice": about.demo_notice(),
        },
    })
}
