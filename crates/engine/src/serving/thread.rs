//! The loop: wait for a step, run it through the model, hand its logits to the sequences that they belong to.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::{Span, debug, error, info};

use super::event::Event;
use super::handle::Line;
use super::sequence::{Advance, Next, Sequence};
use crate::generation::{Finish, FinishReason, GenerationRequest, Piece, Progress, Token};
use crate::metrics::{Metrics, Outcome};
use crate::model::{ForwardError, Inference, Run};
use crate::sampling::NoTokenLeft;
use crate::scheduler::{Chunk, Output, Sampled, SequenceId, Step};
use crate::tokenizer::Tokenizer;

/// What the engine thread owns.
pub(super) struct Thread {
    inference: Inference,
    tokenizer: Arc<Tokenizer>,
    readers: HashMap<SequenceId, Reader>,
    metrics: Arc<Metrics>,
    line: Line,
}

/// Whoever waits for an answer: the answer, where it goes, and how far it is.
pub(super) struct Reader {
    events: UnboundedSender<Event>,
    sequence: Sequence,
    progress: Progress,
    /// What its log lines belong to.
    span: Span,
    /// When it was submitted.
    arrived: Instant,
    /// When its first step began.
    started: Instant,
    /// When its prompt was done.
    answering: Option<Instant>,
    /// When its last token was chosen.
    last_token: Option<Instant>,
}

/// How an answer ended.
enum End {
    Finished(FinishReason),
    Failed(String),
}

impl From<NoTokenLeft> for End {
    fn from(reason: NoTokenLeft) -> Self {
        Self::Failed(reason.to_string())
    }
}

impl From<ForwardError> for End {
    fn from(reason: ForwardError) -> Self {
        error!(%reason, "logits cannot be computed");
        Self::Failed(reason.to_string())
    }
}

impl Thread {
    pub(super) fn new(
        inference: Inference,
        tokenizer: Arc<Tokenizer>,
        metrics: Arc<Metrics>,
        line: Line,
    ) -> Self {
        Self { inference, tokenizer, readers: HashMap::new(), metrics, line }
    }

    pub(super) fn run(mut self) {
        while let Some(step) = self.wait_for_step() {
            self.metrics.step_begins(step.chunks.len());
            let runs: Vec<Run> = step.chunks.iter().map(run).collect();
            match self.inference.forward(&runs) {
                Ok(()) => self.finish(&step),
                Err(error) => self.abort(&step, &error.to_string()),
            }
            self.metrics.step_ends();
        }
    }

    /// The next step, once there is one; `None` when the handle is gone.
    fn wait_for_step(&mut self) -> Option<Step> {
        let mut state = self.line.shared.lock();
        loop {
            if state.closed {
                return None;
            }
            self.readers.extend(state.arrived.drain(..));
            for (id, reader) in self.readers.extract_if(|_, reader| reader.is_gone()) {
                self.metrics.ended(Outcome::Cancelled, reader.arrived.elapsed());
                let _entered = reader.span.enter();
                debug!(sampled = reader.sequence.sampled(), "cancelled");
                state.scheduler.cancel(id);
            }
            if let Some(step) = state.scheduler.next_step() {
                drop(state);
                for admitted in &step.admitted {
                    if let Some(reader) = self.readers.get_mut(&admitted.sequence) {
                        reader.start(admitted.slot, admitted.reused);
                        self.metrics.queued(reader.started - reader.arrived);
                    }
                }
                return Some(step);
            }
            state = self.line.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands the logits of a step to the sequences that they belong to.
    fn finish(&mut self, step: &Step) {
        let mut sampled = Vec::with_capacity(step.outputs.len());
        let mut ended = Vec::new();
        for (index, output) in step.outputs.iter().enumerate() {
            let (Output::Prompt { sequence: id, .. } | Output::Sample(id)) = *output;
            // A sequence that has failed at a token of its prompt has more outputs, which nobody wants.
            let Some(reader) = self.readers.get_mut(&id) else { continue };
            let outcome = match *output {
                Output::Prompt { token, .. } => {
                    reader.prompt_token(&mut self.inference, index, token).map(|()| None)
                }
                Output::Sample(_) => {
                    reader.sample(&mut self.inference, index, &self.tokenizer, &self.metrics).map(Some)
                }
            };
            match outcome {
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

    fn abort(&mut self, step: &Step, reason: &str) {
        error!(reason, "a step failed");
        let mut state = self.line.shared.lock();
        state.scheduler.abort_step(step);
        drop(state);
        for chunk in &step.chunks {
            if let Some(reader) = self.readers.remove(&chunk.sequence) {
                reader.end(End::Failed(reason.to_owned()), &self.metrics);
            }
        }
    }
}

fn run(chunk: &Chunk) -> Run<'_> {
    let Chunk { slot, start, ref tokens, logits, .. } = *chunk;
    Run { slot, start, tokens, logits }
}

impl Reader {
    pub(super) fn new(request: &GenerationRequest, events: UnboundedSender<Event>) -> Self {
        let reader = Self {
            events,
            sequence: Sequence::new(request),
            progress: Progress { prompt: request.prompt.tokens().len(), ..Progress::default() },
            span: Span::current(),
            arrived: Instant::now(),
            started: Instant::now(),
            answering: None,
            last_token: None,
        };
        if let (true, Some(&id)) = (request.report.prompt, request.prompt.tokens().first()) {
            reader.send(Event::Prompt(Token { id, logprobs: None }));
        }
        reader
    }

    /// Whether nobody listens any more.
    fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// The first step begins.
    fn start(&mut self, slot: usize, reused: usize) {
        self.started = Instant::now();
        self.progress.slot = slot;
        self.progress.reused = reused;
    }

    /// How long it ran, without the time in the queue.
    fn duration(&self) -> Duration {
        self.started.elapsed()
    }

    /// The logits of row `index` decide how likely `id`, the next token of the prompt, was.
    fn prompt_token(&self, inference: &mut Inference, index: usize, id: u32) -> Result<(), End> {
        let token = self.sequence.prompt_token(id, inference.logits(index)?);
        self.send(Event::Prompt(token));
        Ok(())
    }

    /// Chooses the next token of the answer and sends what becomes visible by it.
    fn sample(
        &mut self,
        inference: &mut Inference,
        index: usize,
        tokenizer: &Tokenizer,
        metrics: &Metrics,
    ) -> Result<u32, End> {
        let is_first = self.answering.is_none();
        let answering = *self.answering.get_or_insert_with(Instant::now);
        self.progress.prompt_time = answering - self.started;
        if is_first {
            let Progress { prompt, reused, prompt_time, .. } = self.progress;
            metrics.prefilled(prompt - reused, reused, prompt_time);
        }
        let advance = if self.sequence.is_full() {
            self.sequence.end(FinishReason::Length)
        } else {
            let (demand, touched) = (self.sequence.demand(), self.sequence.touched());
            self.sequence.advance(inference.select(index, demand, touched)?, tokenizer)?
        };
        if self.sequence.sampled() > self.progress.sampled {
            self.count_token(metrics);
        }
        let Advance { text, tokens, next } = advance;
        self.progress.sampled = self.sequence.sampled();
        self.progress.completion += tokens.len();
        self.progress.generation_time = answering.elapsed();
        if !text.is_empty() || !tokens.is_empty() {
            self.send(Event::Piece(Piece { text, tokens, progress: self.progress }));
        }
        match next {
            Next::Token(id) => Ok(id),
            Next::End(reason) => Err(End::Finished(reason)),
        }
    }

    /// A token was chosen.
    fn count_token(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        match self.last_token.replace(now) {
            None => metrics.first_token(now - self.arrived),
            Some(last) => metrics.gap(now - last),
        }
        metrics.reached(self.progress.prompt + self.sequence.sampled());
    }

    /// Sends how it ended.
    fn end(self, end: End, metrics: &Metrics) {
        let _entered = self.span.enter();
        let outcome = match &end {
            End::Finished(FinishReason::Length) => Outcome::Length,
            End::Finished(FinishReason::EndOfGeneration | FinishReason::StopString(_)) => Outcome::Stop,
            End::Failed(_) => Outcome::Failed,
        };
        metrics.ended(outcome, self.arrived.elapsed());
        match end {
            End::Finished(reason) => {
                let Progress { prompt, reused, sampled, prompt_time, generation_time, .. } = self.progress;
                // Not the reason itself, which may be a text of the request.
                let ended_by = outcome.label();
                info!(prompt, reused, sampled, ?prompt_time, ?generation_time, reason = ended_by, "answered");
                self.send(Event::Finish(Finish { reason, progress: self.progress }));
            }
            End::Failed(reason) => self.send(Event::Failed(reason)),
        }
    }

    fn send(&self, event: Event) {
        // Nobody listens: the reader is dropped before the next step.
        self.events.send(event).ok();
    }
}
