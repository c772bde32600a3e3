//! DVB service information by the clock (ETSI TR 101 290 5.2.3; EN 300 468; TR 101 211 4.4): tables that come too seldom,
//! too often, or where they do not belong.
//!
//! A table is expected once it has been seen, as TSDuck and the `dvb-conformance` crate have it: a plain MPEG-TS from a
//! contribution encoder carries an SDT at most, and owes nobody a NIT. A NIT changes nothing about that: neither tool takes
//! it for a promise of the other tables. So an indicator is in the report once the PID of its
//! table has carried a section, and not before.

use std::collections::BTreeMap;

use super::tr101290::{Indicator, Limits, Timer};
use crate::engine::time::Timestamp;

/// PIDs of EN 300 468 table 1.
const PID_NIT: u16 = 0x10;
const PID_SDT: u16 = 0x11;
const PID_EIT: u16 = 0x12;
const PID_RST: u16 = 0x13;
const PID_TDT: u16 = 0x14;

/// table_ids of EN 300 468 table 2.
const NIT_ACTUAL: u8 = 0x40;
const NIT_OTHER: u8 = 0x41;
const SDT_ACTUAL: u8 = 0x42;
const SDT_OTHER: u8 = 0x46;
const BAT: u8 = 0x4a;
const EIT_ACTUAL: u8 = 0x4e;
const EIT_OTHER: u8 = 0x4f;
const EIT_LAST: u8 = 0x6f;
const TDT: u8 = 0x70;
const RST: u8 = 0x71;
const STUFFING: u8 = 0x72;
const TOT: u8 = 0x73;

/// The longest time between sections of a table about other streams or networks (TR 101 211 4.4).
const OTHER_LIMIT: u64 = 10_000_000_000;
/// Sub-tables that are followed, and sections of tables about others: a satellite transponder's worth. Those beyond go
/// unmeasured, so that a hostile stream cannot fill the memory.
const MAX_FOLLOWED: usize = 256;

/// A sound section, as far as its timing goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) pid: u16,
    pub(super) table_id: u8,
    pub(super) extension: u16,
    pub(super) section_number: u8,
}

/// When the tables of service information came.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceInformation {
    nit: Option<Timer>,
    sdt: Option<Timer>,
    /// Section 0 (present) and 1 (following).
    eit: [Option<Timer>; 2],
    tdt: Option<Timer>,
    /// Sections of tables about others, by table_id, extension and section_number.
    others: BTreeMap<u32, Timer>,
    /// When a section of each sub-table last came, by table_id and extension.
    sub_tables: BTreeMap<u32, Timestamp>,
}

impl ServiceInformation {
    /// Whether a section on that PID is service information; which indicators it makes measurable.
    pub(super) fn measurable(pid: u16) -> &'static [Indicator] {
        match pid {
            PID_NIT => &[
                Indicator::NitActualError,
                Indicator::NitOtherError,
                Indicator::SiRepetitionError,
            ],
            PID_SDT => &[
                Indicator::SdtActualError,
                Indicator::SdtOtherError,
                Indicator::SiRepetitionError,
            ],
            PID_EIT => &[
                Indicator::EitActualError,
                Indicator::EitOtherError,
                Indicator::SiRepetitionError,
            ],
            PID_RST => &[Indicator::RstError, Indicator::SiRepetitionError],
            PID_TDT => &[Indicator::TdtError, Indicator::SiRepetitionError],
            _ => &[],
        }
    }

    /// A sound section came; `raise` is given an indicator and how often it was violated.
    pub(super) fn section(
        &mut self,
        arrival: Arrival,
        begin: Timestamp,
        limits: &Limits,
        raise: &mut impl FnMut(Indicator, u32),
    ) {
        let Some(own) = Self::measurable(arrival.pid).first().copied() else {
            return;
        };
        if !belongs(arrival.pid, arrival.table_id) {
            raise(own, 1);
            return;
        }
        self.check_gap(arrival, begin, limits, own, raise);
        let at = arrival.at;
        if let Some((timer, indicator, limit)) = self.timer(arrival.table_id, arrival.section_number, limits) {
            let times = timer.as_mut().map_or(0, |timer| timer.overdue(at, begin, limit));
            *timer = Some(Timer::new(at));
            both(indicator, times, raise);
        }
        if let Some(indicator) = about_others(arrival.table_id) {
            let key = u32::from(arrival.table_id) << 24
                | u32::from(arrival.extension) << 8
                | u32::from(arrival.section_number);
            if let Some(timer) = self.others.get_mut(&key) {
                both(indicator, timer.overdue(at, begin, OTHER_LIMIT), raise);
                timer.seen(at);
            } else if self.others.len() < MAX_FOLLOWED {
                self.others.insert(key, Timer::new(at));
            }
        }
    }

    /// Time passes: tables that do not come any more.
    pub(super) fn overdue(
        &mut self,
        now: Timestamp,
        begin: Timestamp,
        limits: &Limits,
        raise: &mut impl FnMut(Indicator, u16, u32),
    ) {
        for (table_id, section, pid) in [
            (NIT_ACTUAL, 0, PID_NIT),
            (SDT_ACTUAL, 0, PID_SDT),
            (EIT_ACTUAL, 0, PID_EIT),
            (EIT_ACTUAL, 1, PID_EIT),
            (TDT, 0, PID_TDT),
        ] {
            if let Some((Some(timer), indicator, limit)) = self.timer(table_id, section, limits) {
                both(indicator, timer.overdue(now, begin, limit), &mut |indicator, times| {
                    raise(indicator, pid, times);
                });
            }
        }
    }

    /// Until when [`ServiceInformation::overdue`] finds nothing more if nothing comes.
    pub(super) fn until(&self, limits: &Limits) -> Timestamp {
        let [present, following] = &self.eit;
        let timers = [
            (&self.nit, limits.nit),
            (&self.sdt, limits.sdt),
            (present, limits.eit),
            (following, limits.eit),
            (&self.tdt, limits.tdt),
        ];
        let until = timers
            .into_iter()
            .filter_map(|(timer, limit)| timer.map(|timer| timer.until(limit)));
        until.min().unwrap_or(Timestamp::from_nanos(u64::MAX))
    }

    /// Heap bytes held.
    pub(super) fn memory(&self) -> usize {
        // B-tree nodes hold between half and all of their room.
        self.others.len() * 2 * size_of::<(u32, Timer)>() + self.sub_tables.len() * 2 * size_of::<(u32, Timestamp)>()
    }

    /// The timer of a table about the actual stream, its indicator and its limit.
    fn timer(&mut self, table_id: u8, section: u8, limits: &Limits) -> Option<(&mut Option<Timer>, Indicator, u64)> {
        Some(match table_id {
            NIT_ACTUAL => (&mut self.nit, Indicator::NitActualError, limits.nit),
            SDT_ACTUAL => (&mut self.sdt, Indicator::SdtActualError, limits.sdt),
            EIT_ACTUAL => (
                self.eit.get_mut(usize::from(section))?,
                Indicator::EitActualError,
                limits.eit,
            ),
            TDT => (&mut self.tdt, Indicator::TdtError, limits.tdt),
            _ => return None,
        })
    }

    /// TR 101 211 4.4: sections of one sub-table, whatever their numbers, must not come closer than 25 ms.
    fn check_gap(
        &mut self,
        arrival: Arrival,
        begin: Timestamp,
        limits: &Limits,
        own: Indicator,
        raise: &mut impl FnMut(Indicator, u32),
    ) {
        if !matches!(arrival.table_id, NIT_ACTUAL | SDT_ACTUAL | EIT_ACTUAL | TDT | RST) {
            return;
        }
        let key = u32::from(arrival.table_id) << 16 | u32::from(arrival.extension);
        if let Some(last) = self.sub_tables.get_mut(&key) {
            let gap = arrival.at.nanos().saturating_sub(last.nanos());
            if gap < limits.section_gap && *last >= begin {
                both(own, 1, raise);
            }
            *last = arrival.at;
        } else if self.sub_tables.len() < MAX_FOLLOWED {
            self.sub_tables.insert(key, arrival.at);
        }
    }
}

/// An interval violates the table's own indicator and 3.2, which is about all of them.
fn both(own: Indicator, times: u32, raise: &mut impl FnMut(Indicator, u32)) {
    if times > 0 {
        raise(own, times);
        raise(Indicator::SiRepetitionError, times);
    }
}

/// Whether a table may be on a PID (TR 101 290 table 5.0c).
fn belongs(pid: u16, table_id: u8) -> bool {
    table_id == STUFFING
        || match pid {
            PID_NIT => matches!(table_id, NIT_ACTUAL | NIT_OTHER),
            PID_SDT => matches!(table_id, SDT_ACTUAL | SDT_OTHER | BAT),
            PID_EIT => matches!(table_id, EIT_ACTUAL..=EIT_LAST),
            PID_RST => table_id == RST,
            PID_TDT => matches!(table_id, TDT | TOT),
            _ => true,
        }
}

/// The indicator of a table about other streams or networks.
fn about_others(table_id: u8) -> Option<Indicator> {
    match table_id {
        NIT_OTHER => Some(Indicator::NitOtherError),
        SDT_OTHER => Some(Indicator::SdtOtherError),
        EIT_OTHER => Some(Indicator::EitOtherError),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::Tr101290Thresholds;

    fn arrival(ms: u64, pid: u16, table_id: u8, extension: u16, section_number: u8) -> Arrival {
        Arrival {
            at: Timestamp::from_nanos(ms * 1_000_000),
            pid,
            table_id,
            extension,
            section_number,
        }
    }

    /// What sections violate, each by ETSI's number, in order.
    fn violated(sections: &[Arrival]) -> Vec<&'static str> {
        let limits = Limits::from(&Tr101290Thresholds::default());
        let mut si = ServiceInformation::default();
        let mut found = Vec::new();
        for section in sections {
            si.section(*section, Timestamp::default(), &limits, &mut |indicator, times| {
                found.extend((0..times).map(|_| indicator.number()));
            });
        }
        found
    }

    #[test]
    fn each_table_has_its_longest_interval() {
        for (pid, table_id, limit, number) in [
            (0x10, 0x40, 10_000, "3.1.a"),
            (0x11, 0x42, 2_000, "3.5.a"),
            (0x12, 0x4e, 2_000, "3.6.a"),
            (0x14, 0x70, 30_000, "3.8"),
            (0x10, 0x41, 10_000, "3.1.b"),
            (0x11, 0x46, 10_000, "3.5.b"),
            (0x12, 0x4f, 10_000, "3.6.b"),
        ] {
            let section = |ms| arrival(ms, pid, table_id, 7, 0);
            assert_eq!(violated(&[section(0), section(limit)]), Vec::<&str>::new());
            assert_eq!(violated(&[section(0), section(limit + 1)]), [number, "3.2"]);
            assert_eq!(
                violated(&[section(0), section(2 * limit + 1)]),
                [number, number, "3.2", "3.2"]
            );
        }
    }

    #[test]
    fn present_and_following_are_waited_for_each() {
        let both = violated(&[
            arrival(0, 0x12, 0x4e, 1, 0),
            arrival(100, 0x12, 0x4e, 1, 1),
            arrival(1_500, 0x12, 0x4e, 1, 0),
            arrival(2_101, 0x12, 0x4e, 1, 1),
        ]);
        assert_eq!(both, ["3.6.a", "3.2"]);
    }

    #[test]
    fn sections_of_one_sub_table_come_too_close_and_those_of_two_do_not() {
        let near = |extension| [arrival(0, 0x12, 0x4e, 1, 0), arrival(24, 0x12, 0x4e, extension, 1)];
        assert_eq!(violated(&near(1)), ["3.6.a", "3.2"]);
        assert_eq!(violated(&near(2)), Vec::<&str>::new());
        assert_eq!(
            violated(&[arrival(0, 0x14, 0x70, 0, 0), arrival(25, 0x14, 0x70, 0, 0)]),
            Vec::<&str>::new()
        );
        assert_eq!(
            violated(&[arrival(0, 0x13, 0x71, 0, 0), arrival(1, 0x13, 0x71, 0, 0)]),
            ["3.7", "3.2"]
        );
    }

    #[test]
    fn tables_on_the_wrong_pid_count_where_they_are_found() {
        for (pid, number) in [
            (0x10, "3.1.a"),
            (0x11, "3.5.a"),
            (0x12, "3.6.a"),
            (0x13, "3.7"),
            (0x14, "3.8"),
        ] {
            assert_eq!(violated(&[arrival(0, pid, 0xc0, 0, 0)]), [number]);
            assert_eq!(violated(&[arrival(0, pid, 0x72, 0, 0)]), Vec::<&str>::new(), "stuffing");
        }
        assert_eq!(violated(&[arrival(0, 0x100, 0xc0, 0, 0)]), Vec::<&str>::new());
    }

    #[test]
    fn what_stays_away_is_told_while_it_does() {
        let limits = Limits::from(&Tr101290Thresholds::default());
        let mut si = ServiceInformation::default();
        let mut found = Vec::new();
        si.section(
            arrival(0, 0x11, 0x42, 1, 0),
            Timestamp::default(),
            &limits,
            &mut |_, _| (),
        );
        for ms in 0..5_000 {
            let now = Timestamp::from_nanos(ms * 1_000_000);
            si.overdue(now, Timestamp::default(), &limits, &mut |indicator, pid, times| {
                found.push((indicator.number(), pid, times));
            });
        }
        let once = [("3.5.a", 0x11, 1), ("3.2", 0x11, 1)];
        assert_eq!(found, [once, once].concat());
    }

    #[test]
    fn what_is_followed_is_bounded() {
        let sections: Vec<_> = (0..10_000)
            .map(|n| arrival(n, 0x12, 0x4e + (n % 2) as u8, n as u16, 0))
            .collect();
        let limits = Limits::from(&Tr101290Thresholds::default());
        let mut si = ServiceInformation::default();
        for section in sections {
            si.section(section, Timestamp::default(), &limits, &mut |_, _| ());
        }
        assert!(si.memory() <= MAX_FOLLOWED * 2 * 40, "{}", si.memory());
    }
}
