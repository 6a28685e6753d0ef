//! Large, long-lived arrays: weights and the KV cache.
//!
//! They come straight from the operating system as anonymous maps: page-aligned, zero, committed only when touched, and
//! advised to use huge pages, because a decode step walks through all weights and would otherwise spend a good part of its
//! time on address translation. Small or short-lived data belongs into `Vec`.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

/// Size of a huge page on x86-64 and of the usual choice on aarch64, in bytes.
const HUGE_PAGE: usize = 2 << 20;

/// The system has no memory for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no {bytes} bytes of memory to give")]
pub struct OutOfMemory {
    /// Size of the buffer; the greatest number there is when its size is none.
    pub bytes: usize,
}

/// Has large short-lived blocks go back to the system when they are freed. What a request takes is up to some tens of megabytes, on
/// whatever thread it was read; glibc would keep as much for each thread, since it raises its limit with each block it sees.
pub(crate) fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        /// Smaller ones are cut from what the process has.
        const LARGE: libc::c_int = 1 << 20;
        // SAFETY: sets a number under the allocator's own lock; nothing else is shared.
        #[expect(unsafe_code, reason = "the allocator has no other interface")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}

/// A fixed-size array of plain data in its own map, aligned to a huge page when it is larger than one.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    map: MmapMut,
    start: usize,
    bytes: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Reserves `len` zero elements. Fails when the size overflows or the system refuses.
    pub(crate) fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        let bytes = len.saturating_mul(size_of::<T>());
        let refused = OutOfMemory { bytes };
        let slack = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        // An empty map is an error to the system; an empty buffer is not one to us.
        let reserved = bytes.checked_add(slack).ok_or(refused)?.max(1);
        let map = MmapMut::map_anon(reserved).map_err(|_| refused)?;
        let start = if slack == 0 {
            0
        } else {
            map.as_ptr().addr().next_multiple_of(HUGE_PAGE) - map.as_ptr().addr()
        };
        #[cfg(target_os = "linux")]
        if slack > 0 {
            // Only advice: without huge pages everything works, more slowly.
            let _ = map.advise_range(memmap2::Advice::HugePage, start, bytes);
        }
        Ok(Self { map, start, bytes, element: PhantomData })
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.map[self.start..self.start + self.bytes])
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map[self.start..self.start + self.bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zero_and_writable_at_both_ends() {
        for len in [0, 1, 1000, HUGE_PAGE / 4 + 3] {
            let mut buffer = Buffer::<f32>::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
            if let Some(last) = buffer.last_mut() {
                *last = 1.0;
                assert_eq!(buffer[len - 1], 1.0);
            }
        }
    }

    #[test]
    fn large_buffers_start_on_a_huge_page() {
        let buffer = Buffer::<u8>::zeroed(3 * HUGE_PAGE).unwrap();
        assert_eq!(buffer.as_ptr().addr() % HUGE_PAGE, 0);
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        let refused = |len| Buffer::<u64>::zeroed(len).map(drop).unwrap_err();
        assert_eq!(refused(usize::MAX / 4), OutOfMemory { bytes: usize::MAX });
        assert_eq!(refused(usize::MAX / 16), OutOfMemory { bytes: usize::MAX / 16 * 8 });
    }
}
