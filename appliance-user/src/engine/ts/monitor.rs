//! What the tables of a transport stream violate of ETSI TR 101 290: PAT, PMTs, CAT and service information, by the clock.

use super::TsEvent;
use super::si::{Arrival, ServiceInformation};
use super::tables::{TableEvent, Tables};
use super::tr101290::{Indicator, Ledger, Limits, Timer};
use crate::engine::time::Timestamp;

const PID_PAT: u16 = 0;
const PID_CAT: u16 = 1;
/// table_ids of ISO/IEC 13818-1 table 2-31.
const TABLE_PAT: u8 = 0;
const TABLE_CAT: u8 = 1;
const TABLE_PMT: u8 = 2;
/// How long scrambled packets may come before a CAT: TR 101 290 gives no time, and PSI has half a second elsewhere.
const CAT_LIMIT: u64 = 500_000_000;

/// Scrambled packets without a CAT.
#[derive(Clone, Copy, Debug)]
struct Unexplained {
    since: Timestamp,
    last: Timestamp,
    told: u32,
}

/// A component that is missed when it stays away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) pid: u16,
    pub(super) timer: Timer,
    /// The PID's slot, once it has sent.
    pub(super) slot: Option<u16>,
}

/// The state of the tables' timing, and the count of everything violated. What is needed often comes first, on one cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Monitor {
    /// Nothing before this counts: the first packet, or the first after packets went by unseen.
    pub(super) begin: Timestamp,
    pub(super) limits: Limits,
    /// Sections of any table whose CRC-32 was wrong.
    pub(super) crc_errors: u64,
    /// In the order of PIDs.
    pmts: Vec<Wanted>,
    pat: Option<Timer>,
    /// More is held than when that was asked last.
    grown: bool,
    /// Video and audio, in the order of PIDs.
    pub(super) components: Vec<Wanted>,
    cat_seen: bool,
    unexplained: Option<Unexplained>,
    si: ServiceInformation,
    pub(super) ledger: Ledger,
}

impl Monitor {
    /// Nothing was seen yet.
    pub(super) fn new(limits: Limits) -> Self {
        Monitor {
            ledger: Ledger::default(),
            limits,
            begin: Timestamp::default(),
            pat: None,
            grown: false,
            pmts: Vec::new(),
            components: Vec::new(),
            cat_seen: false,
            unexplained: None,
            si: ServiceInformation::default(),
            crc_errors: 0,
        }
    }

    /// The first packet, or the first after packets went by unseen.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.begin = now;
        // A stream owes a PAT from its first packet on, not from its first PAT.
        self.pat.get_or_insert(Timer::new(now));
    }

    /// Something that the tables tell.
    pub(super) fn table(&mut self, at: Timestamp, event: &TableEvent, out: &mut impl FnMut(Timestamp, TsEvent)) {
        match *event {
            TableEvent::Section {
                pid,
                table_id,
                extension,
                number,
                ..
            } => self.section(
                Arrival {
                    at,
                    pid,
                    table_id,
                    extension,
                    section_number: number,
                },
                out,
            ),
            TableEvent::CrcError { pid, table_id } => {
                self.crc_errors += 1;
                if is_measured_for_crc(table_id) {
                    self.ledger.raise(at, Indicator::CrcError, Some(pid), 1, out);
                }
            }
            _ => {}
        }
    }

    fn section(&mut self, arrival: Arrival, out: &mut impl FnMut(Timestamp, TsEvent)) {
        let Arrival { at, pid, table_id, .. } = arrival;
        let begin = self.begin;
        let limits = &self.limits;
        match (pid, table_id) {
            (PID_PAT, TABLE_PAT) => {
                let timer = self.pat.get_or_insert(Timer::new(at));
                let times = timer.overdue(at, begin, limits.pat);
                timer.seen(at);
                self.ledger.raise(at, Indicator::PatError2, Some(pid), times, out);
            }
            (PID_PAT, _) => self.ledger.raise(at, Indicator::PatError2, Some(pid), 1, out),
            (PID_CAT, TABLE_CAT) => {
                self.cat_seen = true;
                self.unexplained = None;
            }
            (PID_CAT, _) => self.ledger.raise(at, Indicator::CatError, Some(pid), 1, out),
            (_, TABLE_PMT) => {
                if let Ok(place) = self.pmts.binary_search_by_key(&pid, |wanted| wanted.pid)
                    && let Some(wanted) = self.pmts.get_mut(place)
                {
                    let times = wanted.timer.overdue(at, begin, limits.pmt);
                    wanted.timer.seen(at);
                    self.ledger.raise(at, Indicator::PmtError2, Some(pid), times, out);
                }
            }
            _ => {}
        }
        let measurable = ServiceInformation::measurable(pid);
        if measurable.is_empty() {
            return;
        }
        self.ledger.evaluate(measurable);
        let before = self.si.memory();
        let ledger = &mut self.ledger;
        self.si.section(arrival, begin, limits, &mut |indicator, times| {
            ledger.raise(at, indicator, Some(pid), times, out);
        });
        self.grown |= self.si.memory() != before;
    }

    /// Whether [`Monitor::memory`] may have become more by a section since this was asked last.
    pub(super) fn has_grown(&mut self) -> bool {
        core::mem::take(&mut self.grown)
    }

    /// PAT or PMTs may name other PIDs than before: those that are new are waited for from now on.
    pub(super) fn rebuild(&mut self, now: Timestamp, tables: &Tables, is_wanted: impl Fn(u8) -> bool) {
        let pmts = tables.programmes().map(|programme| programme.pmt_pid);
        self.pmts = wanted(pmts, &self.pmts, now);
        let components = tables
            .programmes()
            .flat_map(|programme| &programme.components)
            .filter(|component| is_wanted(component.stream_type))
            .map(|component| component.pid);
        self.components = wanted(components, &self.components, now);
    }

    /// A PID has this slot; where it is a component that is waited for, that is noted.
    pub(super) fn component_sends(&mut self, pid: u16, slot: u16) {
        if let Ok(place) = self.components.binary_search_by_key(&pid, |wanted| wanted.pid)
            && let Some(wanted) = self.components.get_mut(place)
        {
            wanted.slot = Some(slot);
        }
    }

    /// A packet of a PID is scrambled.
    pub(super) fn scrambled(
        &mut self,
        at: Timestamp,
        pid: u16,
        is_pmt: bool,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        if pid == PID_PAT {
            self.ledger.raise(at, Indicator::PatError2, Some(pid), 1, out);
        } else if is_pmt {
            self.ledger.raise(at, Indicator::PmtError2, Some(pid), 1, out);
        }
        if !self.cat_seen {
            let unexplained = self.unexplained.get_or_insert(Unexplained {
                since: at,
                last: at,
                told: 0,
            });
            unexplained.last = at;
        }
    }

    /// Time has passed: what does not come any more. Until when nothing more of it is overdue, nor anything that begins only
    /// now.
    pub(super) fn overdue(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) -> Timestamp {
        let begin = self.begin;
        let limits = &self.limits;
        let mut until = Timestamp::from_nanos(now.nanos().saturating_add(limits.least().min(CAT_LIMIT)));
        if let Some(timer) = &mut self.pat {
            let times = timer.overdue(now, begin, limits.pat);
            until = until.min(timer.until(limits.pat));
            self.ledger.raise(now, Indicator::PatError2, Some(PID_PAT), times, out);
        }
        for wanted in &mut self.pmts {
            let times = wanted.timer.overdue(now, begin, limits.pmt);
            until = until.min(wanted.timer.until(limits.pmt));
            self.ledger
                .raise(now, Indicator::PmtError2, Some(wanted.pid), times, out);
        }
        let ledger = &mut self.ledger;
        self.si.overdue(now, begin, limits, &mut |indicator, pid, times| {
            ledger.raise(now, indicator, Some(pid), times, out);
        });
        self.miss_cat(now, out);
        match self.unexplained {
            // When it ends depends on packets that are yet to come.
            Some(_) => Timestamp::default(),
            None => until.min(self.si.until(&self.limits)),
        }
    }

    /// 2.6: once when the time for a CAT is over, and again per interval that scrambled packets go on.
    fn miss_cat(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        let Some(unexplained) = &mut self.unexplained else {
            return;
        };
        if unexplained.since < self.begin {
            (unexplained.since, unexplained.told) = (self.begin, 0);
        }
        let end = now.nanos().min(unexplained.last.nanos().saturating_add(CAT_LIMIT + 1));
        let elapsed = end.saturating_sub(unexplained.since.nanos());
        let times = super::tr101290::violations(elapsed, CAT_LIMIT, &mut unexplained.told);
        self.ledger.raise(now, Indicator::CatError, None, times, out);
    }

    /// Heap bytes held.
    pub(super) fn memory(&self) -> usize {
        (self.pmts.capacity() + self.components.capacity()) * size_of::<Wanted>() + self.si.memory()
    }
}

/// The timers of PIDs, those that are waited for already kept.
fn wanted(pids: impl Iterator<Item = u16>, before: &[Wanted], now: Timestamp) -> Vec<Wanted> {
    let mut pids: Vec<u16> = pids.collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter()
        .map(|pid| {
            let known = before.binary_search_by_key(&pid, |wanted| wanted.pid);
            known
                .ok()
                .and_then(|place| before.get(place))
                .copied()
                .unwrap_or(Wanted {
                    pid,
                    timer: Timer::new(now),
                    slot: None,
                })
        })
        .collect()
}

/// Whether a table's CRC is measured by 2.2: CAT, PAT, PMT, NIT, EIT, BAT, SDT and TOT. Private sections and splice
/// information are not among them.
fn is_measured_for_crc(table_id: u8) -> bool {
    matches!(table_id, 0x00..=0x02 | 0x40..=0x42 | 0x46 | 0x4a | 0x4e..=0x6f | 0x73)
}
