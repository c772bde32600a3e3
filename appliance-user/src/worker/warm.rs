//! Memory that is touched before it is needed, so that the kernel's zeroing of fresh pages comes before packets do.
//!
//! A page fault on a huge page zeroes two megabytes, which takes a virtual machine up to two milliseconds: the time of some
//! thousand packets. The allocator keeps what was touched here once it is free again, and gives it to whoever asks next.

use std::hint::black_box;

/// Takes so many blocks of so many bytes at once, writes to all of them and gives them back.
pub(super) fn touch(blocks: usize, bytes: usize) {
    // Not zeroes: the allocator has those without touching anything.
    let taken: Vec<Vec<u8>> = (0..blocks).map(|_| vec![1; bytes]).collect();
    black_box(taken);
}
