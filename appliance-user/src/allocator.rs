//! How the process' allocator treats memory that is free again. The binary names the allocator; this sets it.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay`: how long free memory is kept before the kernel gets it back, in milliseconds. The binding has no
/// name for it; the number is its place in the library's own list, which the test checks by its default.
const PURGE_DELAY: mi_option_t = 15;
/// Not at all.
const NEVER: c_long = -1;

/// Memory that was taken once stays with the process.
///
/// To give some back (`MADV_DONTNEED`) interrupts every core on which a thread of the process runs, holds the lock that their
/// page faults need, splits huge pages, and makes whoever takes it again wait for the kernel's zeroing. A worker would do that
/// to itself and to the others, in between packets, when streams end; and pay once more when they come back. What the process
/// can hold is bounded by what its tables and queues are bounded by, and a machine that runs it must have that much.
///
/// To be called before there are other threads: the option is a plain word of the library's.
pub fn keep_memory() {
    // SAFETY: holds because the function writes one word of a static table, whose bounds it checks itself, and nobody reads it
    // meanwhile: the caller's is the only thread.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: holds because the function reads one word, and no other test writes it.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1000, "the only option with this default");
        keep_memory();
        assert_eq!(get(), NEVER);
    }
}
