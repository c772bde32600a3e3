//! Asking the processor for memory before it is needed.
//!
//! The instruction reads nothing that a program could see and never faults; it is `unsafe` in name only, which is why it
//! has this file to itself. Other architectures than x86-64 do without.

/// Bytes of a cache line.
const LINE: usize = 64;
/// Lines of a packet that are asked for: Ethernet to RTP lie in the first three or four, and the processor itself fetches
/// what follows once it sees them read one after the other.
const LINES: usize = 4;

/// Asks for the beginning of a packet: its headers and the first bytes of what they carry.
#[inline]
pub(super) fn packet(bytes: &[u8]) {
    for line in 0..LINES {
        // Behind the end of a short one lies its own frame's unused part.
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
