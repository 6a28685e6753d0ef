//! The engine thread. [`GenerationRequest`](crate::generation::GenerationRequest)s flow in, [`Event`]s flow out.
//!
//! One thread owns the model, the KV cache and the compute threads, and runs step after step: take a
//! [`Step`](crate::scheduler::Step) from the scheduler, run it through the model, sample, send what came out. Others reach it
//! through [`Handle`], which shares nothing but the scheduler's lists with it; that lock is never held while something is computed.
//!
//! A request is cancelled by dropping its [`Events`]: the thread looks before each step. Events wait in an unbounded channel, so
//! that a slow reader never stops the others; their number is bounded by the context.

mod compute;
mod event;
mod handle;
mod pace;
mod reader;
mod sequence;
mod simulate;
#[cfg(test)]
mod tests;
mod thread;

pub(crate) use event::{Event, Events, Failure};
pub(crate) use handle::{Handle, Options, SubmitError, Submitted};
pub(crate) use simulate::Simulation;
