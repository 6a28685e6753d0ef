//! The server with a real model, asked over real connections.

mod chat;
mod client;
mod completions;
mod llamacpp;
mod server;
