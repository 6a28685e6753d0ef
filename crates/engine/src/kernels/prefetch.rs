//! Fetching ahead of a stream through memory.
//!
//! A core has few buffers for lines on their way into its first-level cache, so that fetching far ahead into it stalls; the
//! second level has several times as many. Lines are therefore asked for twice: early into the second level, to cover the
//! latency of memory, and again into the first shortly before they are used. Both together read faster than either alone,
//! unless a line takes so few instructions that two requests for it cost more than they bring.

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
/// Bytes ahead for a line that is asked for once.
#[cfg(target_arch = "x86_64")]
const ONCE: usize = 8 << 10;

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

/// The same for a stream whose lines take a dozen instructions each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "an intrinsic")]
pub(super) fn fetch_ahead_once(line: *const u8) {
    // SAFETY: as above.
    unsafe { x86::_mm_prefetch::<{ x86::_MM_HINT_T0 }>(line.wrapping_add(ONCE).cast()) }
}
