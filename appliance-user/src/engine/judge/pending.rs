//! What is remembered of sequence numbers: hashes of those seen lately, and digests of those that wait for a missing one.

use std::collections::VecDeque;

use super::arrival::Waiting;
use crate::engine::memory::Grant;
use crate::prefetch::prefetch_element;

/// Numbers remembered of a stream that has just begun: ten thousand senders of one packet each take little room.
const FIRST_NUMBERS: usize = 128;
/// Digests that the first gap makes room for.
const FIRST_WAITING: usize = 8;
/// Numbers remembered of a stream that goes on and is not slow: their hashes take 8 KiB.
pub(super) const STEADY_NUMBERS: u64 = 2048;
/// Numbers remembered at most, and so the longest gap that can be waited for: one second at 170 Mb/s.
pub(super) const MAX_NUMBERS: usize = 16_384;

/// What a number that was not seen has in place of a hash.
const UNSEEN: u32 = 0;

/// The numbers seen lately, with their hashes: `capacity` of them up to the highest one. A ring indexed by the number's low
/// bits, so the caller forgets what a new highest number skips.
#[derive(Debug, Default)]
pub(super) struct History {
    hashes: Box<[u32]>,
}

/// A content's hash as it is remembered: never [`UNSEEN`], so two hashes out of 2^32 are one.
#[inline]
pub(super) fn remembered(hash: u32) -> u32 {
    hash.max(UNSEEN + 1)
}

impl History {
    /// How many numbers up to the highest one are remembered.
    pub(super) fn capacity(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        if self.hashes.is_empty() {
            self.hashes = empty(FIRST_NUMBERS);
        }
        self.hashes.fill(UNSEEN);
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        bytes_for(self.hashes.len())
    }

    /// Makes room for `numbers` up to `highest`, as far as the bound and the grant allow.
    pub(super) fn reserve(&mut self, numbers: u64, highest: u64, grant: &mut Grant) {
        let wanted = (numbers as usize)
            .saturating_add(1)
            .next_power_of_two()
            .clamp(FIRST_NUMBERS, MAX_NUMBERS);
        let old = self.capacity();
        if wanted as u64 <= old || !grant.grow(bytes_for(wanted) - self.memory()) {
            return;
        }
        let mut larger = History { hashes: empty(wanted) };
        // Both rings are powers of two, so what came since the smaller one last began anew lies together in either, and so
        // does what came before that.
        let anew = highest - (highest & old.saturating_sub(1));
        larger.copy(self, anew, highest + 1);
        larger.copy(self, (highest + 1).saturating_sub(old), anew);
        *self = larger;
    }

    /// Takes over what another remembers from one number to before another, which lie together in both.
    fn copy(&mut self, other: &History, from: u64, end: u64) {
        let length = end.saturating_sub(from) as usize;
        let (to, from) = (self.slot(from), other.slot(from));
        if let (Some(to), Some(from)) = (
            self.hashes.get_mut(to..to + length),
            other.hashes.get(from..from + length),
        ) {
            to.copy_from_slice(from);
        }
    }

    /// The hash of a number that is within capacity of the highest one, if it was seen.
    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<u32> {
        self.hashes
            .get(self.slot(number))
            .copied()
            .filter(|hash| *hash != UNSEEN)
    }

    /// Whether a number was seen.
    #[inline]
    pub(super) fn has(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Asks for a number's place.
    #[inline]
    pub(super) fn prefetch(&self, number: u64) {
        prefetch_element(&self.hashes, self.slot(number));
    }

    /// A number was seen.
    #[inline]
    pub(super) fn mark(&mut self, number: u64, hash: u32) {
        let slot = self.slot(number);
        if let Some(place) = self.hashes.get_mut(slot) {
            *place = remembered(hash);
        }
    }

    /// A number was skipped: what its slot held is too old.
    pub(super) fn forget(&mut self, number: u64) {
        let slot = self.slot(number);
        if let Some(place) = self.hashes.get_mut(slot) {
            *place = UNSEEN;
        }
    }

    /// The capacity is a power of two.
    #[inline]
    fn slot(&self, number: u64) -> usize {
        number as usize & self.hashes.len().wrapping_sub(1)
    }
}

/// Room for so many numbers.
fn empty(numbers: usize) -> Box<[u32]> {
    vec![UNSEEN; numbers].into_boxed_slice()
}

/// Bytes that so many remembered numbers take.
const fn bytes_for(numbers: usize) -> usize {
    numbers * size_of::<u32>()
}

/// Digests that wait, in the order of their numbers. They take the room of what really came: a gap costs nothing, however
/// wide a forged number makes it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: VecDeque<(u64, Waiting)>,
    /// Bytes that they hold beside their digests.
    kept: usize,
}

impl Pending {
    /// Makes room for one more; `false` where the grant does not allow it.
    pub(super) fn reserve(&mut self, grant: &mut Grant) -> bool {
        let room = self.waiting.capacity();
        if self.waiting.len() < room {
            return true;
        }
        let more = room.max(FIRST_WAITING);
        let granted = grant.grow(more * size_of::<(u64, Waiting)>());
        if granted {
            self.waiting.reserve_exact(more);
        }
        granted
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        self.waiting.capacity() * size_of::<(u64, Waiting)>() + self.kept
    }

    /// Keeps a digest that there is room for. Nearly every one is the highest so far.
    pub(super) fn store(&mut self, number: u64, packet: Waiting) {
        self.kept += packet.kept_bytes();
        let place = match self.waiting.back() {
            Some((last, _)) if *last >= number => self.waiting.partition_point(|(other, _)| *other < number),
            _ => self.waiting.len(),
        };
        self.waiting.insert(place, (number, packet));
    }

    /// Takes out the digest of a number that was stored. Numbers are asked for in ascending order.
    pub(super) fn take(&mut self, number: u64) -> Option<Waiting> {
        while let Some((other, packet)) = self.waiting.pop_front_if(|(other, _)| *other <= number) {
            self.kept -= packet.kept_bytes();
            if other == number {
                return Some(packet);
            }
        }
        None
    }

    /// Bytes kept beside the digests.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.kept = 0;
    }

    /// Digests that there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.waiting.capacity()
    }

    /// Gives the room back, so that ten thousand streams do not each keep that of their worst moment.
    pub(super) fn release(&mut self) {
        *self = Pending::default();
    }
}
