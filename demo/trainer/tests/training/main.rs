//! The trainer against differences, against the engine, and against itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod gradient;
mod parity;
mod support;
mod training;
