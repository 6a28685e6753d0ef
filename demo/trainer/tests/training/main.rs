//! The trainer against differences, against the engine, and against itself.

mod gradient;
mod parity;
mod support;
mod training;
