//! The packets that are looked at: PCRs, sections, PES starts, scrambling, errors, and PIDs that nothing refers to.

use tidegate_common::digest::TsDigest;

use super::cues::Told;
use super::monitor::Monitor;
use super::pcr::{Pcr, Reference};
use super::slot::{Kind, More};
use super::tables::{self, Programme, Role, TableEvent};
use super::tr101290::Indicator;
use super::{Analyser, DISCONTINUITY_OR_PCR, HASTE, MAX_MORE, PCR_FLAG, SET_BACK, TsEvent};
use crate::engine::media::mpegts::{self, PACKET_SIZE};
use crate::engine::time::Timestamp;

/// Components of a programme that are asked for their PTS: video and audio are among them, whatever else is listed.
const MAX_CLOCKS: usize = 64;

impl Analyser {
    /// The packet that was counted last is more than one to be counted. `bytes` is `None` where it had to wait and was not
    /// kept.
    pub(in crate::engine) fn attend(
        &mut self,
        slot: usize,
        header: &TsDigest,
        bytes: Option<&[u8; PACKET_SIZE]>,
        gap: bool,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        let now = self.now;
        if now >= self.next_tick || self.last_tick.since(now) > SET_BACK {
            self.tick(now, out);
        }
        let Some(state) = self.slots.get_mut(slot) else { return };
        if state.kind == Kind::Null {
            return;
        }
        if gap {
            state.hole = true;
            self.missing(slot);
        }
        let Some(state) = self.slots.get_mut(slot) else { return };
        if header.transport_error() {
            // TR 101 290 5.2.2: nothing else is to be concluded from such a packet.
            state.hole = true;
            self.monitor
                .ledger
                .raise(now, Indicator::TransportError, Some(header.pid()), 1, out);
            return;
        }
        if header.scrambling() != 0 {
            self.scrambled(now, slot, out);
        }
        if header.adaptation_flags & DISCONTINUITY_OR_PCR != 0 {
            self.take_pcr(now, slot, header, bytes, out);
        }
        self.take_content(now, slot, header, bytes, out);
        self.take_unreferenced(now, slot, out);
    }

    /// Packets are missing before this one. Where their place counts, they are missing from between every PID's PCRs.
    fn missing(&mut self, slot: usize) {
        let of_pid = self.slots.get_mut(slot).and_then(|slot| slot.more.as_mut());
        of_pid
            .and_then(|more| more.pcr.as_mut())
            .into_iter()
            .for_each(Pcr::missing);
        if self.in_file {
            self.for_each_pcr(Pcr::displaced);
        }
    }

    /// Every PID that has sent a PCR.
    pub(super) fn for_each_pcr(&mut self, work: impl Fn(&mut Pcr)) {
        for place in &self.extended {
            let slot = self.slots.get_mut(usize::from(*place));
            let pcr = slot.and_then(|slot| slot.more.as_mut()?.pcr.as_mut());
            pcr.into_iter().for_each(&work);
        }
    }

    fn scrambled(&mut self, now: Timestamp, slot: usize, out: &mut impl FnMut(Timestamp, TsEvent)) {
        let more = self.more(slot).map(|more| &mut more.scrambled);
        more.into_iter().for_each(|count| *count += 1);
        let Some(state) = self.slots.get_mut(slot) else { return };
        state.scrambled_in_second = state.scrambled_in_second.saturating_add(1);
        self.monitor.scrambled(now, state.pid, state.kind == Kind::Pmt, out);
    }

    /// PCR and discontinuity_indicator.
    fn take_pcr(
        &mut self,
        at: Timestamp,
        slot: usize,
        header: &TsDigest,
        bytes: Option<&[u8; PACKET_SIZE]>,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        let (in_file, place) = (self.in_file, self.packets);
        let carried = bytes.and_then(mpegts::pcr).filter(|(pid, _)| *pid == header.pid());
        let (of_slot, monitor) = self.more_and_monitor(slot, carried.is_some());
        let pcr = of_slot.and_then(|more| {
            if carried.is_some() {
                more.pcr.get_or_insert_with(|| Pcr::new(in_file));
            }
            more.pcr.as_mut()
        });
        let Some(pcr) = pcr else { return };
        if header.discontinuity() {
            pcr.announce();
        }
        let Some((pid, value)) = carried else {
            if header.adaptation_flags & PCR_FLAG != 0 {
                pcr.missing();
            }
            return;
        };
        let found = pcr.take(Reference { value, at, place }, &monitor.limits);
        let measurable = pcr.accuracy.as_ref().is_some_and(|accuracy| accuracy.checked > 0);
        let ledger = &mut monitor.ledger;
        if measurable {
            ledger.evaluate(&[Indicator::PcrAccuracyError]);
        }
        for (indicator, times) in [
            (Indicator::PcrRepetitionError, found.repetition),
            (Indicator::PcrDiscontinuityIndicatorError, found.jump.into()),
            (Indicator::PcrAccuracyError, found.inaccurate.into()),
        ] {
            ledger.raise(at, indicator, Some(pid), times, out);
        }
    }

    /// Sections and PES starts.
    fn take_content(
        &mut self,
        now: Timestamp,
        slot: usize,
        header: &TsDigest,
        bytes: Option<&[u8; PACKET_SIZE]>,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        let Some(state) = self.slots.get_mut(slot) else { return };
        let has_sections = state.kind.has_sections();
        let Some(bytes) = bytes.filter(|_| header.has_payload() && header.scrambling() == 0) else {
            state.hole |= has_sections && header.has_payload();
            if state.kind == Kind::Timed && header.scrambling() != 0 && header.payload_unit_start() {
                let more = self.more(slot);
                more.into_iter().for_each(|more| more.stamps.hide());
            }
            return;
        };
        if has_sections || (header.payload_unit_start() && tables::starts_splice(bytes)) {
            let gap = core::mem::take(&mut state.hole);
            let pid = state.pid;
            let may_splice = !matches!(state.kind, Kind::Table | Kind::Pmt);
            let pts = if may_splice { self.current_pts(pid) } else { None };
            self.take_section(now, pid, (bytes, gap), pts, out);
        } else if header.payload_unit_start() && state.kind == Kind::Timed {
            let pid = state.pid;
            let Ok(header) = mpegts::pes::header(bytes) else { return };
            let (more, monitor) = self.more_and_monitor(slot, true);
            let (begin, limit) = (monitor.begin, monitor.limits.pts);
            let times = more.map_or(0, |more| more.stamps.take(now, &header, begin, limit));
            monitor.ledger.raise(now, Indicator::PtsError, Some(pid), times, out);
        }
    }

    fn take_section(
        &mut self,
        now: Timestamp,
        pid: u16,
        (bytes, gap): (&[u8; PACKET_SIZE], bool),
        pts: Option<u64>,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        let Analyser {
            tables,
            monitor,
            cues,
            grown,
            ..
        } = self;
        let min_preroll = self.min_preroll;
        tables.section_packet(now, pid, bytes, gap, &mut |event| {
            monitor.table(now, &event, out);
            match event {
                TableEvent::Section { .. } => {}
                TableEvent::Splice {
                    pid,
                    announced,
                    section,
                } => {
                    *grown = true;
                    let told = Told {
                        at: now,
                        pid,
                        announced,
                        section: section.as_ref().map_err(|error| *error),
                        pts,
                        min_preroll,
                    };
                    cues.section(&told, &mut |event| out(now, TsEvent::Cue(event)));
                }
                _ => out(now, TsEvent::Table(event)),
            }
        });
        self.grown |= self.tables.has_grown() | self.monitor.has_grown();
        self.take_roles();
        if self.tables.is_behind() {
            self.next_tick = self.next_tick.min(now.after(HASTE));
        }
    }

    /// Roles may have changed.
    pub(super) fn take_roles(&mut self) {
        let generation = self.tables.generation();
        if generation != self.generation {
            self.generation = generation;
            self.next_tick = self.next_tick.min(self.last_tick.after(HASTE));
        }
    }

    /// The PTS that came last on the first component that has any, of the programme that a splice PID belongs to; of the first
    /// programme where no PMT lists the PID.
    fn current_pts(&self, pid: u16) -> Option<u64> {
        if !matches!(
            self.tables.role(pid),
            Role::Splice | Role::Unreferenced | Role::Component(_)
        ) {
            return None;
        }
        let lists = |programme: &&Programme| {
            let own = programme
                .components
                .binary_search_by_key(&pid, |component| component.pid);
            own.is_ok()
        };
        let programme = self
            .tables
            .programmes()
            .find(lists)
            .or_else(|| self.tables.programmes().next())?;
        programme.components.iter().take(MAX_CLOCKS).find_map(|component| {
            let place = self
                .monitor
                .components
                .binary_search_by_key(&component.pid, |wanted| wanted.pid)
                .ok()?;
            let slot = self.monitor.components.get(place)?.slot?;
            self.slots.get(usize::from(slot))?.more.as_ref()?.stamps.current
        })
    }

    /// 3.4.a of a PID that sends.
    fn take_unreferenced(&mut self, now: Timestamp, slot: usize, out: &mut impl FnMut(Timestamp, TsEvent)) {
        let Some(state) = self
            .slots
            .get_mut(slot)
            .filter(|state| state.kind == Kind::Unreferenced)
        else {
            return;
        };
        let (begin, limit) = (self.monitor.begin, self.monitor.limits.unreferenced_pid);
        let (pid, times) = (state.pid, state.unreferenced_for(now, begin, limit));
        self.monitor
            .ledger
            .raise(now, Indicator::UnreferencedPid, Some(pid), times, out);
    }

    /// 3.4.a of PIDs that are new: one packet is enough for being told half a second later.
    pub(super) fn look_for_strangers(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        let (begin, limit) = (self.monitor.begin, self.monitor.limits.unreferenced_pid);
        let Analyser {
            slots,
            strangers,
            tables,
            monitor,
            ..
        } = self;
        strangers.retain(|place| {
            let Some(state) = slots.get_mut(usize::from(*place)) else {
                return false;
            };
            // What it is for may have been said since its last packet.
            if state.since < begin || Kind::of(state.pid, tables) != Kind::Unreferenced {
                return false;
            }
            let until = Timestamp::from_nanos(now.nanos().min(state.last.nanos().saturating_add(limit + 1)));
            let times = state.unreferenced_for(until, begin, limit);
            let pid = Some(state.pid);
            monitor.ledger.raise(now, Indicator::UnreferencedPid, pid, times, out);
            state.told == 0
        });
    }

    /// What more is kept of a PID, as long as there is room.
    fn more(&mut self, slot: usize) -> Option<&mut More> {
        let state = self.slots.get_mut(slot)?;
        if state.more.is_none() {
            if self.extended.len() >= MAX_MORE {
                return None;
            }
            self.extended.push(slot as u16);
            self.grown = true;
        }
        Some(state.more.get_or_insert_default())
    }

    /// The same, made only where it is wanted, and what judges it.
    fn more_and_monitor(&mut self, slot: usize, make: bool) -> (Option<&mut More>, &mut Monitor) {
        if make {
            // Where there is no room there is none below, either.
            let _ = self.more(slot);
        }
        let more = self.slots.get_mut(slot).and_then(|state| state.more.as_deref_mut());
        (more, &mut self.monitor)
    }
}
