//! Writing one slice from several threads.

use std::marker::PhantomData;
use std::ops::Range;

use crate::pool::Pool;

/// A slice whose disjoint parts are written by the pieces of one region.
#[derive(Debug)]
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts under the contract of `part`.
#[expect(unsafe_code, reason = "shares a slice between the pieces of a region")]
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// Parts that are in use at the same time do not overlap.
    #[expect(
        unsafe_code,
        clippy::mut_from_ref,
        reason = "the caller keeps parts disjoint; the bounds are checked"
    )]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} elements", self.len);
        // SAFETY: inside the slice, and not overlapping by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Fills a slice on all threads: `fill(first, part)` is given disjoint parts of whole units of so many elements, and the number of
/// the first of them. The error is that of a part that has one; the others are filled all the same.
///
/// # Panics
/// When the slice is not whole units.
pub(crate) fn fill_in_parallel<T: Send, E: Send>(
    pool: &mut Pool,
    out: &mut [T],
    unit: usize,
    fill: impl Fn(usize, &mut [T]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    assert!(out.len().is_multiple_of(unit), "whole units of {unit}");
    let units = out.len() / unit;
    let out = Disjoint::new(out);
    pool.try_run_ranges(units, |range| {
        // SAFETY: ranges do not overlap.
        #[expect(unsafe_code, reason = "ranges are filled in parallel")]
        let part = unsafe { out.part(range.start * unit..range.end * unit) };
        fill(range.start, part)
    })
}
