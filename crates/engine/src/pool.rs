//! The compute threads: a fork-join pool whose handoff costs well under a microsecond.
//!
//! A token needs about 150 parallel regions of some tens of microseconds each, so workers spin for a moment after a region
//! before they park. A region never waits for a worker that has not joined it: the calling thread takes pieces itself, and
//! a worker that the system has put to sleep merely misses that region. There are no queues, futures or nested regions.

use std::any::Any;
use std::cell::UnsafeCell;
use std::iter;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Spins of an idle worker before it parks; about 100 µs with the pause instruction of current x86 cores.
const SPINS_BEFORE_PARK: u32 = 3_000;
/// Spins of the caller on workers still busy before it lets others have the core.
const SPINS_BEFORE_YIELD: u32 = 10_000;

/// Set in [`Shared::state`] while workers may join the current region.
const OPEN: u64 = 1 << 31;
/// One region, in the upper half of [`Shared::state`]; the lower 31 bits count the workers inside.
const REGION: u64 = 1 << 32;
const INSIDE: u64 = OPEN - 1;

/// A fixed set of compute threads; the thread that calls [`Pool::run`] is one of them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Region number, open flag, workers inside: one word, so that joining is one atomic addition.
    state: AtomicU64,
    /// The next piece that nobody has taken.
    next: AtomicUsize,
    /// Written only while the region is closed and nobody is inside.
    job: UnsafeCell<Job>,
    parked: Box<[AtomicBool]>,
    quit: AtomicBool,
    /// Whether `panic` holds something: so a region that went well takes no lock.
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The closure of the current region with its lifetime and type erased.
#[derive(Clone, Copy)]
struct Job {
    pieces: usize,
    data: *const (),
    call: unsafe fn(*const (), usize),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

// SAFETY: `job` is written by the one `&mut Pool` while no worker is inside a region and read only by workers that have
// joined an open one; its pointers are to a `Sync` closure that `run` keeps alive until all of them have left.
#[expect(unsafe_code, reason = "the job cell is guarded by the state word")]
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is tied to a thread.
#[expect(unsafe_code, reason = "the job cell is guarded by the state word")]
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads`, the caller included: one thread starts no worker.
    ///
    /// # Errors
    /// When the system refuses to start a thread.
    pub fn new(threads: NonZeroUsize) -> std::io::Result<Self> {
        let workers = threads.get() - 1;
        let mut pool = Self { shared: Shared::new(workers), workers: Vec::with_capacity(workers) };
        for index in 0..workers {
            let shared = Arc::clone(&pool.shared);
            let name = format!("compute-{}", index + 1);
            pool.workers.push(thread::Builder::new().name(name).spawn(move || shared.work(index))?);
        }
        Ok(pool)
    }

    /// The caller alone.
    pub(crate) fn single() -> Self {
        Self { shared: Shared::new(0), workers: Vec::new() }
    }

    /// Number of threads that compute, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work(i)` for each piece on all threads and returns when all are done; a panic in a piece is passed on.
    /// `&mut self`, so that `work` cannot reach the pool again.
    pub fn run<W: Fn(usize) + Sync>(&mut self, pieces: usize, work: W) {
        if pieces <= 1 || self.workers.is_empty() {
            (0..pieces).for_each(work);
            return;
        }
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        let job = Job { pieces, data: (&raw const work).cast(), call: call::<W> };
        // SAFETY: no region is open and nobody is inside (`finish` below waited for that), so no other access exists.
        #[expect(unsafe_code, reason = "hands the job to the workers")]
        unsafe {
            *shared.job.get() = job;
        }
        // Sequentially consistent, like the accesses to `parked`: either the worker sees the new region before it parks,
        // or this thread sees that it has parked.
        shared.state.fetch_add(REGION | OPEN, Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&shared.parked) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        shared.take_pieces(job);
        shared.finish();
        // Relaxed: whoever has written it has left the region, which `finish` has seen.
        if shared.panicked.load(Ordering::Relaxed) {
            shared.rethrow();
        }
    }

    /// Runs `work(range)` for contiguous ranges that cover `0..len`, the longest first: each is a share of what is left, so
    /// that long ones keep streams through memory going and short ones at the end make up for a thread that was delayed.
    pub fn run_ranges(&mut self, len: usize, work: impl Fn(Range<usize>) + Sync) {
        let threads = self.threads();
        let after = |start: usize| start + (len - start).div_ceil(2 * threads);
        let pieces =
            iter::successors(Some(0), |&start| Some(after(start))).take_while(|&start| start < len).count();
        self.run(pieces, |piece| {
            let start = (0..piece).fold(0, |start, _| after(start));
            work(start..after(start));
        });
    }

    /// The same with work that can fail: the error of a range that did. The others are worked on all the same.
    pub fn try_run_ranges<E: Send>(
        &mut self,
        len: usize,
        work: impl Fn(Range<usize>) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failure = Mutex::new(None);
        self.run_ranges(len, |range| {
            // The lock is only taken when something is wrong.
            if let Err(error) = work(range) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its pieces; it has none of its own.
            let _ = worker.join();
        }
    }
}

/// Calls the closure behind `data`.
///
/// # Safety
/// `data` points to a live `W`.
#[expect(unsafe_code, reason = "undoes the type erasure of `run`")]
unsafe fn call<W: Fn(usize)>(data: *const (), piece: usize) {
    // SAFETY: see above.
    let work = unsafe { &*data.cast::<W>() };
    work(piece);
}

impl Shared {
    fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(Job { pieces: 0, data: std::ptr::null(), call: |_, _| {} }),
            parked: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            quit: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
        })
    }

    fn work(&self, index: usize) {
        let mut last_region = 0;
        let mut spins = 0;
        while !self.quit.load(Ordering::SeqCst) {
            let state = self.state.load(Ordering::SeqCst);
            if state / REGION != last_region && state & OPEN != 0 {
                last_region = self.join().unwrap_or(last_region);
                spins = 0;
            } else if spins < SPINS_BEFORE_PARK {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.park(index, last_region);
                spins = 0;
            }
        }
    }

    /// Enters the open region, works, leaves; `None` when it closed in the meantime.
    fn join(&self) -> Option<u64> {
        let before = self.state.fetch_add(1, Ordering::Acquire);
        let open = before & OPEN != 0;
        if open {
            // SAFETY: this thread is counted inside an open region: `run` does not write the job before it has left.
            #[expect(unsafe_code, reason = "reads the job of the region joined")]
            let job = unsafe { *self.job.get() };
            self.take_pieces(job);
        }
        self.state.fetch_sub(1, Ordering::Release);
        open.then_some(before / REGION)
    }

    fn take_pieces(&self, job: Job) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= job.pieces {
                return;
            }
            // SAFETY: `run` keeps the closure alive until everybody has left the region.
            #[expect(unsafe_code, reason = "calls the closure of the region")]
            let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.data, piece) }));
            if let Err(panic) = outcome {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Passes a panic of the last region on.
    #[cold]
    fn rethrow(&self) {
        self.panicked.store(false, Ordering::Relaxed);
        if let Some(panic) = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(panic);
        }
    }

    /// Closes the region and waits until nobody is inside.
    fn finish(&self) {
        self.state.fetch_sub(OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            if spins < SPINS_BEFORE_YIELD {
                spins += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    fn park(&self, index: usize, last_region: u64) {
        self.parked[index].store(true, Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        let missed = state / REGION != last_region && state & OPEN != 0;
        if !missed && !self.quit.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked[index].store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    #[test]
    fn every_piece_runs_exactly_once_in_many_regions() {
        for threads in 1..=5 {
            let mut pool = pool(threads);
            for pieces in (0..300).chain([10_000]) {
                let counts: Vec<_> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                pool.run(pieces, |piece| {
                    counts[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn workers_that_have_parked_are_woken() {
        let mut pool = pool(3);
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(100, |piece| {
                sum.fetch_add(piece, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn the_error_of_a_range_is_returned_and_the_next_region_is_as_good_as_new() {
        let mut pool = pool(3);
        let fail_at =
            |index| move |range: Range<usize>| if range.contains(&index) { Err(index) } else { Ok(()) };
        for index in [0, 57, 99] {
            assert_eq!(pool.try_run_ranges(100, fail_at(index)), Err(index));
            assert_eq!(pool.try_run_ranges(100, fail_at(100)), Ok(()));
        }
    }

    #[test]
    fn ranges_cover_everything_without_overlap() {
        let mut pool = pool(3);
        for len in [0, 1, 5, 11, 12, 13, 1000] {
            let seen: Vec<_> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            pool.run_ranges(len, |range| {
                for i in range {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_pool_still_works() {
        let mut pool = pool(2);
        for bad in 0..8 {
            let caught =
                catch_unwind(AssertUnwindSafe(|| pool.run(8, |piece| assert_ne!(piece, bad, "piece {bad}"))));
            assert!(caught.is_err());
        }
        pool.run(8, |_| {});
    }
}
