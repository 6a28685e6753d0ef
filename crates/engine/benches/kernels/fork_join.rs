//! What a parallel region of two threads costs, beside starting a thread for it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bitnet_engine::pool::Pool;

use crate::measure::{Measured, in_turns};

/// A kind of region.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How many times faster than a new thread the pool must be, at least; `None` where a busy machine decides.
    pub(crate) floor: Option<f64>,
    pub(crate) measure: fn() -> Vec<Measured>,
}

/// Nothing to do, so that one thread may do it all; and pieces that wait for each other, so that both threads take part.
pub(crate) fn cases() -> [Case; 2] {
    [
        Case { name: "fork-join, 2 threads, empty", floor: Some(10.0), measure: || compare(|| {}) },
        Case {
            name: "fork-join, 2 threads, both join",
            floor: None,
            measure: || {
                let arrived = AtomicUsize::new(0);
                compare(|| {
                    let end = arrived.fetch_add(1, Ordering::Relaxed) / 2 * 2 + 2;
                    while arrived.load(Ordering::Relaxed) < end {
                        std::hint::spin_loop();
                    }
                })
            },
        },
    ]
}

fn compare(piece: impl Fn() + Sync) -> Vec<Measured> {
    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
    let mut pool = Pool::new(TWO).unwrap();
    in_turns(2, |variant| {
        if variant == 0 {
            thread::scope(|scope| {
                scope.spawn(&piece);
                piece();
            });
        } else {
            pool.run(2, |_| piece());
        }
    })
}
