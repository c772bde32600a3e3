//! The order in which a sender sent, found again from RTP or SRT sequence numbers.
//!
//! Numbers are extended past their wraps, and everything is relative to the highest one seen. A packet that follows its
//! predecessor is judged at once. Behind a gap packets wait until the missing number comes or its window is over. What is
//! too far away to be believed is a candidate: the next consecutive number confirms it, anything else shows that it was
//! alone.

mod calm;
mod restart;
mod rewind;
mod tally;

use core::time::Duration;
use std::collections::VecDeque;

use self::restart::Candidate;
use self::rewind::Rewind;
use self::tally::{count_copy, count_out_of_order, lose};
use super::arrival::{Arrival, Waiting};
use super::pace::{Pace, Settling};
use super::pending::{History, MAX_NUMBERS, Pending, remembered};
use super::{ResetCause, TransportCounters};
use crate::engine::media::mpegts::PACKET_SIZE;
use crate::engine::memory::Grant;
use crate::engine::time::Timestamp;

/// The most numbers that a jump may skip: the gap and the packet after it must fit the ring.
const MOST_SKIPPED: u64 = MAX_NUMBERS as u64 - 2;
/// Extended numbers begin here, so that going back never meets zero.
const ORIGIN: u64 = 1 << 40;
/// Gaps that room is kept for when none is open.
const KEPT_GAPS: usize = 32;
/// Digests' room goes back after this long without a gap.
const IDLE_ROOM: Duration = Duration::from_secs(10);

/// Who judges what the sequencer has put in order.
pub(super) trait Bench {
    /// Where the sequencer counts.
    fn counters(&mut self) -> &mut TransportCounters;
    /// The next packet in sequence.
    fn in_order(&mut self, packet: Arrival<'_>);
    /// Which TS packets of a datagram that has to wait are worth keeping whole, one bit each.
    fn worth_keeping(&self, packet: &Arrival<'_>) -> u8;
    /// Bytes that may be kept of packets that wait.
    fn room_for_bytes(&self) -> usize;
    /// What the stream may grow by.
    fn grant(&mut self) -> &mut Grant;
    /// So many numbers are missing before the next packet.
    fn lost(&mut self, first: u64, count: u64);
    /// A number came again with another content, which is told as a conflict unless it shows to be the sender's.
    fn suspect(&mut self);
    /// A number came again with another content.
    fn conflict(&mut self);
    /// A packet far from the sequence was alone.
    fn out_of_window(&mut self);
    /// A number that was given up came.
    fn late(&mut self);
    /// The next packet begins anew; `lost` numbers are missing before it.
    fn reset(&mut self, cause: ResetCause, first: u64, lost: u64);
}

/// Every number missing below `before`, and not below an earlier gap's, has been missed since `at`.
#[derive(Clone, Copy, Debug)]
struct Gap {
    before: u64,
    at: Timestamp,
}

/// One stream's sequence. See the module's documentation. What every packet needs comes first, so that it lies together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Sequencer {
    /// It has begun, nothing is missing, and nothing is in doubt: the next number needs no more than [`Sequencer::go_on`].
    calm: bool,
    started: bool,
    /// The packet under inspection was new.
    fresh: bool,
    /// Bits of the number space.
    bits: u32,
    /// As many ones.
    mask: u32,
    /// Lowest number that is neither judged nor given up.
    next: u64,
    /// Highest number that came.
    highest: u64,
    /// First number of this sequence: what lies below was never expected.
    first: u64,
    /// The number at which it is looked whether more is to be remembered.
    full_at: u64,
    history: History,
    pace: Pace,
    /// When the last packet came that belongs to the sequence.
    last_accepted: Timestamp,
    pending: Pending,
    gaps: VecDeque<Gap>,
    /// When a digest last waited.
    last_waited: Timestamp,
    candidate: Option<Box<Candidate>>,
    rewind: Option<Box<Rewind>>,
}

impl Sequencer {
    pub(super) fn new(bits: u32, window: Duration) -> Self {
        Sequencer {
            calm: false,
            started: false,
            fresh: false,
            bits,
            mask: u32::MAX >> (32 - bits),
            next: ORIGIN,
            highest: ORIGIN,
            first: ORIGIN,
            full_at: ORIGIN,
            history: History::default(),
            pace: Pace::new(window),
            last_accepted: Timestamp::default(),
            pending: Pending::default(),
            gaps: VecDeque::new(),
            last_waited: Timestamp::default(),
            candidate: None,
            rewind: None,
        }
    }

    pub(super) fn set_window(&mut self, window: Duration) {
        self.pace.set_window(window);
    }

    /// How long events are held back.
    #[inline]
    pub(super) fn settling(&self) -> Settling {
        self.pace.settling()
    }

    /// Bytes at its beginning that every packet needs.
    pub(super) const HOT: usize = core::mem::offset_of!(Sequencer, pending);

    /// Digests that there is room for now.
    #[cfg(test)]
    pub(super) fn waiting_room(&self) -> usize {
        self.pending.room()
    }

    /// Numbers that are remembered now.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> u64 {
        self.history.capacity()
    }

    /// Takes a packet. Whether it was new: a number that the sequence goes on with, or that it missed; no copy, and none that
    /// is judged nowhere.
    pub(super) fn offer(&mut self, packet: Arrival<'_>, bench: &mut impl Bench) -> bool {
        self.fresh = false;
        if self.started {
            self.place(packet, bench);
        } else {
            self.begin(packet, bench);
        }
        self.settle();
        self.fresh
    }

    /// Finds the place of a packet that is not the first.
    #[inline]
    fn place(&mut self, packet: Arrival<'_>, bench: &mut impl Bench) {
        self.expire(packet.at, bench);
        let distance = self.distance(packet.digest.sequence);
        match u64::try_from(distance) {
            Ok(1) => self.forward(packet, 1, bench),
            Ok(ahead) if ahead > 1 => self.ahead(packet, ahead, bench),
            _ => self.behind(packet, distance.unsigned_abs(), bench),
        }
    }

    pub(super) fn advance(&mut self, now: Timestamp, bench: &mut impl Bench) {
        self.expire(now, bench);
        if self.gaps.is_empty() && now.since(self.last_waited) > IDLE_ROOM {
            self.pending.release();
            self.gaps.shrink_to(KEPT_GAPS);
        }
        self.settle();
    }

    /// Gives up everything that is missing and judges everything that waits.
    pub(super) fn flush(&mut self, bench: &mut impl Bench) {
        self.refute(bench);
        if self.started {
            self.give_up_below(self.highest + 1, bench);
        }
        if self.candidate.take().is_some() {
            bench.out_of_window();
        }
        self.settle();
    }

    /// The next packet begins anew.
    pub(super) fn restart(&mut self, bench: &mut impl Bench) {
        self.flush(bench);
        if self.started {
            self.started = false;
            bench.counters().resets += 1;
            bench.reset(ResetCause::NewSource, 0, 0);
        }
        self.settle();
    }

    /// Packets went by that nobody could see: what waits for them is not judged, what is missing was not lost, and the next
    /// packet begins anew.
    pub(super) fn blind(&mut self, bench: &mut impl Bench) {
        if !self.started {
            return;
        }
        self.refute(bench);
        self.pending.clear();
        self.next = self.highest + 1;
        self.gaps.clear();
        self.candidate = None;
        self.started = false;
        bench.counters().resets += 1;
        bench.reset(ResetCause::Unseen, 0, 0);
        self.settle();
    }

    /// The first packet, or the first after a new source.
    fn begin(&mut self, packet: Arrival<'_>, bench: &mut impl Bench) {
        self.started = true;
        self.pace.anchor(packet.at);
        self.rebase_to(self.anew(packet.digest.sequence));
        self.take_first(packet, bench);
    }

    /// How far a number is from the highest one: the shorter way round.
    #[inline]
    fn distance(&self, sequence: u32) -> i64 {
        let unused = 32 - self.bits;
        let difference = sequence.wrapping_sub(self.highest as u32) << unused;
        i64::from(difference as i32 >> unused)
    }

    /// How far a number is from the highest one going forward only.
    fn forward_distance(&self, sequence: u32) -> u64 {
        u64::from(sequence.wrapping_sub(self.highest as u32)) & self.mask()
    }

    fn mask(&self) -> u64 {
        self.mask.into()
    }

    /// A place for a number that has nothing to do with those before it.
    fn anew(&self, sequence: u32) -> u64 {
        ((self.highest.max(ORIGIN) | self.mask()) + 1) | (u64::from(sequence) & self.mask())
    }

    /// The next new number, one or more above the highest.
    #[inline]
    fn forward(&mut self, packet: Arrival<'_>, ahead: u64, bench: &mut impl Bench) {
        let number = self.highest + ahead;
        if self.rewind.is_some() {
            self.refute(bench);
        }
        self.pace.step(packet.at, ahead);
        self.last_accepted = packet.at;
        self.fresh = true;
        if packet.digest.retransmitted {
            bench.counters().retransmitted += 1;
        }
        if number != self.next {
            self.make_room(number, bench);
        }
        if number >= self.full_at {
            self.remember_more(number, bench.grant());
        }
        if number == self.next {
            self.history.mark(number, packet.digest.hash);
            self.highest = number;
            bench.in_order(packet);
            self.next += 1;
            return;
        }
        for skipped in self.highest + 1..number {
            self.history.forget(skipped);
        }
        if ahead > 1 {
            self.gaps.push_back(Gap {
                before: number,
                at: packet.at,
            });
        }
        self.wait(number, &packet, bench);
        self.history.mark(number, packet.digest.hash);
        self.highest = number;
        self.last_waited = packet.at;
    }

    /// A packet has to wait for those before it.
    fn wait(&mut self, number: u64, packet: &Arrival<'_>, bench: &mut impl Bench) {
        let waiting = self.keep(packet, bench);
        self.pending.store(number, waiting);
    }

    /// What is kept of a packet: its digest always, its bytes as far as they are of interest and there is room.
    fn keep(&self, packet: &Arrival<'_>, bench: &mut impl Bench) -> Waiting {
        let has_room = self.pending.kept_bytes() < bench.room_for_bytes();
        let keep = if has_room { bench.worth_keeping(packet) } else { 0 };
        let granted = keep == 0 || bench.grant().grow(keep.count_ones() as usize * PACKET_SIZE);
        Waiting::new(packet, if granted { keep } else { 0 })
    }

    /// Bytes that it holds beside itself.
    pub(super) fn memory(&self) -> usize {
        let candidate = self.candidate.as_ref().map_or(0, |_| size_of::<Candidate>());
        let rewind = self.rewind.as_ref().map_or(0, |rewind| rewind.memory());
        self.history.memory() + self.pending.memory() + self.gaps.capacity() * size_of::<Gap>() + candidate + rewind
    }

    /// What waits must fit the rings: they grow to their bound, then the oldest gaps are given up before their time.
    fn make_room(&mut self, number: u64, bench: &mut impl Bench) {
        self.history
            .reserve(number - self.next + 1, self.highest, bench.grant());
        while number - self.next >= self.history.capacity() {
            let Some(gap) = self.gaps.pop_front() else { break };
            self.give_up_below(gap.before, bench);
        }
        if number != self.next && !self.pending.reserve(bench.grant()) {
            // No memory to wait in: what is missing is given up at once.
            self.give_up_below(number, bench);
        }
    }

    /// A number more than one above the highest.
    fn ahead(&mut self, packet: Arrival<'_>, ahead: u64, bench: &mut impl Bench) {
        if self.confirms(&packet) {
            return self.confirm(packet, bench);
        }
        let missing = ahead - 1;
        let silence = packet.at.since(self.last_accepted);
        if missing > self.pace.jump_limit(MOST_SKIPPED) {
            return self.stray(packet, silence, bench);
        }
        if silence <= self.pace.silence() || !self.pace.is_outage(missing, silence) {
            return self.forward(packet, ahead, bench);
        }
        // The silence was longer than the window, so nothing waits any more.
        self.give_up_below(self.highest + 1, bench);
        let lost = if self.pace.is_plausible(missing, silence, 1 << self.bits) {
            missing
        } else {
            0
        };
        self.reset(lost, bench);
        self.rebase_to(self.highest + ahead);
        self.pace.anchor(packet.at);
        self.take_first(packet, bench);
    }

    /// A number that is not above the highest.
    fn behind(&mut self, packet: Arrival<'_>, back: u64, bench: &mut impl Bench) {
        let number = self.highest.saturating_sub(back);
        let known = number >= self.first && back < self.history.capacity();
        let content = remembered(packet.digest.hash);
        match self.history.get(number).filter(|_| known) {
            // A sender that began anew may send what was sent under that number before: null packets are all alike.
            Some(_) if self.confirms(&packet) => self.confirm(packet, bench),
            Some(hash) if self.goes_back(&packet) => self.go_back(packet, hash != content, bench),
            Some(hash) if hash == content => {
                self.last_accepted = packet.at;
                count_copy(&packet, bench);
            }
            Some(_) if back <= self.pace.jump_limit(MOST_SKIPPED) => self.conflict(packet, back, bench),
            None if known && number >= self.next => self.fill(number, packet, bench),
            None if self.confirms(&packet) => self.confirm(packet, bench),
            // A number that was waited for and given up is late however late it is; one from before the first packet only
            // where reordering explains it.
            None if known || back <= self.pace.jump_limit(MOST_SKIPPED) => {
                self.last_accepted = packet.at;
                if known {
                    self.history.mark(number, packet.digest.hash);
                }
                count_out_of_order(&packet, bench);
                bench.counters().late += 1;
                bench.late();
            }
            _ => self.stray(packet, packet.at.since(self.last_accepted), bench),
        }
    }

    /// A missing number came in time.
    fn fill(&mut self, number: u64, packet: Arrival<'_>, bench: &mut impl Bench) {
        self.refute(bench);
        self.last_accepted = packet.at;
        self.fresh = true;
        // It was sent before what showed that it is missing. By the time of its own arrival tables would be overdue that
        // have come and wait behind it.
        let missed = self.gaps.iter().find(|gap| number < gap.before);
        let at = missed.map_or(packet.at, |gap| gap.at.min(packet.at));
        let packet = Arrival { at, ..packet };
        self.history.mark(number, packet.digest.hash);
        count_out_of_order(&packet, bench);
        if number != self.next && !self.pending.reserve(bench.grant()) {
            self.give_up_below(number, bench);
        }
        if number != self.next {
            self.wait(number, &packet, bench);
            return;
        }
        bench.in_order(packet);
        self.next += 1;
        self.drain(bench);
    }

    /// Judges what no longer waits for anything.
    fn drain(&mut self, bench: &mut impl Bench) {
        while self.next <= self.highest && self.history.has(self.next) {
            if let Some(waiting) = self.pending.take(self.next) {
                bench.in_order(waiting.arrival());
            }
            self.next += 1;
        }
        while self.gaps.pop_front_if(|gap| gap.before <= self.next).is_some() {}
    }

    /// Gives up gaps whose window is over, and a candidate that the sequence has left behind.
    #[inline]
    fn expire(&mut self, now: Timestamp, bench: &mut impl Bench) {
        while let Some(gap) = self.gaps.front()
            && now.since(gap.at) > self.pace.window()
        {
            let before = gap.before;
            self.gaps.pop_front();
            self.give_up_below(before, bench);
        }
        if let Some(candidate) = &self.candidate
            && self.last_accepted > candidate.packet.at
            && now.since(candidate.packet.at) > self.pace.window()
        {
            self.candidate = None;
            bench.out_of_window();
        }
        if let Some(rewind) = &self.rewind
            && rewind.is_over(now, self.pace.silence())
        {
            self.refute(bench);
        }
    }

    /// Everything missing below `end` is lost; what waits there is judged, and what follows without a gap too.
    fn give_up_below(&mut self, end: u64, bench: &mut impl Bench) {
        let mut missing = 0;
        while self.next < end {
            if self.history.has(self.next) {
                lose(self.next, core::mem::take(&mut missing), bench);
                if let Some(waiting) = self.pending.take(self.next) {
                    bench.in_order(waiting.arrival());
                }
            } else {
                missing += 1;
            }
            self.next += 1;
        }
        lose(self.next, missing, bench);
        self.drain(bench);
    }

    /// The sequence goes on at `number`, which is to be taken next; nothing waits.
    fn rebase_to(&mut self, number: u64) {
        self.rewind = None;
        self.history.clear();
        self.pending.clear();
        self.gaps.clear();
        self.first = number;
        self.full_at = number + self.history.capacity();
        self.next = number;
        self.highest = number;
    }

    /// Judges the packet that the sequence was rebased to.
    fn take_first(&mut self, packet: Arrival<'_>, bench: &mut impl Bench) {
        if packet.digest.retransmitted {
            bench.counters().retransmitted += 1;
        }
        self.last_accepted = packet.at;
        self.fresh = true;
        self.history.mark(self.highest, packet.digest.hash);
        bench.in_order(packet);
        self.next = self.highest + 1;
    }
}
