//! The analyser of one transport stream: what its tables say, and how it keeps time (ISO/IEC 13818-1; ETSI TR 101 290).
//!
//! Packets come in the order in which they were sent, each with its PID's place in the judge's table. Most are counted and
//! done with: only those that begin something, carry a PCR or a table, are scrambled or belong to nobody are looked at.
//!
//! What is absent is absent among packets that come. While nothing comes at all, no PAT is missing twice a second: the
//! stream is silent, which is a finding of its own.

mod absences;
mod attend;
mod checks;
mod clock;
pub mod cues;
mod event;
mod monitor;
mod pcr;
mod pts;
mod rates;
mod report;
mod si;
mod slot;
pub mod tables;
mod tr101290;

use core::time::Duration;

use tidegate_common::digest::TsDigest;

use self::checks::Checks;
pub use self::clock::Axis;
pub(in crate::engine) use self::clock::FileClock;
use self::cues::Cues;
pub use self::cues::{Cue, CueEvent, CueFinding, CueReport};
pub use self::event::TsEvent;
use self::monitor::Monitor;
use self::pcr::Pcr;
use self::rates::{Meter, Packets};
pub use self::report::{PcrReport, PidAnalysis, TsAnalysis};
pub(in crate::engine) use self::slot::Counting;
use self::slot::{Kind, More, Slot};
use self::tables::Tables;
pub use self::tables::report::{ComponentReport, ProgrammeReport, TablesReport};
pub use self::tr101290::Indicator;
use self::tr101290::{Limits, Sync};
use super::media::mpegts::NULL_PID;
use super::time::Timestamp;
use crate::policy::rule::{Tr101290Thresholds, TsRule};

/// A PID has 13 bits, so no stream has more.
const MAX_PIDS: usize = 8192;
/// PIDs that more is kept of: programmes' PCRs, time stamps and scrambling. A full transponder has fewer.
const MAX_MORE: usize = 256;
/// New PIDs that nothing refers to, of which the first packet is remembered; more are told when they send again.
const MAX_STRANGERS: usize = 64;
/// PIDs that are told scrambled or clear at once; the others follow a second later.
const MAX_SCRAMBLING_TOLD: usize = 8;
/// How often absences are looked for at most, and by how much one may be told late.
const TICK: Duration = Duration::from_millis(100);
/// How soon after one look the next one comes, when tables change.
const HASTE: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
/// A clock further behind than this was set back; captures may do that.
const SET_BACK: Duration = Duration::from_secs(2);

/// Header bytes 1 and 2: transport_error_indicator and payload_unit_start_indicator.
const ERROR_OR_START: u16 = 0xc000;
/// Header byte 3: transport_scrambling_control.
const SCRAMBLING: u8 = 0xc0;
/// Adaptation field: discontinuity_indicator and PCR_flag.
const DISCONTINUITY_OR_PCR: u8 = 0x90;
const PCR_FLAG: u8 = 0x10;

/// The analyser of one transport stream. See the module's documentation. What every run of packets needs comes first, and is
/// one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(in crate::engine) struct Analyser {
    slots: Vec<Slot>,
    /// Packets so far, those out of sync included: the place of the last one.
    packets: u64,
    /// The time of the last packet.
    now: Timestamp,
    /// When absences are looked for next; the origin of time for: with the next packet.
    next_tick: Timestamp,
    /// When they were looked for last.
    last_tick: Timestamp,
    /// [`Tables::generation`] as the slots know it.
    generation: u32,
    in_file: bool,
    /// What says how late something may be comes next to it.
    monitor: Monitor,
    tables: Tables,
    cues: Cues,
    min_preroll: Option<Duration>,
    sync: Sync,
    /// Packets went by unseen: intervals begin anew with the next one.
    unseen: bool,
    /// The tables' generation that the monitor waits by.
    awaited: u32,
    first: Option<Timestamp>,
    /// The place of 0x1FFF among the slots.
    null: Option<usize>,
    /// Slots that more is kept of, [`MAX_MORE`] at most.
    extended: Vec<u16>,
    /// Slots that have become unreferenced and were not told of, [`MAX_STRANGERS`] at most.
    strangers: Vec<u16>,
    second: Meter,
    second_began: Timestamp,
    second_lasted: Duration,
    /// The latest time that is known, by a packet or without.
    latest: Timestamp,
    /// At least one whole second was measured.
    measured: bool,
    /// [`Analyser::packets`] when time was last let pass.
    advanced: u64,
    /// When time that passes while packets come has absences looked for next.
    next_look: Timestamp,
    /// The last time that passed did not.
    put_off: bool,
    /// Looking for absences finds none up to this time.
    none_absent_until: Timestamp,
    /// Something was kept that was not before.
    grown: bool,
    checks: Checks,
}

impl Analyser {
    /// Nothing was seen yet; the thresholds are TR 101 290's own.
    pub(in crate::engine) fn new(axis: Axis) -> Self {
        let tables = Tables::new();
        Analyser {
            slots: Vec::new(),
            generation: tables.generation(),
            packets: 0,
            now: Timestamp::default(),
            next_tick: Timestamp::default(),
            in_file: axis == Axis::File,
            awaited: tables.generation(),
            tables,
            cues: Cues::default(),
            min_preroll: None,
            monitor: Monitor::new(Limits::from(&Tr101290Thresholds::default())),
            sync: Sync::default(),
            unseen: true,
            last_tick: Timestamp::default(),
            first: None,
            null: None,
            extended: Vec::new(),
            strangers: Vec::new(),
            second: Meter::new(SECOND),
            second_began: Timestamp::default(),
            second_lasted: SECOND,
            latest: Timestamp::default(),
            measured: false,
            advanced: 0,
            next_look: Timestamp::default(),
            put_off: false,
            none_absent_until: Timestamp::default(),
            // The analyser itself is to be paid for.
            grown: true,
            checks: Checks::default(),
        }
    }

    /// The rule that the stream runs under now: thresholds, and the pre-roll that cues must have. What [`Analyser::check`]
    /// looks at is given there.
    pub(in crate::engine) fn set_rule(&mut self, rule: &TsRule) {
        self.monitor.limits = Limits::from(&rule.tr101290.thresholds);
        self.none_absent_until = Timestamp::default();
        self.next_tick = self.next_tick.min(self.last_tick.after(TICK));
        self.min_preroll = rule.scte35.min_preroll;
    }

    /// Counts the next packet in order. `slot` is the PID's place in the judge's PID table (dense, from 0). `gap`: its PID's
    /// counter was wrong or numbers are missing before it, so half-assembled sections of the PID are void.
    ///
    /// Whether the packet is more than one to be counted, and has to go to [`Analyser::attend`] now.
    #[inline]
    #[must_use]
    pub(in crate::engine) fn count(&mut self, at: Timestamp, slot: usize, header: &TsDigest, gap: bool) -> bool {
        self.step(at);
        let Some(state) = self
            .slots
            .get_mut(slot)
            .filter(|state| state.generation == self.generation)
        else {
            self.look_up(slot, header.pid());
            return true;
        };
        state.packets += 1;
        state.last = at;
        header.head & ERROR_OR_START != 0
            || header.control & SCRAMBLING | header.adaptation_flags & DISCONTINUITY_OR_PCR != 0
            || gap
            || state.watched
            || at >= self.next_tick
    }

    /// The packets from that time on have to go to [`Analyser::count`], each by itself.
    #[inline]
    pub(in crate::engine) fn counts_until(&self) -> Timestamp {
        self.next_tick
    }

    /// Whether packets of a PID are only counted where they say nothing but their counter: no start, no adaptation field, no
    /// scrambling, no error, no gap.
    #[inline]
    pub(in crate::engine) fn only_counts(&self, slot: usize) -> bool {
        self.slots
            .get(slot)
            .is_some_and(|state| state.generation == self.generation && !state.watched)
    }

    /// What counts packets of a PID that came at that time, where they are only counted: see [`Analyser::only_counts`].
    #[inline(always)]
    pub(in crate::engine) fn counting(&mut self, slot: usize, at: Timestamp) -> Option<Counting<'_>> {
        let Analyser {
            slots, packets, now, ..
        } = self;
        let state = slots.get_mut(slot)?;
        let counts = state.generation == self.generation && !state.watched && at < self.next_tick;
        counts.then_some(Counting { state, packets, now })
    }

    /// Counts packets of a PID that are [only counted](Analyser::only_counts). The last one came at that time.
    #[inline]
    pub(in crate::engine) fn count_many(&mut self, at: Timestamp, slot: usize, count: usize) {
        if let Some(state) = self.slots.get_mut(slot) {
            state.packets += count as u64;
            state.last = at;
        }
        self.packets += count as u64;
        self.now = at;
    }

    /// The last packet came at that time, whichever of those that were counted it was.
    #[inline]
    pub(in crate::engine) fn stands_at(&mut self, at: Timestamp) {
        self.now = at;
    }

    /// Whether a packet that must wait for others is worth keeping whole: tables, PES starts, PCR carriers, splice
    /// information.
    pub(in crate::engine) fn wants(&self, header: &TsDigest) -> bool {
        header.pid() != NULL_PID
            && !header.transport_error()
            && (header.payload_unit_start()
                || header.adaptation_flags & PCR_FLAG != 0
                || self.tables.role(header.pid()).carries_sections())
    }

    /// A packet whose sync byte is not 0x47 (1.2); two in a row lose synchronisation (1.1).
    pub(in crate::engine) fn bad_sync(&mut self, at: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        self.step(at);
        self.monitor.ledger.raise(at, Indicator::SyncByteError, None, 1, out);
        let lost = self.sync.bad();
        self.next_tick = Timestamp::default();
        if lost {
            self.lose_sync(at, out);
        }
    }

    /// Synchronisation is lost (1.1), as the reader says. Its recovery is seen by the packets that follow.
    pub(in crate::engine) fn sync_lost(&mut self, at: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        if self.sync.lose() {
            self.lose_sync(at, out);
        }
    }

    /// The judge found a wrong continuity counter (1.4).
    pub(in crate::engine) fn continuity_error(
        &mut self,
        at: Timestamp,
        pid: u16,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        self.monitor
            .ledger
            .raise(at, Indicator::ContinuityCountError, Some(pid), 1, out);
    }

    /// Lets time pass, also without packets: rates fall. Absences are looked for up to the last packet, ten times a second
    /// while packets come.
    pub(in crate::engine) fn advance(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        if self.first.is_none() {
            return;
        }
        // While packets come, they have absences looked for themselves.
        let before = core::mem::replace(&mut self.advanced, self.packets);
        self.put_off = !self.in_file && before != self.packets && now < self.next_look;
        if !self.put_off {
            self.next_look = now.after(TICK);
            self.look(out);
        }
        self.measure(now.max(self.now), out);
    }

    /// The stream ends here: absences up to its last packet are looked for where that was put off.
    pub(in crate::engine) fn finish(&mut self, out: &mut impl FnMut(Timestamp, TsEvent)) {
        if core::mem::take(&mut self.put_off) {
            self.look(out);
        }
    }

    fn look(&mut self, out: &mut impl FnMut(Timestamp, TsEvent)) {
        if !self.unseen && !self.sync.lost {
            self.look_for_absences(self.now, out);
        }
    }

    /// Packets went by unseen: intervals begin anew with the next one, tables stay.
    pub(in crate::engine) fn rebase(&mut self) {
        self.unseen = true;
        self.tables.rebase();
        self.next_tick = Timestamp::default();
    }

    /// Whether [`Analyser::memory`] may have become more since this was asked last.
    #[inline]
    pub(in crate::engine) fn has_grown(&mut self) -> bool {
        core::mem::take(&mut self.grown)
    }

    /// Heap bytes held.
    pub(in crate::engine) fn memory(&self) -> usize {
        // A file's PCRs have their accuracy boxed; no file is hostile in number.
        self.slots.capacity() * size_of::<Slot>()
            + self.extended.len() * (size_of::<More>() + size_of::<u16>())
            + self.strangers.capacity() * size_of::<u16>()
            + self.tables.memory()
            + self.cues.memory()
            + self.monitor.memory()
            + self.checks.memory()
    }

    /// One packet on.
    #[inline]
    fn step(&mut self, at: Timestamp) {
        self.packets += 1;
        self.now = at;
    }

    fn counted(&self) -> Packets {
        let null = self.null.and_then(|null| self.slots.get(null));
        Packets {
            all: self.packets,
            null: null.map_or(0, |slot| slot.packets),
        }
    }

    /// A PID is new, or the tables have changed since its last packet, which is not counted yet.
    #[cold]
    fn look_up(&mut self, slot: usize, pid: u16) {
        if slot >= MAX_PIDS {
            return;
        }
        let now = self.now;
        self.grown = true;
        // The judge's places are dense, so this adds one; a place that was skipped would be a PID that never sent.
        while self.slots.len() <= slot {
            self.slots.push(Slot::new(pid, self.generation.wrapping_sub(1)));
        }
        if let Some(state) = self.slots.get_mut(slot) {
            state.pid = pid;
            state.packets += 1;
            state.last = now;
            if state.look_up(&self.tables, now) && self.strangers.len() < MAX_STRANGERS {
                self.strangers.push(slot as u16);
            }
            if state.kind == Kind::Timed {
                self.monitor.component_sends(pid, slot as u16);
            }
        }
        if pid == NULL_PID {
            self.null = Some(slot);
        }
    }

    fn lose_sync(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        self.monitor.ledger.raise(now, Indicator::TsSyncLoss, None, 1, out);
        self.monitor.ledger.out_of_sync = true;
        // Every packet is to be seen until synchronisation is back.
        self.next_tick = Timestamp::default();
    }

    /// Looks for absences, rolls rates on, and sees to synchronisation.
    #[cold]
    fn tick(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        if self.sync.is_doubtful() && self.sync.good() {
            self.monitor.ledger.out_of_sync = false;
            self.unseen = true;
        }
        let set_back = self.last_tick.since(now) > SET_BACK;
        if core::mem::take(&mut self.unseen) || set_back {
            self.first.get_or_insert(now);
            self.monitor.begin(now);
            self.none_absent_until = Timestamp::default();
            self.for_each_pcr(Pcr::forget);
            self.second.reset();
            self.checks.reset(now);
            self.second_began = now;
        }
        self.tables.renew(now);
        self.take_roles();
        if self.awaited != self.generation {
            self.awaited = self.generation;
            self.grown = true;
            self.monitor.rebuild(now, &self.tables, pts::is_timed);
            self.none_absent_until = Timestamp::default();
            for (place, slot) in self.slots.iter().enumerate() {
                self.monitor.component_sends(slot.pid, place as u16);
            }
        }
        if !self.sync.lost {
            self.look_for_absences(now, out);
        }
        self.measure(now, out);
        self.last_tick = now;
        self.next_tick = if self.sync.is_doubtful() {
            Timestamp::default()
        } else {
            self.next_work().max(now.after(TICK))
        };
    }

    /// When time has something to do next: a second of every PID is over, a window's sample is due, a change of the tables
    /// waits, or something may be absent. Most streams are slow enough to notice what is done ten times a second.
    fn next_work(&self) -> Timestamp {
        if self.tables.is_behind() {
            return Timestamp::default();
        }
        let second = self.second_began.after(SECOND);
        let absent = self.none_absent_until.after(TICK);
        second.min(absent).min(self.checks.next_sample())
    }

    fn measure(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        let counted = self.counted();
        self.latest = now;
        self.second.sample(now, counted);
        self.checks.sample(now, counted);
        let lasted = now.since(self.second_began);
        if lasted < SECOND {
            return;
        }
        (self.second_began, self.second_lasted, self.measured) = (now, lasted, true);
        let mut told = 0;
        for slot in &mut self.slots {
            // A change that finds no room is told when the next second confirms it.
            let before = (slot.scrambled, slot.contrary);
            let Some(scrambled) = slot.second_over() else { continue };
            if told == MAX_SCRAMBLING_TOLD {
                (slot.scrambled, slot.contrary) = before;
                continue;
            }
            told += 1;
            out(
                now,
                TsEvent::Scrambling {
                    pid: slot.pid,
                    scrambled,
                },
            );
        }
    }
}

#[cfg(test)]
mod test_stream;
#[cfg(test)]
mod tests;
