//! What is kept of each PID: little and dense for all of them, more for those that carry PCRs, PESs or scrambling.

use super::Analyser;
use super::pcr::Pcr;
use super::pts::{Stamps, is_timed};
use super::tables::{Role, Tables};
use super::tr101290::violations;
use crate::engine::media::mpegts::NULL_PID;
use crate::engine::time::Timestamp;
use crate::prefetch::{prefetch, prefetch_element};

/// PIDs below this are kept for tables and never unreferenced (ETSI TR 101 290 3.4.a).
const FIRST_USER_PID: u16 = 0x20;

/// What becomes of a PID's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Counted.
    #[default]
    Plain,
    /// Kept for tables and read as sections, of which none is splice information.
    Table,
    /// Read as sections, splice information among them.
    Sections,
    /// Read as sections; its PMT is waited for.
    Pmt,
    /// Video or audio: its time stamps are measured.
    Timed,
    /// Watched, for nothing refers to it.
    Unreferenced,
    /// Null packets.
    Null,
}

impl Kind {
    /// What the tables make of a PID.
    pub(super) fn of(pid: u16, tables: &Tables) -> Self {
        match tables.role(pid) {
            _ if pid == NULL_PID => Kind::Null,
            Role::Null => Kind::Null,
            Role::Pmt => Kind::Pmt,
            Role::Table => Kind::Table,
            role if role.carries_sections() => Kind::Sections,
            Role::Component(stream_type) if is_timed(stream_type) => Kind::Timed,
            Role::Unreferenced if pid >= FIRST_USER_PID => Kind::Unreferenced,
            _ => Kind::Plain,
        }
    }

    /// Whether it is read as sections.
    pub(super) const fn has_sections(self) -> bool {
        matches!(self, Kind::Table | Kind::Sections | Kind::Pmt)
    }

    /// Whether every packet of such a PID is looked at.
    const fn needs_every_packet(self) -> bool {
        self.has_sections() || matches!(self, Kind::Unreferenced)
    }
}

/// A PID that has sent. One cache line: every run of packets touches it.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    /// Its packets.
    pub(super) packets: u64,
    /// When the last one came.
    pub(super) last: Timestamp,
    /// [`Tables::generation`] when `kind` was looked up.
    pub(super) generation: u32,
    pub(super) pid: u16,
    pub(super) kind: Kind,
    /// Every packet is looked at, whatever its header says.
    pub(super) watched: bool,
    /// A packet of it could not be read, so the next one has no predecessor.
    pub(super) hole: bool,
    /// The PID counts as scrambled, as was told.
    pub(super) scrambled: bool,
    /// Seconds in a row that said otherwise.
    pub(super) contrary: u8,
    /// How often its being unreferenced was told.
    pub(super) told: u32,
    /// Packets of the last whole second.
    pub(super) in_second: u32,
    /// Scrambled packets of this second.
    pub(super) scrambled_in_second: u32,
    /// `packets` when this second began.
    pub(super) before: u64,
    /// Since when nothing refers to it.
    pub(super) since: Timestamp,
    pub(super) more: Option<Box<More>>,
}

const _: () = assert!(size_of::<Slot>() == 64, "a hostile stream may have 8192 of them");

/// Counts packets of a PID of which nothing else is to be said: [`super::Analyser::counting`].
pub(in crate::engine) struct Counting<'a> {
    pub(super) state: &'a mut Slot,
    pub(super) packets: &'a mut u64,
    pub(super) now: &'a mut Timestamp,
}

impl Counting<'_> {
    /// So many packets, which came at that time.
    #[inline(always)]
    pub(in crate::engine) fn take(self, at: Timestamp, count: usize) {
        self.state.packets += count as u64;
        self.state.last = at;
        *self.packets += count as u64;
        *self.now = at;
    }
}

impl Analyser {
    /// Asks for what every run of packets needs.
    #[inline]
    pub(in crate::engine) fn prefetch_hot(&self) {
        // One line; all of it would be many more.
        prefetch(&self.slots);
    }

    /// Asks for the slot of a PID, when that has come.
    #[inline]
    pub(in crate::engine) fn prefetch(&self, slot: usize) {
        prefetch_element(&self.slots, slot);
    }

    /// Asks for what is measured of a PID, when its slot has come.
    #[inline]
    pub(in crate::engine) fn prefetch_clocks(&self, slot: usize) {
        if let Some(more) = self.slots.get(slot).and_then(|state| state.more.as_ref()) {
            prefetch(&**more);
        }
    }
}

/// What is kept of a PID of interest.
#[derive(Clone, Debug, Default)]
pub(super) struct More {
    pub(super) pcr: Option<Pcr>,
    pub(super) stamps: Stamps,
    /// Scrambled packets.
    pub(super) scrambled: u64,
}

impl Slot {
    /// A PID of which nothing is known; `generation` is another than the tables'.
    pub(super) fn new(pid: u16, generation: u32) -> Self {
        Slot {
            packets: 0,
            last: Timestamp::default(),
            generation,
            pid,
            kind: Kind::Plain,
            watched: false,
            hole: false,
            scrambled: false,
            contrary: 0,
            told: 0,
            in_second: 0,
            scrambled_in_second: 0,
            before: 0,
            since: Timestamp::default(),
            more: None,
        }
    }

    /// The tables may say something else than before; whether the PID is unreferenced and was not.
    pub(super) fn look_up(&mut self, tables: &Tables, now: Timestamp) -> bool {
        self.generation = tables.generation();
        let kind = Kind::of(self.pid, tables);
        let stranger = kind == Kind::Unreferenced && self.kind != kind;
        if stranger {
            (self.since, self.told) = (now, 0);
        }
        self.kind = kind;
        self.watched = kind.needs_every_packet();
        stranger
    }

    /// How often the PID's being unreferenced since `since` is to be told now. What was before `begin` went by unseen.
    pub(super) fn unreferenced_for(&mut self, now: Timestamp, begin: Timestamp, limit: u64) -> u32 {
        if self.since < begin {
            (self.since, self.told) = (begin, 0);
        }
        violations(now.nanos().saturating_sub(self.since.nanos()), limit, &mut self.told)
    }

    /// A second is over. Whether the PID has become scrambled or clear: most of its packets for two seconds, so that one who
    /// toggles the bits is told of twice in four seconds at most.
    pub(super) fn second_over(&mut self) -> Option<bool> {
        let packets = u32::try_from(self.packets - self.before).unwrap_or(u32::MAX);
        let scrambled = core::mem::take(&mut self.scrambled_in_second);
        (self.before, self.in_second) = (self.packets, packets);
        if packets == 0 {
            return None;
        }
        let now = u64::from(scrambled) * 2 > u64::from(packets);
        self.contrary = if now == self.scrambled { 0 } else { self.contrary + 1 };
        (self.contrary >= 2).then(|| {
            (self.scrambled, self.contrary) = (now, 0);
            now
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of 100 packets with so many scrambled each; what is told after each.
    fn seconds(scrambled: &[u32]) -> Vec<Option<bool>> {
        let mut slot = Slot::new(256, 0);
        scrambled
            .iter()
            .map(|scrambled| {
                slot.packets += 100;
                slot.scrambled_in_second = *scrambled;
                slot.second_over()
            })
            .collect()
    }

    #[test]
    fn scrambling_is_told_when_it_has_lasted() {
        assert_eq!(
            seconds(&[0, 100, 100, 100, 0, 0]),
            [None, None, Some(true), None, None, Some(false)]
        );
        assert_eq!(seconds(&[100, 0, 100, 0, 100, 0]), [None; 6], "toggled each second");
        assert_eq!(seconds(&[50, 50, 50]), [None; 3], "toggled each packet");
    }

    #[test]
    fn a_second_without_packets_says_nothing() {
        let mut slot = Slot::new(256, 0);
        slot.packets = 10;
        slot.scrambled_in_second = 10;
        assert_eq!(slot.second_over(), None);
        assert_eq!((slot.second_over(), slot.in_second), (None, 0));
        slot.packets = 20;
        slot.scrambled_in_second = 10;
        assert_eq!(slot.second_over(), Some(true));
    }
}
