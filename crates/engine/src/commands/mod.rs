//! What the program can do besides serving.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod healthcheck;
pub(crate) mod inspect;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod pull;
