//! The engine thread. [`Generation`]s flow in, [`Event`]s flow out.
//!
//! One thread owns the model, the KV cache and the compute threads, and runs step after step:
//! take a [`Step`] from the scheduler, run it through the model, sample, send what came out.
//! Others reach it through [`Worker`], which shares nothing but the scheduler's lists with it;
//! that lock is never held while something is computed.
//!
//! A request is cancelled by dropping its [`Events`]: the worker looks before each step. Events
//! wait in an unbounded channel, so that a slow reader never stops the others; their number is
//! bounded by the context.

mod event;
mod job;
mod text;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use crate::model::Inference;
use crate::sampling::SamplingParameters;
use crate::scheduler::{Limits, Output, Request, Sampled, Scheduler, SequenceId, SlotStatus, Step};
use crate::tokenizer::Tokenizer;
pub use event::{Event, Finish, FinishReason, Logprobs, Piece, Progress, Token};
use job::Job;

/// A request that was checked: nothing downstream checks these values again.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Not empty, token ids of the vocabulary, shorter than the context.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most. Together with the prompt they fit the context.
    pub max_tokens: usize,
    /// How to choose tokens.
    pub sampling: SamplingParameters,
    /// Texts that end the answer and are not part of it. None is empty.
    pub stop: Vec<String>,
    /// How many of the likeliest alternatives to report for each token; `None`: no probabilities.
    pub logprobs: Option<usize>,
    /// Whether the tokens of the prompt are reported as well, as [`Event::Prompt`].
    pub prompt_logprobs: bool,
    /// Whether the KV cache of an earlier request may be used.
    pub cache_prompt: bool,
}

/// What happens to a request, in order. The last is [`Event::Finish`] or [`Event::Failed`];
/// if the channel closes without one, the engine is gone. Dropping it cancels the request.
pub type Events = mpsc::UnboundedReceiver<Event>;

/// Why a generation was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many requests wait already.
    #[error("the engine is busy and {waiting} requests are waiting; try again in {} s", .retry_after.as_secs())]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When a place in the queue will be free, by what requests took lately. Whole seconds.
        retry_after: Duration,
    },
    /// The engine thread has ended.
    #[error("the engine has stopped")]
    Stopped,
}

/// What the worker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Each slot.
    pub slots: Vec<SlotStatus>,
    /// Requests that wait for a slot.
    pub waiting: usize,
}

/// The handle of the engine thread, which ends when the handle is dropped.
pub struct Worker {
    shared: Arc<Shared>,
    alive: watch::Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    scheduler: Scheduler,
    /// Jobs that the engine thread has not picked up yet.
    arrived: Vec<(SequenceId, Job)>,
    /// How long requests take, from admission to end, as a moving average.
    typical_duration: Duration,
    closed: bool,
}

impl Worker {
    /// Starts the thread. `queue` requests may wait while one is computed.
    pub fn start(
        inference: Inference,
        tokenizer: Arc<Tokenizer>,
        slots: usize,
        queue: usize,
    ) -> std::io::Result<Self> {
        let (worker, line) = connect(Limits { slots, queue, rows: inference.max_rows() });
        let thread = Thread { inference, tokenizer, jobs: HashMap::new(), line };
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || thread.run())?;
        Ok(worker)
    }

    /// Queues a generation. Never blocks for longer than it takes to change a list.
    pub fn submit(&self, generation: Generation) -> Result<Events, SubmitError> {
        let (sender, events) = mpsc::unbounded_channel();
        let job = Job::new(&generation, sender);
        let request = Request {
            prompt: generation.prompt,
            reuse_prefix: generation.cache_prompt,
            prompt_logits: generation.prompt_logprobs,
        };
        let mut state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Stopped);
        }
        let id = state.scheduler.submit(request).map_err(|full| SubmitError::Overloaded {
            waiting: full.waiting,
            retry_after: state.retry_after(),
        })?;
        state.arrived.push((id, job));
        drop(state);
        self.shared.wake.notify_one();
        Ok(events)
    }

    /// What the worker is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        Status { slots: state.scheduler.slots().collect(), waiting: state.scheduler.waiting() }
    }

    /// Whether the thread still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.has_changed().is_ok()
    }

    /// Returns when the thread has ended, which is only ever by a panic while the handle exists.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics between two related changes of the state, so it is never half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A place in the queue is free when one of the running requests ends.
    fn retry_after(&self) -> Duration {
        let slots = self.scheduler.slots().count().max(1);
        let seconds = self.typical_duration.as_secs_f64() / slots as f64;
        Duration::from_secs(seconds.ceil().clamp(1.0, 600.0) as u64)
    }

    fn record_duration(&mut self, duration: Duration) {
        self.typical_duration = self.typical_duration.mul_f64(0.8) + duration.mul_f64(0.2);
    }
}

/// A handle, and the thread's end of the line to it.
fn connect(limits: Limits) -> (Worker, Line) {
    let state = State {
        scheduler: Scheduler::new(limits),
        arrived: Vec::new(),
        typical_duration: Duration::from_secs(5),
        closed: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
    let (ended, alive) = watch::channel(());
    (Worker { shared: Arc::clone(&shared), alive }, Line { shared, _ended: ended })
}

/// What the engine thread owns.
struct Thread {
    inference: Inference,
    tokenizer: Arc<Tokenizer>,
    jobs: HashMap<SequenceId, Job>,
    line: Line,
}

/// The thread's end of the line. When the thread ends, by whatever cause, this tells everybody:
/// nobody may wait for it any longer.
struct Line {
    shared: Arc<Shared>,
    _ended: watch::Sender<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.arrived.clear();
        if std::thread::panicking() {
            error!("the engine thread panicked; the server cannot go on");
        }
    }
}

impl Thread {
    fn run(mut self) {
        while let Some(step) = self.wait_for_step() {
            match self.inference.forward_rows(&step.rows) {
                Ok(()) => self.finish(&step),
                Err(error) => self.abort(&step, &error.to_string()),
            }
        }
    }

    /// The next step, once there is one; `None` when the handle is gone.
    fn wait_for_step(&mut self) -> Option<Step> {
        let mut state = self.line.shared.lock();
        loop {
            if state.closed {
                return None;
            }
            self.jobs.extend(state.arrived.drain(..));
            let cancelled = self.jobs.extract_if(|_, job| job.is_cancelled());
            for (id, job) in cancelled {
                debug!(generated = job.progress().generated, "cancelled");
                state.scheduler.cancel(id);
            }
            if let Some(step) = state.scheduler.next_step() {
                drop(state);
                for admitted in &step.admitted {
                    if let Some(job) = self.jobs.get_mut(&admitted.sequence) {
                        job.start(admitted.slot, admitted.reused);
                    }
                }
                return Some(step);
            }
            state = self.line.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands the logits of a step to the jobs that they belong to.
    fn finish(&mut self, step: &Step) {
        let mut sampled = Vec::with_capacity(step.outputs.len());
        let mut ended = Vec::new();
        for (index, output) in step.outputs.iter().enumerate() {
            let (Output::Prompt { sequence: id, .. } | Output::Sample(id)) = *output;
            // A job that has failed at a token of its prompt has more outputs, which nobody wants.
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let outcome = match *output {
                Output::Prompt { token, .. } => {
                    job.prompt_token(&mut self.inference, index, token).map(|()| None)
                }
                Output::Sample(_) => job.sample(&mut self.inference, index, &self.tokenizer).map(Some),
            };
            match outcome {
                Ok(token) => sampled.extend(token.map(|token| (id, Sampled::Next(token)))),
                Err(end) => {
                    sampled.push((id, Sampled::End));
                    ended.extend(self.jobs.remove(&id).map(|job| (job, end)));
                }
            }
        }
        let mut state = self.line.shared.lock();
        state.scheduler.finish_step(step, &sampled);
        for (job, _) in &ended {
            state.record_duration(job.duration());
        }
        drop(state);
        // Only now, so that whoever has a whole answer finds the slot free.
        for (job, end) in ended {
            job.end(end);
        }
    }

    fn abort(&mut self, step: &Step, reason: &str) {
        error!(reason, "a step failed");
        let mut state = self.line.shared.lock();
        let slots: Vec<_> = state.scheduler.slots().collect();
        state.scheduler.abort_step(step);
        drop(state);
        for row in &step.rows {
            let sequence = slots.get(row.slot).and_then(|slot| slot.sequence);
            if let Some(job) = sequence.and_then(|id| self.jobs.remove(&id)) {
                job.fail(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        Generation {
            prompt: vec![1],
            max_tokens: 1,
            sampling: SamplingParameters::default(),
            stop: Vec::new(),
            logprobs: None,
            prompt_logprobs: false,
            cache_prompt: true,
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_thread_that_panicked() {
        let (worker, line) = connect(Limits { slots: 1, queue: 1, rows: 1 });
        let mut events = worker.submit(generation()).unwrap();
        assert!(worker.is_alive());
        let ended = worker.ended();
        let thread = std::thread::spawn(move || {
            let _line = line;
            panic!("as a kernel might");
        });
        assert!(thread.join().is_err());
        ended.await;
        assert!(!worker.is_alive());
        assert!(events.recv().await.is_none());
        assert_eq!(worker.submit(generation()).unwrap_err(), SubmitError::Stopped);
    }

    #[test]
    fn overload_is_answered_with_the_time_that_requests_took_lately() {
        let (worker, _line) = connect(Limits { slots: 1, queue: 0, rows: 1 });
        let _events = worker.submit(generation()).unwrap();
        let overloaded =
            |seconds| SubmitError::Overloaded { waiting: 1, retry_after: Duration::from_secs(seconds) };
        assert_eq!(worker.submit(generation()).unwrap_err(), overloaded(5));
        for _ in 0..100 {
            worker.shared.lock().record_duration(Duration::from_millis(11_500));
        }
        assert_eq!(worker.submit(generation()).unwrap_err(), overloaded(12));
    }
}
