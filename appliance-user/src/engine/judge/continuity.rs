//! The continuity counter rule (ISO/IEC 13818-1 2.4.3.3), PID by PID, over packets in the order in which they were sent.
//!
//! Counts exactly as TSDuck's `continuity` plugin and the `dvb-conformance` crate do: one event per offending packet, and
//! the count goes on from what it had. A packet with payload counts one up, one without stays; 0x1FFF is exempt; a
//! discontinuity_indicator allows anything; an equal second copy is legal, a third is not, nor is a second one with other
//! bytes. Stricter than both in one point: across a missing sequence number nothing is a legal duplicate, for fifteen lost
//! packets of a static table look like one.

use tidegate_common::digest::TsDigest;

use crate::engine::media::mpegts::{Header, NULL_PID};
use crate::engine::memory::Grant;
use crate::engine::time::Timestamp;
use crate::prefetch::prefetch_element;

/// A PID has 13 bits, so no stream has more.
const MAX_PIDS: usize = 8192;
/// Slots of the index at first: a programme with its tables fits.
const FIRST_SLOTS: usize = 16;
/// Places at first.
const FIRST_PIDS: usize = 4;
/// Nanoseconds to which a PID's last packet is timed, as a power of two: about a millisecond.
const GRAIN: u32 = 20;
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
    /// Nanoseconds since the PID's previous packet, to the millisecond or so.
    pub(super) since_previous: u64,
}

/// A PID's last packet. One cache line: every run of packets touches it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct PidState {
    counters: PidCounters,
    /// [`Continuity::now`] when the last packet was judged.
    judged: Past,
    /// The header that the next packet has if it is plain and goes on. Null packets' have any counter.
    next: Header,
    /// The last packet, but for what `next` says of it where it was plain.
    last: TsDigest,
    last_seen: u32,
    /// The last packet was plain, and judged in a run.
    in_run: bool,
    /// The last packet was a second copy.
    duplicated: bool,
}

const _: () = assert!(size_of::<PidState>() == 64, "a hostile stream may have 8192 of them");

impl PidState {
    /// The last packet.
    fn last(&self) -> TsDigest {
        let header = self.next.before();
        match self.in_run {
            true => TsDigest {
                head: header.head(),
                control: header.control(),
                adaptation_flags: 0,
                hash: self.last.hash,
            },
            false => self.last,
        }
    }

    /// The next packet is the last one now.
    fn follow(&mut self, packet: &TsDigest, grains: u32, duplicated: bool) {
        self.last = *packet;
        self.next = Header::plain(packet.head, packet.continuity_counter()).after(1);
        (self.last_seen, self.in_run, self.duplicated) = (grains, false, duplicated);
    }

    /// Judges a packet that is not the next one without more ado. `now` is [`Continuity::now`].
    #[inline(never)]
    fn weigh(&mut self, place: usize, packet: &TsDigest, grains: u32, now: Past, duplicates: &mut u64) -> Judged {
        let gap = if self.judged.losses() == now.losses() {
            Gap::Whole
        } else {
            Gap::NumbersMissing
        };
        let last = self.last();
        let expected = counted_on(&last, packet);
        let anything_goes = self.judged.epoch() != now.epoch() || packet.discontinuity();
        let copy = packet.has_payload() && *packet == last && gap == Gap::Whole && !anything_goes;
        let wrong = match copy {
            true => self.duplicated,
            false => !anything_goes && packet.continuity_counter() != expected,
        };
        *duplicates += u64::from(copy && !wrong);
        let since_previous = u64::from(grains.wrapping_sub(self.last_seen)) << GRAIN;
        self.counters.continuity_errors += u64::from(wrong);
        self.judged = now;
        self.follow(packet, grains, copy);
        let error = wrong.then_some(Error {
            gap,
            expected,
            since_previous,
        });
        Judged { place, gap, error }
    }
}

/// A PID whose next packet may go on from its last one: [`Continuity::going_on`].
pub(super) struct GoingOn<'a> {
    /// Its place.
    pub(super) place: usize,
    state: &'a mut PidState,
}

impl GoingOn<'_> {
    /// The header that its next packet has if it is plain and goes on.
    #[inline(always)]
    pub(super) fn next(&self) -> Header {
        self.state.next
    }

    /// Takes so many plain packets, each of which goes on from the one before it. Another that goes on would have `next` as
    /// its header; `hash` is the content's of the last one.
    #[inline(always)]
    pub(super) fn take(&mut self, count: usize, next: Header, hash: u32, grains: u32) {
        let state = &mut *self.state;
        state.counters.packets += count as u64;
        (state.next, state.last.hash) = (next, hash);
        (state.last_seen, state.in_run, state.duplicated) = (grains, true, false);
    }
}

/// Every PID's state. What every packet needs comes last, so that it lies together with what its owner needs.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Continuity {
    /// Open-addressed: places in `pids`; its length is a power of two and twice the number of PIDs at least.
    index: Vec<u16>,
    /// The place of null packets, once there are any.
    null: Option<usize>,
    pids: Vec<PidState>,
    /// The place of the last packet's PID that is not the null packets': most packets follow one of their own.
    recent: usize,
    now: Past,
}

/// What has happened to the sequence so far. Where it is the same for two packets of a PID, nothing lies between them that
/// could excuse one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past(u64);

impl Past {
    /// Gaps in the sequence, modulo 2^32.
    fn losses(self) -> u32 {
        self.0 as u32
    }

    /// Grows with each rebase, so that no PID need be touched; a PID of an earlier epoch begins anew.
    fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn new(losses: u32, epoch: u32) -> Self {
        Past(u64::from(epoch) << 32 | u64::from(losses))
    }
}

impl Default for Continuity {
    fn default() -> Self {
        Continuity {
            pids: Vec::new(),
            index: Vec::new(),
            recent: 0,
            null: None,
            now: Past::new(0, 1),
        }
    }
}

impl Continuity {
    /// At least one sequence number is missing here.
    pub(super) fn numbers_missing(&mut self) {
        self.now = Past::new(self.now.losses().wrapping_add(1), self.now.epoch());
    }

    /// Every PID begins anew.
    pub(super) fn rebase(&mut self) {
        self.now = Past::new(self.now.losses(), self.now.epoch().wrapping_add(1));
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
        grains: u32,
        duplicates: &mut u64,
        grant: &mut Grant,
    ) -> Option<Judged> {
        let place = self.place(packet.pid(), grant)?;
        let now = self.now;
        let state = self.pids.get_mut(place)?;
        state.counters.packets += 1;
        // The common packet counts one up from the last one of the same epoch, and nothing is missing between them: it is no
        // copy, and nothing about it is wrong.
        let follows = packet.continuity_counter() == counted_on(&state.last(), packet);
        if follows && state.judged == now {
            state.follow(packet, grains, false);
        } else if packet.pid() != NULL_PID {
            return Some(state.weigh(place, packet, grains, now, duplicates));
        }
        let (gap, error) = (Gap::Whole, None);
        Some(Judged { place, gap, error })
    }

    /// The place of the PID that most packets follow one of their own of, and the header that its next packet has if it is
    /// plain and goes on.
    #[inline]
    pub(super) fn expected(&self) -> Option<(usize, Header)> {
        self.pids.get(self.recent).map(|state| (self.recent, state.next))
    }

    /// Asks for the PIDs that the next packet most likely has.
    #[inline]
    pub(super) fn prefetch(&self) {
        for place in self.likely() {
            prefetch_element(&self.pids, place);
        }
    }

    /// The places of the PIDs that the next packet most likely has: that of the last one, and the null packets' if there are any.
    /// A third would be asked for far more often than it is read.
    #[inline]
    pub(super) fn likely(&self) -> [usize; 2] {
        [self.recent, self.null.unwrap_or(self.recent)]
    }

    /// Expects what the PID goes on with whose packet this is the header of, where it is another one than before.
    #[inline]
    pub(super) fn turn_to(&mut self, header: Header) {
        let pid = header.pid();
        let turns = self.pids.get(self.recent).is_none_or(|state| state.counters.pid != pid);
        if turns
            && !header.is_plain_null()
            && let Some(place) = self.known(pid)
        {
            self.recent = place;
        }
    }

    /// Whether nothing is missing since the last packet of a PID.
    #[inline]
    pub(super) fn is_whole(&self, place: usize) -> bool {
        self.pids.get(place).is_some_and(|state| state.judged == self.now)
    }

    /// The null packets' place, once there were any: any plain null packet goes on there.
    #[inline]
    pub(super) fn null(&self) -> Option<usize> {
        self.null
    }

    /// The PID that most packets follow one of their own of, where nothing is missing since its last packet.
    #[inline(always)]
    pub(super) fn going_on(&mut self) -> Option<GoingOn<'_>> {
        let (place, now) = (self.recent, self.now);
        let state = self.pids.get_mut(place)?;
        (state.judged == now).then_some(GoingOn { place, state })
    }

    /// Takes so many plain null packets.
    #[inline]
    pub(super) fn take_nulls(&mut self, place: usize, count: usize) {
        if let Some(state) = self.pids.get_mut(place) {
            state.counters.packets += count as u64;
        }
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        self.pids.capacity() * size_of::<PidState>() + self.index.capacity() * size_of::<u16>()
    }

    /// The place of a PID's state, made when it is new.
    #[inline]
    fn place(&mut self, pid: u16, grant: &mut Grant) -> Option<usize> {
        match self.pids.get(self.recent) {
            Some(state) if state.counters.pid == pid => Some(self.recent),
            // Nothing goes on from a null packet.
            _ if pid == NULL_PID => self.find(pid, grant),
            _ => {
                self.recent = self.find(pid, grant)?;
                Some(self.recent)
            }
        }
    }

    /// The place of a PID's state, where there is one.
    #[inline]
    fn known(&self, pid: u16) -> Option<usize> {
        let mask = self.index.len().wrapping_sub(1);
        let mut slot = start(pid, mask);
        // Half of the slots are free, so this ends.
        while let Some(place) = self.index.get(slot).copied().filter(|place| *place != FREE) {
            let place = usize::from(place);
            if self.pids.get(place).is_some_and(|state| state.counters.pid == pid) {
                return Some(place);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    fn find(&mut self, pid: u16, grant: &mut Grant) -> Option<usize> {
        if self.index.is_empty() {
            self.grow();
        }
        if let Some(place) = self.known(pid) {
            return Some(place);
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
        self.enter(pid, place);
        if pid == NULL_PID {
            self.null = Some(place);
        }
        let counters = PidCounters {
            pid,
            ..PidCounters::default()
        };
        self.pids.push(PidState {
            counters,
            judged: Past::new(0, self.now.epoch().wrapping_sub(1)),
            next: Header::plain(pid, 0),
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
        for place in 0..self.pids.len() {
            if let Some(pid) = self.pids.get(place).map(|state| state.counters.pid) {
                self.enter(pid, place);
            }
        }
    }

    /// Enters a PID's place in the index, in which half of the slots are free.
    fn enter(&mut self, pid: u16, place: usize) {
        let mask = self.index.len().wrapping_sub(1);
        let mut slot = start(pid, mask);
        while self.index.get(slot).is_some_and(|taken| *taken != FREE) {
            slot = (slot + 1) & mask;
        }
        if let Some(free) = self.index.get_mut(slot) {
            *free = place as u16;
        }
    }
}

/// The counter of a packet that goes on from another.
#[inline]
fn counted_on(last: &TsDigest, packet: &TsDigest) -> u8 {
    (last.continuity_counter() + u8::from(packet.has_payload())) & 0x0f
}

/// Where the search for a PID begins. PIDs of a programme are often neighbours or multiples of 256.
fn start(pid: u16, mask: usize) -> usize {
    (u32::from(pid).wrapping_mul(0x9e37_79b1) >> 16) as usize & mask
}

/// A time to the [`GRAIN`], modulo 2^32 of them: 52 days, far longer than a PID's packets are apart.
#[inline]
pub(super) fn grains(at: Timestamp) -> u32 {
    (at.nanos() >> GRAIN) as u32
}

#[cfg(test)]
#[path = "continuity_tests.rs"]
mod tests;
