//! Memory that is touched before it is needed, so that the kernel's zeroing of fresh pages comes before packets do.
//!
//! A page fault on a huge page zeroes two megabytes, which takes a virtual machine up to two milliseconds: the time of some
//! thousand packets. The allocator keeps what was touched here once it is free again, and gives it to whoever asks next.

use std::hint::black_box;

/// Streams that a worker can begin without fresh memory, and what one takes in its first second, in blocks of a kilobyte or so
/// and in some of tens of kilobytes: the allocator has regions of its own for each of the two sizes, and for whole tables.
const STREAMS: usize = 1000;
const SMALL: (usize, usize) = (20, 1000);
const MEDIUM: (usize, usize) = (1, 10_000);
/// The empty flow table and what else a worker makes at its start.
const TABLE: usize = 11 << 20;

/// Touches the memory of a worker's first streams, so that a neighbour's that all come here at once find it there. To be called
/// in the worker's thread before it makes anything. It is memory that the worker would take sooner or later.
pub fn first_streams() {
    let blocks = [(1, TABLE), (STREAMS * SMALL.0, SMALL.1), (STREAMS * MEDIUM.0, MEDIUM.1)];
    // All at once, or it were the same memory each time.
    black_box(blocks.map(|(count, bytes)| block(count, bytes)));
}

/// Takes so many blocks of so many bytes at once, writes to all of them and gives them back.
pub(super) fn touch(count: usize, bytes: usize) {
    black_box(block(count, bytes));
}

/// Blocks that are written to; not with zeroes, which the allocator has without touching anything.
fn block(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| vec![1; bytes]).collect()
}
