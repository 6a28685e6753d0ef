//! The forward pass on fixture models: right, and the same however the work is divided.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod heads;
mod invariance;
mod reference;
mod support;
