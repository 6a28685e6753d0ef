//! Whoever waits for an answer: the answer, where it goes, and how far it is.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::{Span, debug, error, info};

use super::event::{Event, Failure};
use super::sequence::{Advance, Next, Sequence};
use crate::container;
use crate::generation::{Finish, FinishReason, GenerationRequest, Piece, Progress, Token};
use crate::logits::Logits;
use crate::metrics::{Metrics, Outcome};
use crate::model::{ForwardError, LogitRequest};
use crate::sampling::NoTokenLeft;
use crate::tokenizer::Tokenizer;

pub(super) struct Reader {
    events: UnboundedSender<Event>,
    sequence: Sequence,
    progress: Progress,
    /// What its log lines belong to.
    span: Span,
    /// When it was submitted.
    arrived: Instant,
    /// How long it may take from there.
    timeout: Option<Duration>,
    /// When its first step began.
    started: Option<Instant>,
    /// When its prompt was done.
    answering: Option<Instant>,
    /// When its last token was chosen.
    last_token: Option<Instant>,
    /// For how long the container had been throttled when it arrived.
    throttled: Option<Duration>,
}

/// How an answer ended.
pub(super) enum End {
    Finished(FinishReason),
    Failed(Failure),
}

impl From<NoTokenLeft> for End {
    fn from(reason: NoTokenLeft) -> Self {
        Self::Failed(Failure::Computing(reason.to_string()))
    }
}

impl From<ForwardError> for End {
    fn from(reason: ForwardError) -> Self {
        error!(%reason, "logits cannot be computed");
        Self::Failed(Failure::Computing(reason.to_string()))
    }
}

impl Reader {
    pub(super) fn new(
        request: &GenerationRequest,
        timeout: Option<Duration>,
        events: UnboundedSender<Event>,
    ) -> Self {
        let reader = Self {
            events,
            sequence: Sequence::new(request),
            progress: Progress { prompt: request.prompt.tokens().len(), ..Progress::default() },
            span: Span::current(),
            arrived: Instant::now(),
            timeout,
            started: None,
            answering: None,
            last_token: None,
            throttled: container::cpu_throttled(),
        };
        if let (true, Some(&id)) = (request.report.prompt, request.prompt.tokens().first()) {
            reader.send(Event::Prompt(Token { id, logprobs: None }));
        }
        reader
    }

    /// Why there is nothing more to be done for it, if so.
    pub(super) fn is_over(&self) -> Option<Over> {
        if self.events.is_closed() {
            return Some(Over::Gone);
        }
        self.timeout.filter(|&timeout| self.arrived.elapsed() > timeout).map(Over::Late)
    }

    /// The first step begins.
    pub(super) fn start(&mut self, slot: usize, reused: usize, metrics: &Metrics) {
        self.started = Some(Instant::now());
        self.progress.slot = slot;
        self.progress.reused = reused;
        self.progress.queue_time = self.arrived.elapsed();
        metrics.queued(self.progress.queue_time);
    }

    /// How long it ran, without the time in the queue.
    pub(super) fn duration(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// What its next token is chosen from, which is in this row.
    pub(super) fn logits(&self, row: usize) -> LogitRequest<impl Iterator<Item = u32>> {
        LogitRequest { row, demand: self.sequence.demand(), touched: self.sequence.touched() }
    }

    /// These logits decide how likely `id`, the next token of the prompt, was.
    pub(super) fn prompt_token(&self, id: u32, logits: Logits<'_>) {
        if let Logits::All(logits) = logits {
            self.send(Event::Prompt(self.sequence.prompt_token(id, logits)));
        }
    }

    /// Chooses the next token of the answer from these logits and sends what becomes visible by it.
    pub(super) fn sample(
        &mut self,
        logits: Logits<'_>,
        tokenizer: &Tokenizer,
        metrics: &Metrics,
    ) -> Result<u32, End> {
        let answering = self.end_of_prompt(metrics);
        let advance = self.sequence.advance(logits, tokenizer)?;
        self.count_token(metrics);
        self.send_advance(advance, answering)
    }

    /// Whether it may have no token any more.
    pub(super) fn is_full(&self) -> bool {
        self.sequence.is_full()
    }

    /// Ends an answer that may have no token.
    pub(super) fn end_full(&mut self, metrics: &Metrics) -> Result<u32, End> {
        let answering = self.end_of_prompt(metrics);
        let advance = self.sequence.end(FinishReason::Length);
        self.send_advance(advance, answering)
    }

    /// When its prompt was done, which may be now.
    fn end_of_prompt(&mut self, metrics: &Metrics) -> Instant {
        if let Some(answering) = self.answering {
            return answering;
        }
        self.progress.prompt_time = self.duration();
        let Progress { prompt, reused, prompt_time, .. } = self.progress;
        metrics.prefilled(prompt - reused, reused, prompt_time);
        *self.answering.insert(Instant::now())
    }

    fn send_advance(&mut self, advance: Advance, answering: Instant) -> Result<u32, End> {
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
    pub(super) fn end(mut self, end: End, metrics: &Metrics) {
        let _entered = self.span.clone().entered();
        let outcome = match &end {
            End::Finished(FinishReason::Length) => Outcome::Length,
            End::Finished(FinishReason::EndOfGeneration | FinishReason::StopString(_)) => Outcome::Stop,
            End::Failed(Failure::Timeout(_)) => Outcome::Timeout,
            End::Failed(Failure::Stopping) => Outcome::Stopped,
            End::Failed(Failure::Computing(_)) => Outcome::Failed,
        };
        metrics.ended(outcome, self.arrived.elapsed());
        match end {
            End::Finished(reason) => {
                self.progress.throttled_time = self.throttled_since();
                let Progress {
                    prompt,
                    reused,
                    sampled,
                    queue_time,
                    prompt_time,
                    generation_time,
                    throttled_time,
                    ..
                } = self.progress;
                let speed = sampled as f64 / generation_time.as_secs_f64().max(f64::MIN_POSITIVE);
                info!(prompt, cached = reused, sampled, ?queue_time, ?prompt_time, ?generation_time, tokens_per_second = %format_args!("{speed:.1}"), ?throttled_time, reason = outcome.label(), "answered");
                self.send(Event::Finish(Finish { reason, progress: self.progress }));
            }
            End::Failed(failure) => {
                info!(sampled = self.sequence.sampled(), %failure, "ended");
                self.send(Event::Failed(failure));
            }
        }
    }

    /// Nobody listens any more.
    pub(super) fn abandon(self, metrics: &Metrics) {
        metrics.ended(Outcome::Cancelled, self.arrived.elapsed());
        let _entered = self.span.enter();
        debug!(sampled = self.sequence.sampled(), "cancelled");
    }

    /// For how long the container was throttled since it arrived, if it can be.
    fn throttled_since(&self) -> Option<Duration> {
        Some(container::cpu_throttled()?.saturating_sub(self.throttled?))
    }

    fn send(&self, event: Event) {
        // Nobody listens: the reader is dropped before the next step.
        self.events.send(event).ok();
    }
}

/// Why nothing more is to be done for a reader.
pub(super) enum Over {
    Gone,
    /// It may take so long and did.
    Late(Duration),
}
