//! Work on text, which is parsing, rendering a template and tokenizing: a permit comes before it.
//!
//! A few threads do it. Who finds them busy waits in line, in bounded number and for a bounded time, and what waits costs no
//! more than what it was given. The line is made of futures: whoever leaves takes the work along that has not begun, and work
//! that runs can see that nobody wants it any more.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) threads: usize,
    /// Work that may wait for one of them.
    pub(crate) waiting: usize,
    /// For how long.
    pub(crate) patience: Duration,
}

/// The threads and the line before them. They end when this is dropped and their work is done.
pub(crate) struct Admission {
    limits: Limits,
    /// One for each thread; work has it until it ends, even if nobody waits for it.
    permits: Arc<Semaphore>,
    /// One for each who has work or waits.
    places: Semaphore,
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The line was full, or too slow.
    Busy,
    /// With these words.
    Panicked(String),
}

/// Whether somebody still waits for a piece of work.
#[derive(Clone)]
pub(crate) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    pub(crate) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Waiting(Wanted);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Admission {
    /// Starts the threads.
    pub(crate) fn new(limits: Limits) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..limits.threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("text".to_owned()).spawn(move || work_through(&queue))?;
        }
        let permits = Arc::new(Semaphore::new(limits.threads));
        let places = Semaphore::new(limits.threads + limits.waiting);
        Ok(Self { limits, permits, places, jobs })
    }

    /// Has the work done as soon as a thread is free.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let Ok(_place) = self.places.try_acquire() else { return Err(NotDone::Busy) };
        let permit = timeout(self.limits.patience, Arc::clone(&self.permits).acquire_owned());
        let Ok(Ok(permit)) = permit.await else { return Err(NotDone::Busy) };

        let waiting = Waiting(Wanted(Arc::new(AtomicBool::new(true))));
        let wanted = waiting.0.clone();
        let (sender, result) = oneshot::channel();
        let job = move || {
            if wanted.is() {
                let done = catch_unwind(AssertUnwindSafe(|| work(&wanted)));
                // Nobody waits any more when the client left in the meantime.
                sender.send(done).ok();
            }
            drop(permit);
        };
        let ended = || NotDone::Panicked("the threads for text have ended".to_owned());
        self.jobs.send(Box::new(job)).map_err(|_| ended())?;
        let done = result.await.map_err(|_| ended())?;
        done.map_err(|panic| NotDone::Panicked(message(panic.as_ref())))
    }
}

fn work_through(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // In a statement of its own, so that the next thread can wait while this one works.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(mpsc::RecvError) => return,
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn admission(threads: usize, waiting: usize, patience: Duration) -> Admission {
        Admission::new(Limits { threads, waiting, patience }).unwrap()
    }

    /// Work that ends when told to, and what tells it.
    fn blocked() -> (impl FnOnce(&Wanted) + Send + 'static, mpsc::Sender<()>) {
        let (end, told) = mpsc::channel();
        (move |_: &Wanted| _ = told.recv(), end)
    }

    #[tokio::test]
    async fn work_that_was_given_up_before_it_began_never_begins() {
        let admission = admission(1, 2, LONG);
        let (work, end) = blocked();
        let mut running = Box::pin(admission.run(work));
        assert!((&mut running).now_or_never().is_none());
        let began = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&began);
        let mut given_up = Box::pin(admission.run(move |_| begins.store(true, Ordering::Relaxed)));
        assert!((&mut given_up).now_or_never().is_none());
        drop(given_up);
        assert_eq!(Arc::strong_count(&began), 1, "what it was given is free at once");
        drop(end);
        running.await.unwrap();
        admission.run(|_| ()).await.unwrap();
        assert!(!began.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn running_work_sees_that_nobody_wants_it_and_keeps_its_thread_until_it_ends() {
        let admission = admission(1, 1, LONG);
        let (begins, began) = oneshot::channel();
        let (tells, told) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&ended);
        let mut running = Box::pin(admission.run(move |wanted| {
            begins.send(wanted.is()).unwrap();
            told.recv().unwrap();
            ends.store(!wanted.is(), Ordering::SeqCst);
        }));
        assert!((&mut running).now_or_never().is_none());
        assert!(began.await.unwrap());
        drop(running);
        let next = Arc::clone(&ended);
        let mut next = Box::pin(admission.run(move |_| next.load(Ordering::SeqCst)));
        assert!((&mut next).now_or_never().is_none());
        tells.send(()).unwrap();
        assert!(next.await.unwrap());
    }

    #[tokio::test]
    async fn few_threads_do_it_all() {
        let admission = admission(2, 100, LONG);
        let work = || {
            admission.run(|_| {
                thread::sleep(Duration::from_millis(1));
                thread::current().id()
            })
        };
        let threads = join_all((0..100).map(|_| work())).await;
        let threads: HashSet<_> = threads.into_iter().map(Result::unwrap).collect();
        assert!(threads.len() <= 2, "{threads:?}");
    }

    #[tokio::test]
    async fn the_line_is_bounded_in_length_and_time() {
        let admission = admission(1, 1, Duration::from_millis(20));
        let (work, end) = blocked();
        let mut running = Box::pin(admission.run(work));
        assert!((&mut running).now_or_never().is_none());
        let mut waiting = Box::pin(admission.run(|_| ()));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(admission.run(|_| ()).now_or_never(), Some(Err(NotDone::Busy)), "the line is full");
        assert_eq!(waiting.await, Err(NotDone::Busy), "it takes too long");
        drop(end);
        running.await.unwrap();
        admission.run(|_| ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_its_thread_goes_on() {
        let admission = admission(1, 0, LONG);
        let panicked = admission.run(|_| panic!("as a template might")).await;
        assert_eq!(panicked, Err::<(), _>(NotDone::Panicked("as a template might".to_owned())));
        // The permit comes back just after the result.
        let mut next = admission.run(|_| 5).await;
        while next == Err(NotDone::Busy) {
            next = admission.run(|_| 5).await;
        }
        assert_eq!(next, Ok(5));
    }
}
