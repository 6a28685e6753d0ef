//! The server with a real model, asked over real connections.

#![expect(clippy::unwrap_used, reason = "a helper that fails has to fail its test")]

mod chat;
mod client;
mod completions;
mod connections;
mod exposition;
mod lifecycle;
mod llamacpp;
mod metrics;
mod raw;
mod refusals;
mod request_ids;
mod server;
mod sharing;
mod warm;
