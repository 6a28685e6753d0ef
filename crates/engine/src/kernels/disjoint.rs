//! Writing one slice from several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice whose disjoint parts are written by the pieces of one region.
#[derive(Debug)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts under the contract of `part`.
#[expect(unsafe_code, reason = "shares a slice between the pieces of a region")]
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
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
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} elements", self.len);
        // SAFETY: inside the slice, and not overlapping by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
