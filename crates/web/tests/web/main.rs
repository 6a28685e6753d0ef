//! The web program on a free port, with an engine that follows a script.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chat;
mod engine_trouble;
mod fake_engine;
mod page;
mod program;
mod web;
mod wire;
