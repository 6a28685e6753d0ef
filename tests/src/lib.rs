//! What the end-to-end tests in `tests/tests` share: the two programs as a user has them (processes, built once, on free
//! ports, with a fixture model) and readers for what they stream.
//!
//! Nothing here links against either program: they are held to the wire format alone. Whatever goes wrong is a panic,
//! since it ends the test; each program's output is printed when it is dropped, and the test runner shows that only
//! for a test that failed. Every wait has a deadline.
#![expect(clippy::missing_panics_doc, reason = "said once, above")]

mod http;
mod program;
mod servers;

pub use http::{Events, Reply, get, post};
pub use program::{Program, within};
pub use servers::{
    MODEL, Server, busy_engine, demo_engine, engine, engine_listening, engine_on_port, healthy, standalone,
    web,
};
