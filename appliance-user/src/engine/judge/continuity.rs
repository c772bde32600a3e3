//! The continuity counter rule (ISO/IEC 13818-1 2.4.3.3), PID by PID, over packets in the order in which they were sent.
//!
//! Counts exactly as TSDuck's `continuity` plugin and the `dvb-conformance` crate do: one event per offending packet, and
//! the count goes on from what it had. A packet with payload counts one up, one without stays; 0x1FFF is exempt; a
//! discontinuity_indicator allows anything; an equal second copy is legal, a third is not, nor is a second one with other
//! bytes. Stricter than both in one point: across a missing sequence number nothing is a legal duplicate, for fifteen lost
//! packets of a static table look like one.

use core::time::Duration;

use tidegate_common::digest::TsDigest;

use crate::engine::media::mpegts::NULL_PID;
use crate::engine::memory::Grant;
use crate::engine::time::Timestamp;

/// A PID has 13 bits, so no stream has more.
const MAX_PIDS: usize = 8192;
/// Slots of the index at first: a programme with its tables fits.
const FIRST_SLOTS: usize = 16;
/// Places at first.
const FIRST_PIDS: usize = 4;
/// Marks a free slot of the index.
const FREE: u16 = u16::MAX;

/// What was counted of a PID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidCounters {
    /// The PID.
    pub pid: u16,
    /// Its packets.
    pub packets: u64,
    /// Its continuity errors, whoever made them.
    pub continuity_errors: u64,
}

/// What lies between a PID's packet and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Every sequence number came.
    Whole,
    /// At least one did not.
    NumbersMissing,
}

/// What is said of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Its PID's place, from 0 in the order in which the PIDs appeared.
    pub(super) place: usize,
    /// What lies before it.
    pub(super) gap: Gap,
    /// Its counter is wrong.
    pub(super) error: Option<Error>,
}

/// A packet whose counter is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) gap: Gap,
    pub(super) expected: u8,
    /// Time since the PID's previous packet.
    pub(super) since_previous: Duration,
}

/// A PID's last packet.
#[derive(Clone, Copy, Debug, Default)]
struct PidState {
    counters: PidCounters,
    last: TsDigest,
    /// [`Continuity::losses`] when the last packet was judged.
    losses: u32,
    /// [`Continuity::epoch`] of the last packet.
    epoch: u32,
    last_ms: u32,
    /// The last packet was a second copy.
    duplicated: bool,
}

impl PidState {
    /// The counter that the next packet should have.
    #[inline]
    fn expected(&self, packet: &TsDigest) -> u8 {
        (self.last.continuity_counter() + u8::from(packet.has_payload())) & 0x0f
    }

    /// Judges a packet that is not the next one without more ado. `now` are [`Continuity::losses`] and
    /// [`Continuity::epoch`].
    #[inline(never)]
    fn weigh(&mut self, place: usize, packet: &TsDigest, now_ms: u32, now: (u32, u32), duplicates: &mut u64) -> Judged {
        let (losses, epoch) = now;
        let gap = if self.losses == losses {
            Gap::Whole
        } else {
            Gap::NumbersMissing
        };
        let expected = self.expected(packet);
        let anything_goes = self.epoch != epoch || packet.discontinuity();
        let copy = packet.has_payload() && *packet == self.last && gap == Gap::Whole && !anything_goes;
        let wrong = match copy {
            true => self.duplicated,
            false => !anything_goes && packet.continuity_counter() != expected,
        };
        *duplicates += u64::from(copy && !wrong);
        let since_previous = Duration::from_millis(now_ms.wrapping_sub(self.last_ms).into());
        self.counters.continuity_errors += u64::from(wrong);
        self.last = *packet;
        (self.losses, self.epoch, self.last_ms, self.duplicated) = (losses, epoch, now_ms, copy);
        let error = wrong.then_some(Error {
            gap,
            expected,
            since_previous,
        });
        Judged { place, gap, error }
    }
}

/// Every PID's state.
#[derive(Debug)]
pub(super) struct Continuity {
    pids: Vec<PidState>,
    /// Open-addressed: places in `pids`; its length is a power of two and twice the number of PIDs at least.
    index: Vec<u16>,
    /// The place of the last packet's PID: most packets follow one of their own.
    recent: usize,
    /// Gaps in the sequence so far, modulo 2^32.
    losses: u32,
    /// Grows with each rebase, so that no PID need be touched; a PID of an earlier epoch begins anew.
    epoch: u32,
}

impl Default for Continuity {
    fn default() -> Self {
        Continuity {
            pids: Vec::new(),
            index: Vec::new(),
            recent: 0,
            losses: 0,
            epoch: 1,
        }
    }
}

impl Continuity {
    /// At least one sequence number is missing here.
    pub(super) fn numbers_missing(&mut self) {
        self.losses = self.losses.wrapping_add(1);
    }

    /// Every PID begins anew.
    pub(super) fn rebase(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// What was counted of each PID.
    pub(super) fn pids(&self) -> impl Iterator<Item = &PidCounters> {
        self.pids.iter().map(|state| &state.counters)
    }

    /// Judges the next packet; a legal duplicate counts in `duplicates`. `None` where its PID is new and there is no memory to
    /// follow one more.
    #[inline]
    pub(super) fn judge(
        &mut self,
        packet: &TsDigest,
        now_ms: u32,
        duplicates: &mut u64,
        grant: &mut Grant,
    ) -> Option<Judged> {
        let place = self.place(packet.pid(), grant)?;
        let (losses, epoch) = (self.losses, self.epoch);
        let state = self.pids.get_mut(place)?;
        state.counters.packets += 1;
        // The common packet counts one up from the last one of the same epoch, and nothing is missing between them: it is no
        // copy, and nothing about it is wrong.
        let follows = packet.continuity_counter() == state.expected(packet);
        if follows && state.losses == losses && state.epoch == epoch {
            state.last = *packet;
            (state.last_ms, state.duplicated) = (now_ms, false);
        } else if packet.pid() != NULL_PID {
            return Some(state.weigh(place, packet, now_ms, (losses, epoch), duplicates));
        }
        let (gap, error) = (Gap::Whole, None);
        Some(Judged { place, gap, error })
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        self.pids.capacity() * size_of::<PidState>() + self.index.capacity() * size_of::<u16>()
    }

    /// The place of a PID's state, made when it is new.
    #[inline]
    fn place(&mut self, pid: u16, grant: &mut Grant) -> Option<usize> {
        match self.pids.get(self.recent) {
            Some(state) if state.counters.pid == pid => {}
            _ => self.recent = self.find(pid, grant)?,
        }
        Some(self.recent)
    }

    fn find(&mut self, pid: u16, grant: &mut Grant) -> Option<usize> {
        if self.index.is_empty() {
            self.grow();
        }
        let mask = self.index.len() - 1;
        let mut slot = start(pid, mask);
        // Half of the slots are free, so this ends.
        while let Some(place) = self.index.get(slot).copied().filter(|place| *place != FREE) {
            if self
                .pids
                .get(usize::from(place))
                .is_some_and(|state| state.counters.pid == pid)
            {
                return Some(place.into());
            }
            slot = (slot + 1) & mask;
        }
        debug_assert!(self.pids.len() < MAX_PIDS);
        if self.pids.len() == self.pids.capacity() {
            let more = self.pids.capacity().max(FIRST_PIDS);
            if !grant.grow(more * (size_of::<PidState>() + 2 * size_of::<u16>())) {
                return None;
            }
            self.pids.reserve_exact(more);
            return self.find(pid, grant);
        }
        let place = self.pids.len();
        if let Some(free) = self.index.get_mut(slot) {
            *free = place as u16;
        }
        let counters = PidCounters {
            pid,
            ..PidCounters::default()
        };
        self.pids.push(PidState {
            counters,
            epoch: self.epoch.wrapping_sub(1),
            ..PidState::default()
        });
        if self.pids.len() * 2 > self.index.len() {
            self.grow();
        }
        Some(place)
    }

    fn grow(&mut self) {
        let slots = (self.index.len() * 2).max(FIRST_SLOTS);
        self.index.clear();
        self.index.resize(slots, FREE);
        for (place, state) in self.pids.iter().enumerate() {
            let mut slot = start(state.counters.pid, slots - 1);
            while self.index.get(slot).is_some_and(|taken| *taken != FREE) {
                slot = (slot + 1) & (slots - 1);
            }
            if let Some(free) = self.index.get_mut(slot) {
                *free = place as u16;
            }
        }
    }
}

/// Where the search for a PID begins. PIDs of a programme are often neighbours or multiples of 256.
fn start(pid: u16, mask: usize) -> usize {
    (u32::from(pid).wrapping_mul(0x9e37_79b1) >> 16) as usize & mask
}

/// A time in milliseconds, modulo 2^32: 49 days, far longer than a PID's packets are apart.
pub(super) fn milliseconds(at: Timestamp) -> u32 {
    (at.nanos() / 1_000_000) as u32
}

#[cfg(test)]
#[path = "continuity_tests.rs"]
mod tests;
