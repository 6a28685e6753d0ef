//! What a parallel region of two threads costs, beside starting a thread for it.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::pool::Pool;

/// A kind of region, run in one of two ways.
pub struct ForkJoin {
    /// What happens in the region, as the table of results has it.
    pub name: &'static str,
    /// How many times faster than a new thread the pool must be, at least; `None` where a busy machine decides.
    pub floor: Option<f64>,
    /// Runs the region: with a new thread for 0, else with the pool.
    pub run: Box<dyn FnMut(usize)>,
}

impl ForkJoin {
    /// Nothing to do, so that one thread may do it all; and pieces that wait for each other, so that both threads take part.
    pub fn all() -> io::Result<[Self; 2]> {
        let arrived = AtomicUsize::new(0);
        let both_join = move || {
            let end = arrived.fetch_add(1, Ordering::Relaxed) / 2 * 2 + 2;
            while arrived.load(Ordering::Relaxed) < end {
                std::hint::spin_loop();
            }
        };
        Ok([
            Self { name: "fork-join, 2 threads, empty", floor: Some(10.0), run: in_two_ways(|| {})? },
            Self { name: "fork-join, 2 threads, both join", floor: None, run: in_two_ways(both_join)? },
        ])
    }
}

fn in_two_ways(piece: impl Fn() + Sync + 'static) -> io::Result<Box<dyn FnMut(usize)>> {
    const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
    let mut pool = Pool::new(TWO)?;
    Ok(Box::new(move |way| {
        if way == 0 {
            thread::scope(|scope| {
                scope.spawn(&piece);
                piece();
            });
        } else {
            pool.run(2, |_| piece());
        }
    }))
}
