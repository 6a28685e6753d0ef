//! A prompt and what every generating endpoint takes in, a [`GenerationRequest`] out.

use super::error::ApiError;
use super::fields::{self, Integer, Sampling, TokenLimit, refuse_unsupported};
use crate::engine::Engine;
use crate::generation::{GenerationRequest, Prompt, Report};

/// Checks everything that applies to these tokens. Without a `max_tokens` the answer may have as many as the server's default.
pub(super) fn read(
    body: &[u8],
    prompt: Vec<u32>,
    max_tokens: Option<TokenLimit>,
    report: Report,
    engine: &Engine,
) -> Result<GenerationRequest, ApiError> {
    refuse_unsupported(body)?;
    let sampling: Sampling = fields::parse(body)?;
    let context = engine.about.context;
    let mut request = engine.request(Prompt::new(prompt, context)?);
    if let Some(Integer(most)) = max_tokens {
        // -1 is llama.cpp's "until the context is full".
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        request.max_tokens = most.min(context - request.prompt.tokens().len());
    }
    request.report = report;
    sampling.apply(&mut request, &engine.tokenizer, context)?;
    Ok(request)
}
