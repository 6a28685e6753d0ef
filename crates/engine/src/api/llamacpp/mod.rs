//! The endpoints that llama-server has beyond OpenAI's.

pub(super) mod completion;
pub(super) mod props;
mod settings;
pub(super) mod tokens;
