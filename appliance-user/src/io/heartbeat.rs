//! The workers' heartbeats: one cache line per receive queue in a BPF array that user space maps into its memory.
//!
//! A worker writes the time of `CLOCK_MONOTONIC` into its line; the XDP program compares it with its own clock and takes
//! the failure action when it is too old. Writing costs a store, not a system call. Zero means that nobody beats.
//!
//! This file has `unsafe`: the mapping itself and the atomic view of a line.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tidegate_common::maps::Heartbeat;

/// Bytes from one queue's line to the next: a cache line, so that workers do not slow each other down.
const STRIDE: usize = Heartbeat::SIZE;

/// The whole array, mapped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    mapping: Arc<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    length: usize,
    slots: u32,
}

// SAFETY: holds because the mapping is shared memory that is only ever touched through `AtomicU64` and unmapped once, when
// the last owner is gone; neither depends on the thread.
unsafe impl Send for Mapping {}
// SAFETY: holds for the same reason: every access through `&Mapping` is atomic.
unsafe impl Sync for Mapping {}

impl Heartbeats {
    /// Maps an array of `slots` [`Heartbeat`]s, made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for an array smaller than that or not mappable, `EPERM` for a frozen one.
    pub fn map(array: impl AsFd, slots: u32) -> io::Result<Self> {
        let length = (slots as usize).checked_mul(STRIDE).filter(|length| *length > 0);
        let length = length.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: holds because a null hint lets the kernel choose an address that nothing else uses, and the mapping is shared
        // with a file descriptor that the kernel itself keeps alive for as long as it is mapped.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                array,
                0,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Heartbeats {
            mapping: Arc::new(Mapping { base, length, slots }),
        })
    }

    /// The line of one queue; `None` beyond the array.
    pub fn slot(&self, queue: u32) -> Option<HeartbeatSlot> {
        (queue < self.mapping.slots).then(|| HeartbeatSlot {
            mapping: Arc::clone(&self.mapping),
            queue,
        })
    }

    /// How many queues the array has lines for.
    pub fn slots(&self) -> u32 {
        self.mapping.slots
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: holds because base and length are those of the mapping made in `Heartbeats::map`, and every slot holds an
        // `Arc` of this value, so nobody is left who could read it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// One queue's line. The worker writes it, control reads it.
#[derive(Clone, Debug)]
pub struct HeartbeatSlot {
    mapping: Arc<Mapping>,
    queue: u32,
}

/// The words of a line. The program reads the first and writes the last; those between are user space's own.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Word {
    Beat = Heartbeat::BEAT_OFFSET / WORD,
    Note0 = 1,
    Note1 = 2,
    Note2 = 3,
    Note3 = 4,
    Dark = Heartbeat::DARK_OFFSET / WORD,
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();
/// The words for notes.
const NOTES: [Word; 4] = [Word::Note0, Word::Note1, Word::Note2, Word::Note3];
const _: () = assert!(offset_of!(Heartbeat, notes) == Word::Note0 as usize * WORD);
const _: () = assert!((Word::Dark as usize + 1) * WORD <= STRIDE && STRIDE.is_multiple_of(WORD));

impl HeartbeatSlot {
    /// One word of the line.
    fn word(&self, word: Word) -> &AtomicU64 {
        let offset = self.queue as usize * STRIDE + word as usize * WORD;
        // SAFETY: holds because `slot` made sure that the queue is below `slots` and a `Word` is below STRIDE / 8, so the word
        // lies inside the mapping, which `self.mapping` keeps alive; a mapping begins at a page and the offset is a multiple of
        // 8, so it is aligned; the XDP program touches it only by aligned 64-bit loads and stores.
        unsafe { AtomicU64::from_ptr(self.mapping.base.as_ptr().add(offset).cast()) }
    }

    /// The receive queue.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Says "alive" at `now`, in nanoseconds of `CLOCK_MONOTONIC`.
    pub fn beat(&self, now: u64) {
        self.word(Word::Beat).store(now, Ordering::Release);
    }

    /// Says "gone": the kernel takes the failure action from the next packet on, without waiting for the beat to age.
    pub fn retire(&self) {
        self.word(Word::Beat).store(0, Ordering::Release);
    }

    /// The last beat, in nanoseconds of `CLOCK_MONOTONIC`; `None` if nobody beats.
    pub fn last(&self) -> Option<u64> {
        match self.word(Word::Beat).load(Ordering::Acquire) {
            0 => None,
            beat => Some(beat),
        }
    }

    /// Whether the program says that packets of this queue take the failure action.
    pub fn is_dark(&self) -> bool {
        self.word(Word::Dark).load(Ordering::Relaxed) != 0
    }

    /// Leaves four numbers for whoever maps the array next, should this process die: the line outlives it.
    pub fn leave_note(&self, note: [u64; 4]) {
        for (word, value) in NOTES.into_iter().zip(note) {
            self.word(word).store(value, Ordering::Relaxed);
        }
    }

    /// The numbers that were left, zeros if none were. Not to be read while another process writes them.
    pub fn note(&self) -> [u64; 4] {
        NOTES.map(|word| self.word(word).load(Ordering::Relaxed))
    }

    /// How old the last beat is at `now`; the longest duration if nobody beats. A beat after `now` (the worker read its clock
    /// later) is fresh, not an age that wrapped.
    pub fn age(&self, now: u64) -> Duration {
        self.last()
            .map_or(Duration::MAX, |beat| Duration::from_nanos(now.saturating_sub(beat)))
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn heartbeats(slots: u32) -> Heartbeats {
        let file = memfd_create("heartbeats", MemfdFlags::CLOEXEC).expect("memory");
        ftruncate(&file, 4096).expect("sized");
        Heartbeats::map(&file, slots).expect("mapped, and alive after the descriptor is closed")
    }

    #[test]
    fn a_beat_is_seen_through_another_slot_of_the_same_queue_only() {
        let map = heartbeats(4);
        let (worker, reader, other) = (map.slot(2).unwrap(), map.slot(2).unwrap(), map.slot(3).unwrap());
        assert_eq!(reader.age(5), Duration::MAX, "nobody beats yet");
        let thread = std::thread::spawn(move || worker.beat(1_000));
        thread.join().expect("beaten");
        assert_eq!(reader.age(1_500), Duration::from_nanos(500));
        assert_eq!(other.last(), None);
    }

    #[test]
    fn a_beat_after_the_readers_clock_is_fresh() {
        let slot = heartbeats(1).slot(0).unwrap();
        slot.beat(2_000);
        assert_eq!(slot.age(1_000), Duration::ZERO);
    }

    #[test]
    fn retiring_is_like_never_having_beaten() {
        let slot = heartbeats(1).slot(0).unwrap();
        slot.beat(2_000);
        slot.retire();
        assert_eq!(slot.age(2_001), Duration::MAX);
    }

    #[test]
    fn notes_do_not_touch_the_beat_or_the_next_line() {
        let map = heartbeats(2);
        let (first, second) = (map.slot(0).unwrap(), map.slot(1).unwrap());
        first.beat(7);
        first.leave_note([1, 2, 3, 4]);
        assert_eq!((first.last(), first.note()), (Some(7), [1, 2, 3, 4]));
        assert_eq!((second.last(), second.note()), (None, [0; 4]));
    }

    #[test]
    fn no_slot_lies_outside_the_array() {
        let map = heartbeats(4);
        assert!(map.slot(3).is_some() && map.slot(4).is_none() && map.slot(u32::MAX).is_none());
        let file = memfd_create("empty", MemfdFlags::CLOEXEC).expect("memory");
        assert!(Heartbeats::map(&file, 0).is_err());
    }
}
