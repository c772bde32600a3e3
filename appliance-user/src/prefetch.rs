//! Asking for memory before it is needed, so that several cache misses wait at the same time.

/// Bytes that come into the cache together.
const LINE: usize = 64;

/// Asks for the cache lines of a value. Nothing happens on processors for which there is no such wish.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    let first = core::ptr::from_ref(value).cast::<i8>();
    let mut offset = 0;
    while offset < size_of_val(value) {
        line(first.wrapping_add(offset));
        offset += LINE;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line(address: *const i8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program could see and faults at no address; SSE, which has it, is part of
    // every x86-64 processor.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn line(_address: *const i8) {}
