//! The end of the line that requests come from: submit, status, the end of the thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::error;

use super::compute::Compute;
use super::event::Events;
use super::pace::Pace;
use super::reader::Reader;
use super::thread::Thread;
use crate::generation::{Client, GenerationRequest};
use crate::kv::{Scope, Store, Usage};
use crate::metrics::Metrics;
use crate::scheduler::{Limits, Request, Scheduler, SequenceId, SlotStatus};
use crate::tokenizer::Tokenizer;

/// The handle of the engine thread, which ends when the handle is dropped.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    alive: watch::Receiver<()>,
    timeout: Option<Duration>,
}

/// How requests are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub limits: Limits,
    /// What a running answer may wait for its next token while a prompt is computed.
    pub max_token_gap: Duration,
    /// How long a request may take from its arrival to its end.
    pub timeout: Option<Duration>,
}

/// A request that was accepted.
pub(crate) struct Submitted {
    pub events: Events,
    /// How many wait that came before it.
    pub waiting_before: usize,
    /// How long it will wait, by what requests took lately.
    pub wait: Duration,
}

/// A request's place in the queue, if it waits: it is free again when this is dropped, however long the step that is computed takes.
pub(super) struct Place {
    shared: Arc<Shared>,
    id: SequenceId,
}

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubmitError {
    /// Too many requests wait already.
    #[error("the engine is busy and {waiting} requests are waiting; try again in {} s", .retry_after.as_secs())]
    Overloaded {
        waiting: usize,
        /// When a place in the queue will be free, by what requests took lately. Whole seconds.
        retry_after: Duration,
    },
    /// Nothing new is taken any more.
    #[error("this server is stopping; ask another one, or this one later")]
    Draining,
    /// The engine thread has ended.
    #[error("the engine has stopped")]
    Stopped,
}

/// What the thread is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub slots: Vec<SlotStatus>,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Of the KV cache.
    pub pages: Usage,
}

/// What both ends of the line see.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Condvar,
}

pub(super) struct State {
    pub(super) scheduler: Scheduler,
    /// Those whose requests the engine thread has not picked up yet.
    pub(super) arrived: Vec<(SequenceId, Reader)>,
    /// How long requests take, from admission to end, as a moving average.
    typical_duration: Duration,
    /// Those that wait are to be told that nothing is begun any more.
    pub(super) draining: bool,
    pub(super) closed: bool,
}

/// The thread's end of the line. When the thread ends, by whatever cause, this tells everybody: nobody may wait for it any longer.
pub(super) struct Line {
    pub(super) shared: Arc<Shared>,
    _ended: watch::Sender<()>,
}

impl Handle {
    /// Starts the thread.
    pub(crate) fn start<C: Compute>(
        compute: C,
        store: Store,
        tokenizer: Arc<Tokenizer>,
        metrics: Arc<Metrics>,
        options: &Options,
    ) -> std::io::Result<Self> {
        let (handle, line) = connect(options, store);
        let thread = Thread::new(compute, tokenizer, metrics, Pace::new(options.max_token_gap), line);
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || thread.run())?;
        Ok(handle)
    }

    /// Queues a request. Never blocks for longer than it takes to change a list.
    pub(crate) fn submit(&self, request: GenerationRequest) -> Result<Submitted, SubmitError> {
        let (sender, events) = mpsc::unbounded_channel();
        let reader = Reader::new(&request, self.timeout, sender);
        let request = Request {
            prompt: request.prompt,
            client: request.client,
            scope: request.cache_prompt.then(|| scope(request.client)),
            prompt_logits: request.report.prompt,
        };
        let mut state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Stopped);
        }
        if state.draining {
            return Err(SubmitError::Draining);
        }
        let id = state.scheduler.submit(request).map_err(|full| SubmitError::Overloaded {
            waiting: full.waiting,
            retry_after: state.retry_after(),
        })?;
        let waiting_before = state.scheduler.waiting_before(id);
        let wait = state.wait_behind(waiting_before);
        state.arrived.push((id, reader));
        drop(state);
        self.shared.wake.notify_one();
        let place = Place { shared: Arc::clone(&self.shared), id };
        Ok(Submitted { events: Events { events, _place: place }, waiting_before, wait })
    }

    /// Takes nothing new any more: those that wait are told, those that run go on.
    pub(crate) fn drain(&self) {
        self.shared.lock().draining = true;
        self.shared.wake.notify_one();
    }

    /// Ends what still runs, after the step that is computed now.
    pub(crate) fn stop(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }

    /// What the thread is doing now.
    #[must_use]
    pub(crate) fn status(&self) -> Status {
        let state = self.shared.lock();
        Status {
            slots: state.scheduler.slots().collect(),
            waiting: state.scheduler.waiting(),
            pages: state.scheduler.pages(),
        }
    }

    /// Whether the thread still runs.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.has_changed().is_ok()
    }

    /// Returns when the thread has ended, which is only ever by a panic while the handle exists.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().scheduler.leave_queue(self.id);
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics between two related changes of the state, so it is never half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A place in the queue is free when one of the running requests ends.
    fn retry_after(&self) -> Duration {
        let seconds = self.until_one_ends().as_secs_f64();
        Duration::from_secs(seconds.ceil().clamp(1.0, 600.0) as u64)
    }

    /// How long a request waits behind so many others.
    fn wait_behind(&self, waiting: usize) -> Duration {
        let free = self.scheduler.slots().filter(|slot| slot.sequence.is_none()).count();
        let ends = (waiting + 1).saturating_sub(free);
        self.until_one_ends().saturating_mul(u32::try_from(ends).unwrap_or(u32::MAX))
    }

    /// Requests take as long as lately, and end one after the other.
    fn until_one_ends(&self) -> Duration {
        self.typical_duration.div_f64(self.scheduler.slots().count().max(1) as f64)
    }

    pub(super) fn record_duration(&mut self, duration: Duration) {
        self.typical_duration = self.typical_duration.mul_f64(0.8) + duration.mul_f64(0.2);
    }
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

/// What of the cache a client may use: with keys only what the same key has left there.
fn scope(client: Client) -> Scope {
    match client {
        Client::Own | Client::Address(_) => Scope::default(),
        Client::Key(key) => Scope(key as u64 + 1),
    }
}

/// A handle, and the thread's end of the line to it.
fn connect(options: &Options, store: Store) -> (Handle, Line) {
    let state = State {
        scheduler: Scheduler::new(options.limits, store),
        arrived: Vec::new(),
        typical_duration: Duration::from_secs(5),
        draining: false,
        closed: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
    let (ended, alive) = watch::channel(());
    (Handle { shared: Arc::clone(&shared), alive, timeout: options.timeout }, Line { shared, _ended: ended })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{Prompt, Report};
    use crate::sampling::SamplingParameters;

    fn request() -> GenerationRequest {
        GenerationRequest {
            prompt: Prompt::new(vec![1], 2).unwrap(),
            max_tokens: 1,
            sampling: SamplingParameters::default(),
            stop: Vec::new(),
            report: Report::default(),
            cache_prompt: true,
            client: Client::Own,
        }
    }

    fn refused(handle: &Handle) -> SubmitError {
        handle.submit(request()).map(|_| ()).unwrap_err()
    }

    fn connected(queue: usize) -> (Handle, Line) {
        let limits = Limits { sequences: 1, queue, rows: 1 };
        let options = Options { limits, max_token_gap: Duration::ZERO, timeout: None };
        connect(&options, Store::new(1, 2))
    }

    #[tokio::test]
    async fn nobody_waits_for_a_thread_that_panicked() {
        let (handle, line) = connected(1);
        let mut events = handle.submit(request()).unwrap().events;
        assert!(handle.is_alive());
        let ended = handle.ended();
        let thread = std::thread::spawn(move || {
            let _line = line;
            panic!("as a kernel might");
        });
        assert!(thread.join().is_err());
        ended.await;
        assert!(!handle.is_alive());
        assert!(events.recv().await.is_none());
        assert_eq!(refused(&handle), SubmitError::Stopped);
    }

    #[test]
    fn whoever_leaves_the_queue_has_left_it_before_the_next_step() {
        let (handle, _line) = connected(0);
        for _ in 0..5 {
            let Submitted { events, waiting_before, .. } = handle.submit(request()).unwrap();
            assert_eq!((waiting_before, handle.status().waiting), (0, 1));
            drop(events);
            assert_eq!(handle.status().waiting, 0);
        }
    }

    #[test]
    fn whoever_waits_is_told_for_how_long() {
        let (handle, _line) = connected(3);
        let waits =
            [(); 3].map(|()| handle.submit(request()).unwrap()).map(|submitted| submitted.wait.as_secs());
        assert_eq!(waits, [0, 5, 10]);
    }

    #[test]
    fn overload_is_answered_with_the_time_that_requests_took_lately() {
        let (handle, _line) = connected(0);
        let _events = handle.submit(request()).unwrap();
        let overloaded =
            |seconds| SubmitError::Overloaded { waiting: 1, retry_after: Duration::from_secs(seconds) };
        assert_eq!(refused(&handle), overloaded(5));
        for _ in 0..100 {
            handle.shared.lock().record_duration(Duration::from_millis(11_500));
        }
        assert_eq!(refused(&handle), overloaded(12));
    }
}
