//! A prompt and what every generating endpoint takes in, a [`GenerationRequest`] out.

use super::Admitted;
use super::error::ApiError;
use super::fields::{self, Integer, Sampling, TokenLimit, refuse_unsupported};
use crate::generation::{GenerationRequest, Prompt, Report};

/// Checks everything that applies to these tokens. Without a `max_tokens` the answer may have as many as the server's default.
pub(super) fn read(
    admitted: &Admitted,
    prompt: Vec<u32>,
    max_tokens: Option<TokenLimit>,
    report: Report,
) -> Result<GenerationRequest, ApiError> {
    refuse_unsupported(admitted.body)?;
    let sampling: Sampling = fields::parse(admitted.body)?;
    let context = admitted.engine.about.context;
    let mut request =
        admitted.engine.defaults.request(admitted.client, Prompt::new(prompt, context)?, context);
    if let Some(Integer(most)) = max_tokens {
        // -1 is llama.cpp's "until the context is full".
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        request.max_tokens = most.min(context - request.prompt.tokens().len());
    }
    request.report = report;
    sampling.apply(&mut request, admitted)?;
    Ok(request)
}
