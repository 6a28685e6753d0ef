//! One request on the engine thread: logits in, events out.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info};

use super::{Event, Finish, FinishReason, Generation, Logprobs, Piece, Progress, Token};
use crate::model::{ForwardError, Inference};
use crate::sampling::{NoTokenLeft, Sampler, log_probabilities};
use crate::text::{AnswerText, Visible};
use crate::tokenizer::Tokenizer;

pub(super) struct Job {
    events: UnboundedSender<Event>,
    sampler: Sampler,
    text: AnswerText<Token>,
    max_tokens: usize,
    logprobs: Option<usize>,
    progress: Progress,
    /// When its first step began.
    started: Instant,
    /// When its prompt was done.
    answering: Option<Instant>,
}

/// Why a job takes no more logits.
pub(super) enum End {
    Finished(FinishReason),
    Failed(String),
}

impl From<FinishReason> for End {
    fn from(reason: FinishReason) -> Self {
        Self::Finished(reason)
    }
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

impl Job {
    pub(super) fn new(generation: &Generation, events: UnboundedSender<Event>) -> Self {
        let mut sampler = Sampler::new(&generation.sampling);
        generation.prompt.iter().for_each(|&token| sampler.accept(token));
        if let (true, Some(&id)) = (generation.prompt_logprobs, generation.prompt.first()) {
            // Cannot fail: the receiver is returned to the caller only after this.
            events.send(Event::Prompt(Token { id, logprobs: None })).ok();
        }
        Self {
            events,
            sampler,
            text: AnswerText::new(generation.stop.clone()),
            max_tokens: generation.max_tokens,
            logprobs: generation.logprobs,
            progress: Progress { prompt: generation.prompt.len(), ..Progress::default() },
            started: Instant::now(),
            answering: None,
        }
    }

    /// Whether nobody listens any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// The first step begins.
    pub(super) fn start(&mut self, slot: usize, reused: usize) {
        self.started = Instant::now();
        self.progress.slot = slot;
        self.progress.reused = reused;
    }

    /// How long it ran, without the time in the queue.
    pub(super) fn duration(&self) -> Duration {
        self.started.elapsed()
    }

    /// The logits of row `index` decide how likely `id`, the next token of the prompt, was.
    pub(super) fn prompt_token(
        &mut self,
        inference: &mut Inference,
        index: usize,
        id: u32,
    ) -> Result<(), End> {
        let logprobs = self.logprobs(inference, index, id)?;
        self.send(Event::Prompt(Token { id, logprobs }));
        Ok(())
    }

    /// Chooses the next token of the answer and sends what becomes visible by it.
    pub(super) fn sample(
        &mut self,
        inference: &mut Inference,
        index: usize,
        tokenizer: &Tokenizer,
    ) -> Result<u32, End> {
        let answering = *self.answering.get_or_insert_with(Instant::now);
        self.progress.prompt_time = answering - self.started;
        if self.progress.generated == self.max_tokens {
            return Err(FinishReason::Length.into());
        }
        // Probabilities are of all tokens.
        let demand = self.sampler.demand().filter(|_| self.logprobs.is_none());
        let id = self.sampler.sample(inference.select(index, demand, self.sampler.touched())?)?;
        self.sampler.accept(id);
        self.progress.generated += 1;
        self.progress.generation_time = answering.elapsed();
        if tokenizer.end_of_generation().contains(&id) {
            return Err(FinishReason::EndOfGeneration.into());
        }
        let logprobs = self.logprobs(inference, index, id)?;
        let token = Token { id, logprobs };
        // Control tokens mean something to the model and nothing to a reader.
        let bytes =
            if tokenizer.is_control(id) { &[] } else { tokenizer.token_bytes(id).unwrap_or_default() };
        let visible = self.text.push(token, bytes);
        match self.show(visible) {
            Some(stop) => Err(FinishReason::StopString(stop).into()),
            None if self.progress.generated == self.max_tokens => Err(FinishReason::Length.into()),
            None => Ok(id),
        }
    }

    /// How likely `id` is after row `index`, if the request asks for that.
    fn logprobs(
        &self,
        inference: &mut Inference,
        index: usize,
        id: u32,
    ) -> Result<Option<Logprobs>, ForwardError> {
        let Some(top) = self.logprobs else { return Ok(None) };
        let (chosen, top) = log_probabilities(inference.logits(index)?, id, top);
        Ok(Some(Logprobs { logprob: chosen.logprob, top }))
    }

    /// Sends how it ended.
    pub(super) fn end(self, end: End) {
        match end {
            End::Finished(reason) => self.finish(reason),
            End::Failed(reason) => self.fail(&reason),
        }
    }

    fn finish(mut self, mut reason: FinishReason) {
        if !matches!(reason, FinishReason::StopString(_)) {
            let visible = self.text.finish();
            if let Some(stop) = self.show(visible) {
                reason = FinishReason::StopString(stop);
            }
        }
        let Progress { prompt, reused, generated, prompt_time, generation_time, .. } = self.progress;
        info!(prompt, reused, generated, ?prompt_time, ?generation_time, ?reason, "answered");
        self.send(Event::Finish(Finish { reason, progress: self.progress }));
    }

    /// Sends that the answer cannot be completed.
    pub(super) fn fail(self, reason: &str) {
        self.send(Event::Failed(reason.to_owned()));
    }

    /// Sends what became visible; returns the stop string that ends the answer here.
    fn show(&self, Visible { text, tokens, stopped }: Visible<Token>) -> Option<String> {
        if !text.is_empty() || !tokens.is_empty() {
            self.send(Event::Piece(Piece { text, tokens, progress: self.progress }));
        }
        stopped
    }

    fn send(&self, event: Event) {
        // Nobody listens: the job is dropped before the next step.
        self.events.send(event).ok();
    }
}
