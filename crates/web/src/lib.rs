//! The chat page and its relay: a browser's messages go to `bitnet-engine`, the answer streams back as it is
//! generated.
//!
//! Modules in the order in which a request meets them from the inside out; each uses only those above it. What the
//! engine says arrives in [`engine_client`], what a browser asks is checked once in [`conversation`], and [`relay`]
//! joins the two. Nothing is stored here: a conversation lives in the page that shows it.
#![forbid(unsafe_code)]

pub mod origin;
pub mod trace;

pub mod config;
pub mod conversation;
pub mod engine_client;
pub mod problem;
pub mod relay;

pub mod headers;
pub mod request_body;
pub mod request_head;

pub mod assets;
pub mod pages;

pub mod listener;
pub mod patience;
pub mod server;
