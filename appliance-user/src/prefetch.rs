//! Asking for memory before it is needed, so that several cache misses wait at the same time.

use core::ops::Range;

/// Bytes that come into the cache together.
pub(crate) const LINE: usize = 64;

/// Asks for the cache lines of a value. Nothing happens on processors for which there is no such wish.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    prefetch_within(value, 0..size_of_val(value));
}

/// Asks for the cache lines that a part of a value begins on, or goes on to after a whole number of lines: for a part on a line
/// boundary, all of its lines.
#[inline(always)]
pub(crate) fn prefetch_within<T: ?Sized>(value: &T, part: Range<usize>) {
    let first = core::ptr::from_ref(value).cast::<i8>();
    let mut offset = part.start;
    while offset < part.end {
        line(first.wrapping_add(offset));
        offset += LINE;
    }
}

/// Asks for the cache lines of an element. It is not looked whether there is one: where there is none, what is asked for is read
/// by nobody.
#[inline(always)]
pub(crate) fn prefetch_element<T>(of: &[T], place: usize) {
    let first = of.as_ptr().wrapping_add(place).cast::<i8>();
    let mut offset = 0;
    while offset < size_of::<T>() {
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
