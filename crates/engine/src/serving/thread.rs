//! The loop: wait for a step, run it through the model, hand its logits to the sequences that they belong to.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tracing::error;

use super::compute::Compute;
use super::event::Failure;
use super::handle::Line;
use super::pace::Pace;
use super::reader::{End, Over, Reader};
use crate::metrics::Metrics;
use crate::model::{ForwardError, LogitRequest, Run};
use crate::scheduler::{Chunk, Output, Sampled, SequenceId, Step};
use crate::tokenizer::Tokenizer;

/// What the engine thread owns.
pub(super) struct Thread<C> {
    compute: C,
    tokenizer: Arc<Tokenizer>,
    readers: HashMap<SequenceId, Reader>,
    metrics: Arc<Metrics>,
    pace: Pace,
    line: Line,
}

impl<C: Compute> Thread<C> {
    pub(super) fn new(
        compute: C,
        tokenizer: Arc<Tokenizer>,
        metrics: Arc<Metrics>,
        pace: Pace,
        line: Line,
    ) -> Self {
        Self { compute, tokenizer, readers: HashMap::new(), metrics, pace, line }
    }

    pub(super) fn run(mut self) {
        while let Some(step) = self.wait_for_step() {
            let began = Instant::now();
            self.metrics.step_begins(step.chunks.len());
            match self.forward(&step) {
                Ok(()) => self.finish(&step),
                Err(error) => self.abort(&step, &error.to_string()),
            }
            self.metrics.step_ends();
            let prompts = step.chunks.iter().skip(step.generating).map(|chunk| chunk.tokens.len());
            self.pace.observe(step.generating, prompts.sum(), began.elapsed());
        }
        for (_, reader) in self.readers.drain() {
            reader.end(End::Failed(Failure::Stopping), &self.metrics);
        }
    }

    /// The next step, once there is one; `None` when nothing is to be computed any more.
    fn wait_for_step(&mut self) -> Option<Step> {
        let mut state = self.line.shared.lock();
        loop {
            self.readers.extend(state.arrived.drain(..));
            if state.closed {
                return None;
            }
            if state.draining {
                for id in state.scheduler.cancel_waiting() {
                    if let Some(reader) = self.readers.remove(&id) {
                        reader.end(End::Failed(Failure::Stopping), &self.metrics);
                    }
                }
            }
            let over = |reader: &mut Reader| reader.is_over().is_some();
            for (id, reader) in self.readers.extract_if(|_, reader| over(reader)) {
                state.scheduler.cancel(id);
                state.record_duration(reader.duration());
                match reader.is_over() {
                    Some(Over::Late(limit)) => {
                        reader.end(End::Failed(Failure::Timeout(limit)), &self.metrics);
                    }
                    _ => reader.abandon(&self.metrics),
                }
            }
            if let Some(step) = state.scheduler.next_step(self.pace.beside()) {
                drop(state);
                for admitted in &step.admitted {
                    if let Some(reader) = self.readers.get_mut(&admitted.sequence) {
                        reader.start(admitted.slot, admitted.reused, &self.metrics);
                    }
                }
                return Some(step);
            }
            state = self.line.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn forward(&mut self, step: &Step) -> Result<(), ForwardError> {
        step.copies.iter().for_each(|&copy| self.compute.copy_page(copy));
        let runs: Vec<Run> = step.chunks.iter().map(run).collect();
        self.compute.forward(&runs)?;
        // A token of a prompt is judged by all logits, and so is one that nobody wants any more.
        let requests = step.outputs.iter().enumerate().map(|(row, output)| {
            let reader = match output {
                Output::Sample(id) => self.readers.get(id).filter(|reader| !reader.is_full()),
                Output::Prompt { .. } => None,
            };
            let request = reader.map(|reader| reader.logits(row));
            let demand = request.as_ref().and_then(|request| request.demand);
            LogitRequest { row, demand, touched: request.into_iter().flat_map(|request| request.touched) }
        });
        self.compute.select(requests)
    }

    /// Hands the logits of a step to the sequences that they belong to.
    fn finish(&mut self, step: &Step) {
        let mut sampled = Vec::with_capacity(step.outputs.len());
        let mut ended = Vec::new();
        for (row, &output) in step.outputs.iter().enumerate() {
            let (Output::Prompt { sequence: id, .. } | Output::Sample(id)) = output;
            match self.advance(row, output) {
                Ok(token) => sampled.extend(token.map(|token| (id, Sampled::Next(token)))),
                Err(end) => {
                    sampled.push((id, Sampled::End));
                    ended.extend(self.readers.remove(&id).map(|reader| (reader, end)));
                }
            }
        }
        let mut state = self.line.shared.lock();
        state.scheduler.finish_step(step, &sampled);
        for (reader, _) in &ended {
            state.record_duration(reader.duration());
        }
        drop(state);
        // Only now, so that whoever has a whole answer finds the slot free.
        for (reader, end) in ended {
            reader.end(end, &self.metrics);
        }
    }

    /// What one row of logits leads to: the token with which its sequence goes on, if it does by this.
    fn advance(&mut self, row: usize, output: Output) -> Result<Option<u32>, End> {
        let Self { compute, readers, tokenizer, metrics, .. } = self;
        let (Output::Prompt { sequence: id, .. } | Output::Sample(id)) = output;
        // A sequence that has failed at a token of its prompt has more outputs, which nobody wants.
        let Some(reader) = readers.get_mut(&id) else { return Ok(None) };
        match output {
            Output::Prompt { token, .. } => {
                reader.prompt_token(token, compute.found(row)?);
                Ok(None)
            }
            Output::Sample(_) if reader.is_full() => reader.end_full(metrics).map(Some),
            Output::Sample(_) => reader.sample(compute.found(row)?, tokenizer, metrics).map(Some),
        }
    }

    fn abort(&mut self, step: &Step, reason: &str) {
        error!(reason, "a step failed");
        let mut state = self.line.shared.lock();
        state.scheduler.abort_step(step);
        drop(state);
        for chunk in &step.chunks {
            if let Some(reader) = self.readers.remove(&chunk.sequence) {
                reader.end(End::Failed(Failure::Computing(reason.to_owned())), &self.metrics);
            }
        }
    }
}

fn run(chunk: &Chunk) -> Run<'_> {
    let Chunk { ref pages, start, ref tokens, logits, .. } = *chunk;
    Run { pages, start, tokens, logits }
}
