//! Asking the processor for memory before it is needed.
//!
//! The instruction reads nothing that a program could see and never faults; it is `unsafe` in name only, which is why it
//! has this file to itself. Other architectures than x86-64 do without.

/// Bytes of a cache line.
const LINE: usize = 64;
/// Lines of a packet that are asked for at most: those of an Ethernet frame of 1,500 bytes. What is inspected is read whole,
/// and asking for all of it at once is worth more than a third of the time; asking for the headers alone is worth nothing
/// that can be measured. A jumbo's first lines are enough to set the processor's own prefetching off.
const LINES: usize = 24;

/// Asks for the bytes of a packet.
#[inline]
pub(super) fn packet(bytes: &[u8]) {
    for line in 0..bytes.len().div_ceil(LINE).min(LINES) {
        touch(bytes.as_ptr().wrapping_add(line * LINE));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn touch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: holds because every x86-64 processor has the instruction (SSE), and an address of any kind is allowed.
    unsafe { _mm_prefetch::<{ _MM_HINT_T0 }>(line.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn touch(_line: *const u8) {}
