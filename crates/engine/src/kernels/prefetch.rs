//! Fetching ahead of a stream through memory.
//!
//! A core has few buffers for lines on their way into its first-level cache, so that fetching far ahead into it stalls; the
//! second level has several times as many. Lines are therefore asked for twice: early into the second level, to cover the
//! latency of memory, and again into the first shortly before they are used. Both together
//! read faster than either alone.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as x86;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// Bytes ahead for the first level.
#[cfg(target_arch = "x86_64")]
const NEAR: usize = 3 << 10;
/// Bytes ahead for the second level.
#[cfg(target_arch = "x86_64")]
const FAR: usize = 16 << 10;

/// Asks for what follows `line` in its stream. Addresses beyond the end are harmless.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "an intrinsic")]
pub(super) fn fetch_ahead(line: *const u8) {
    // SAFETY: every x86-64 CPU has SSE, and prefetching accesses nothing.
    unsafe {
        x86::_mm_prefetch::<{ x86::_MM_HINT_T0 }>(line.wrapping_add(NEAR).cast());
        x86::_mm_prefetch::<{ x86::_MM_HINT_T1 }>(line.wrapping_add(FAR).cast());
    }
}
