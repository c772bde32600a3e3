//! Per-CPU counters: looked up once a packet, then plain increments.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use tidegate_common::drop_reason::DropReason;
use tidegate_common::maps::{self, Counter};

#[map]
static COUNTERS: PerCpuArray<[u64; maps::COUNTERS]> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's counters, for the length of one packet.
pub struct Counting(*mut [u64; maps::COUNTERS]);

impl Counting {
    /// Counts a packet as seen. `None` cannot happen: an array's first entry is always there.
    #[inline(always)]
    pub fn begin() -> Option<Self> {
        let mut counting = Counting(COUNTERS.get_ptr_mut(0)?);
        counting.add(Counter::Seen);
        Some(counting)
    }

    /// Counts one.
    #[inline(always)]
    pub fn add(&mut self, counter: Counter) {
        self.increment(counter as usize);
    }

    /// Counts a drop.
    #[inline(always)]
    pub fn drop(&mut self, reason: DropReason) {
        self.increment(maps::drop_index(reason));
    }

    /// Counts one by its index; one beyond the counters counts nothing.
    #[inline(always)]
    pub fn increment(&mut self, index: usize) {
        // SAFETY: holds because the pointer comes from a lookup of this map and points to this CPU's copy of a value of this
        // type, which lives as long as the program; the program is not entered twice on a CPU, so no other reference exists.
        let counters = unsafe { &mut *self.0 };
        if let Some(counter) = counters.get_mut(index) {
            *counter = counter.wrapping_add(1);
        }
    }
}
