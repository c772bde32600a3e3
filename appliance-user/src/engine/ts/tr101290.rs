//! The indicators of ETSI TR 101 290 5.2 under ETSI's numbers, how often each was violated, and the timer behind those
//! that are about things which come too seldom.
//!
//! A violation counts once, and again for each further interval that it lasts: a PAT that stays away for 1.7 s where
//! 500 ms are allowed counts three times. The `dvb-conformance` crate and TSDuck count such an absence once however long
//! it lasts; otherwise the three agree, and where they do not, the tests say why.

use std::collections::BTreeMap;

use super::TsEvent;
use crate::engine::time::Timestamp;
use crate::policy::rule::Tr101290Thresholds;

/// A thing measured by ETSI TR 101 290 (V1.4.1) 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Indicator {
    /// 1.1: two bad sync bytes in a row, after five good ones.
    TsSyncLoss,
    /// 1.2: a sync byte is not 0x47.
    SyncByteError,
    /// 1.3.a: no PAT, something else on PID 0, or PID 0 scrambled.
    PatError2,
    /// 1.4: wrong order, more than two copies, or loss.
    ContinuityCountError,
    /// 1.5.a: no PMT on a PID that the PAT names, or that PID scrambled.
    PmtError2,
    /// 1.6: no packet of a video or audio component.
    PidError,
    /// 2.1: transport_error_indicator.
    TransportError,
    /// 2.2: the CRC-32 of a PSI or SI section is wrong.
    CrcError,
    /// 2.3.a: two PCRs too far apart.
    PcrRepetitionError,
    /// 2.3.b: the PCR jumps and no discontinuity_indicator says so.
    PcrDiscontinuityIndicatorError,
    /// 2.4: a PCR does not fit its place in the stream.
    PcrAccuracyError,
    /// 2.5: two PTSs of a component too far apart.
    PtsError,
    /// 2.6: something is scrambled and there is no CAT, or something else is on PID 1.
    CatError,
    /// 3.1.a: NIT of the actual network: absent, too close, or something else on its PID.
    NitActualError,
    /// 3.1.b: NITs of other networks come too seldom.
    NitOtherError,
    /// 3.2: an SI table comes too seldom or too often; its own indicator counts too.
    SiRepetitionError,
    /// 3.4.a: packets of a PID that nothing refers to.
    UnreferencedPid,
    /// 3.5.a: SDT of the actual stream: absent, too close, or something else on its PID.
    SdtActualError,
    /// 3.5.b: SDTs of other streams come too seldom.
    SdtOtherError,
    /// 3.6.a: EIT present/following of the actual stream: absent, too close, or something else on its PID.
    EitActualError,
    /// 3.6.b: EITs present/following of other streams come too seldom.
    EitOtherError,
    /// 3.7: running status sections too close, or something else on their PID.
    RstError,
    /// 3.8: TDT: absent, too close, or something else on its PID.
    TdtError,
}

/// How many indicators there are.
const INDICATORS: usize = Indicator::ALL.len();

impl Indicator {
    /// Every indicator in ETSI's order, which is that of the declaration.
    pub const ALL: [Indicator; 23] = [
        Indicator::TsSyncLoss,
        Indicator::SyncByteError,
        Indicator::PatError2,
        Indicator::ContinuityCountError,
        Indicator::PmtError2,
        Indicator::PidError,
        Indicator::TransportError,
        Indicator::CrcError,
        Indicator::PcrRepetitionError,
        Indicator::PcrDiscontinuityIndicatorError,
        Indicator::PcrAccuracyError,
        Indicator::PtsError,
        Indicator::CatError,
        Indicator::NitActualError,
        Indicator::NitOtherError,
        Indicator::SiRepetitionError,
        Indicator::UnreferencedPid,
        Indicator::SdtActualError,
        Indicator::SdtOtherError,
        Indicator::EitActualError,
        Indicator::EitOtherError,
        Indicator::RstError,
        Indicator::TdtError,
    ];

    /// ETSI's number, the key in reports.
    pub const fn number(self) -> &'static str {
        self.texts().0
    }

    /// ETSI's name.
    pub const fn name(self) -> &'static str {
        self.texts().1
    }

    /// ETSI's priority: 1 necessary for decoding, 2 recommended, 3 dependent on the application.
    pub const fn priority(self) -> u8 {
        self.number().as_bytes()[0] - b'0'
    }

    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Indicator::TsSyncLoss => ("1.1", "TS_sync_loss"),
            Indicator::SyncByteError => ("1.2", "Sync_byte_error"),
            Indicator::PatError2 => ("1.3.a", "PAT_error_2"),
            Indicator::ContinuityCountError => ("1.4", "Continuity_count_error"),
            Indicator::PmtError2 => ("1.5.a", "PMT_error_2"),
            Indicator::PidError => ("1.6", "PID_error"),
            Indicator::TransportError => ("2.1", "Transport_error"),
            Indicator::CrcError => ("2.2", "CRC_error"),
            Indicator::PcrRepetitionError => ("2.3.a", "PCR_repetition_error"),
            Indicator::PcrDiscontinuityIndicatorError => ("2.3.b", "PCR_discontinuity_indicator_error"),
            Indicator::PcrAccuracyError => ("2.4", "PCR_accuracy_error"),
            Indicator::PtsError => ("2.5", "PTS_error"),
            Indicator::CatError => ("2.6", "CAT_error"),
            Indicator::NitActualError => ("3.1.a", "NIT_actual_error"),
            Indicator::NitOtherError => ("3.1.b", "NIT_other_error"),
            Indicator::SiRepetitionError => ("3.2", "SI_repetition_error"),
            Indicator::UnreferencedPid => ("3.4.a", "Unreferenced_PID"),
            Indicator::SdtActualError => ("3.5.a", "SDT_actual_error"),
            Indicator::SdtOtherError => ("3.5.b", "SDT_other_error"),
            Indicator::EitActualError => ("3.6.a", "EIT_actual_error"),
            Indicator::EitOtherError => ("3.6.b", "EIT_other_error"),
            Indicator::RstError => ("3.7", "RST_error"),
            Indicator::TdtError => ("3.8", "TDT_error"),
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What every transport stream is measured by; the others join when there is something to measure.
const ALWAYS: u32 = Indicator::TsSyncLoss.bit()
    | Indicator::SyncByteError.bit()
    | Indicator::PatError2.bit()
    | Indicator::ContinuityCountError.bit()
    | Indicator::PmtError2.bit()
    | Indicator::PidError.bit()
    | Indicator::TransportError.bit()
    | Indicator::CrcError.bit()
    | Indicator::PcrRepetitionError.bit()
    | Indicator::PcrDiscontinuityIndicatorError.bit()
    | Indicator::PtsError.bit()
    | Indicator::CatError.bit()
    | Indicator::UnreferencedPid.bit();

/// How often each indicator was violated.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    counts: [u64; INDICATORS],
    /// One bit for each indicator that could be evaluated.
    evaluated: u32,
    /// The stream is out of sync: 5.2.1 has every indicator but 1.1 and 1.2 invalid then.
    pub(super) out_of_sync: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            counts: [0; INDICATORS],
            evaluated: ALWAYS,
            out_of_sync: false,
        }
    }
}

impl Ledger {
    /// Counts a violation `times` times, and tells each.
    pub(super) fn raise(
        &mut self,
        at: Timestamp,
        indicator: Indicator,
        pid: Option<u16>,
        times: u32,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        let about_sync = matches!(indicator, Indicator::TsSyncLoss | Indicator::SyncByteError);
        if times == 0 || (self.out_of_sync && !about_sync) {
            return;
        }
        self.evaluated |= indicator.bit();
        if let Some(count) = self.counts.get_mut(indicator as usize) {
            *count += u64::from(times);
        }
        for _ in 0..times {
            out(at, TsEvent::Tr101290 { indicator, pid });
        }
    }

    /// From now on the indicator is in the report, also at 0.
    pub(super) fn evaluate(&mut self, indicators: &[Indicator]) {
        self.evaluated |= indicators.iter().fold(0, |bits, indicator| bits | indicator.bit());
    }

    /// The evaluated indicators under ETSI's numbers.
    pub(super) fn report(&self) -> BTreeMap<&'static str, u64> {
        Indicator::ALL
            .iter()
            .zip(&self.counts)
            .filter(|(indicator, _)| self.evaluated & indicator.bit() != 0)
            .map(|(indicator, count)| (indicator.number(), *count))
            .collect()
    }
}

/// The most violations that one look at a timer tells. Timers are looked at whenever packets come, so more can only pass
/// while none came, and a silent stream is not without PAT two times a second: it is silent.
const MAX_CATCH_UP: u32 = 64;

/// Since when something has not come, and how often that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) last: Timestamp,
    told: u32,
}

impl Timer {
    /// A timer that runs from `at`.
    pub(super) fn new(at: Timestamp) -> Self {
        Timer { last: at, told: 0 }
    }

    /// It came.
    pub(super) fn seen(&mut self, at: Timestamp) {
        *self = Timer::new(at);
    }

    /// Violations until `now` that were not told yet: one when more than `limit` nanoseconds have passed, one more for
    /// each further `limit`. What was before `begin` is not known and does not count.
    pub(super) fn overdue(&mut self, now: Timestamp, begin: Timestamp, limit: u64) -> u32 {
        if self.last < begin {
            self.seen(begin);
        }
        violations(now.nanos().saturating_sub(self.last.nanos()), limit, &mut self.told)
    }

    /// Until when [`Timer::overdue`] finds nothing more if it does not come.
    pub(super) fn until(&self, limit: u64) -> Timestamp {
        Timestamp::from_nanos(self.last.nanos().saturating_add(none_within(limit, self.told)))
    }
}

/// The longest interval in which [`violations`] finds no more than those that were `told`.
pub(super) fn none_within(limit: u64, told: u32) -> u64 {
    limit.max(1).saturating_mul(u64::from(told) + 1)
}

/// How many of the violations within an interval of `elapsed` nanoseconds exceed those that were `told`, and are now.
pub(super) fn violations(elapsed: u64, limit: u64, told: &mut u32) -> u32 {
    if elapsed <= limit {
        return 0;
    }
    let so_far = u32::try_from((elapsed - 1) / limit.max(1)).unwrap_or(u32::MAX);
    so_far
        .saturating_sub(core::mem::replace(told, so_far))
        .min(MAX_CATCH_UP)
}

/// The thresholds in nanoseconds.
///
/// What PCRs, time stamps, PAT and PMTs are judged by comes first: they come often, and everything else seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Limits {
    pub(super) pcr_repetition: u64,
    pub(super) pcr_discontinuity: u64,
    pub(super) pcr_accuracy: u64,
    pub(super) pts: u64,
    pub(super) pat: u64,
    pub(super) pmt: u64,
    pub(super) pid: u64,
    pub(super) nit: u64,
    pub(super) sdt: u64,
    pub(super) eit: u64,
    pub(super) tdt: u64,
    pub(super) section_gap: u64,
    pub(super) unreferenced_pid: u64,
}

impl Limits {
    /// Nothing that begins now is missed within this.
    pub(super) fn least(&self) -> u64 {
        let intervals = [
            self.pat,
            self.pmt,
            self.pid,
            super::pcr::LATE,
            self.pts,
            self.nit,
            self.sdt,
            self.eit,
            self.tdt,
            self.unreferenced_pid,
        ];
        intervals.into_iter().min().unwrap_or_default()
    }
}

impl From<&Tr101290Thresholds> for Limits {
    fn from(given: &Tr101290Thresholds) -> Self {
        let nanos = |limit: core::time::Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Limits {
            pat: nanos(given.pat),
            pmt: nanos(given.pmt),
            pid: nanos(given.pid),
            pcr_repetition: nanos(given.pcr_repetition),
            pcr_discontinuity: nanos(given.pcr_discontinuity),
            pcr_accuracy: nanos(given.pcr_accuracy),
            pts: nanos(given.pts),
            nit: nanos(given.nit),
            sdt: nanos(given.sdt),
            eit: nanos(given.eit),
            tdt: nanos(given.tdt),
            section_gap: nanos(given.section_gap),
            unreferenced_pid: nanos(given.unreferenced_pid),
        }
    }
}

/// Sync bytes that acquire synchronisation, in a row (5.2.1).
const GOOD_TO_ACQUIRE: u8 = 5;
/// Bad sync bytes that lose it, in a row (5.2.1).
const BAD_TO_LOSE: u8 = 2;

/// Synchronisation with hysteresis. A stream begins in sync: a datagram's or reader's packets are aligned when they come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sync {
    bad: u8,
    good: u8,
    pub(super) lost: bool,
}

impl Sync {
    /// Whether good packets must be told of too.
    #[inline]
    pub(super) fn is_doubtful(self) -> bool {
        self.lost || self.bad > 0
    }

    /// A bad sync byte; whether it loses synchronisation.
    pub(super) fn bad(&mut self) -> bool {
        self.good = 0;
        self.bad = self.bad.saturating_add(1);
        self.bad >= BAD_TO_LOSE && !core::mem::replace(&mut self.lost, true)
    }

    /// Synchronisation was lost as the reader says; whether it was there.
    pub(super) fn lose(&mut self) -> bool {
        self.good = 0;
        !core::mem::replace(&mut self.lost, true)
    }

    /// A good sync byte; whether it acquires synchronisation.
    pub(super) fn good(&mut self) -> bool {
        self.bad = 0;
        self.good = self.good.saturating_add(1);
        self.lost && self.good >= GOOD_TO_ACQUIRE && core::mem::replace(&mut self.lost, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_table_of_indicators_is_in_the_order_of_its_declaration() {
        for (place, indicator) in Indicator::ALL.iter().enumerate() {
            assert_eq!(*indicator as usize, place);
        }
        let numbers: Vec<_> = Indicator::ALL.iter().map(|indicator| indicator.number()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert_eq!(Indicator::PmtError2.priority(), 1);
        assert_eq!(Indicator::CatError.priority(), 2);
        assert_eq!(Indicator::TdtError.priority(), 3);
    }

    #[test]
    fn an_absence_counts_once_and_again_for_each_interval_that_it_lasts() {
        let limit = 500_000_000;
        for (ms, count) in [(500, 0), (501, 1), (1000, 1), (1001, 2), (1700, 3)] {
            let mut timer = Timer::new(at(100));
            assert_eq!(timer.overdue(at(100 + ms), at(0), limit), count, "{ms} ms");
            assert_eq!(timer.overdue(at(100 + ms), at(0), limit), 0, "told already");
        }
        let mut timer = Timer::new(at(0));
        let told: u32 = (0..=1700).map(|ms| timer.overdue(at(ms), at(0), limit)).sum();
        assert_eq!(told, 3);
        timer.seen(at(1700));
        assert_eq!(timer.overdue(at(2200), at(0), limit), 0);
        assert_eq!(timer.overdue(at(2201), at(0), limit), 1);
    }

    #[test]
    fn what_went_by_unseen_is_no_absence() {
        let mut timer = Timer::new(at(0));
        assert_eq!(timer.overdue(at(600), at(0), 500_000_000), 1);
        assert_eq!(timer.overdue(at(10_400), at(10_000), 500_000_000), 0);
        assert_eq!(timer.overdue(at(10_501), at(10_000), 500_000_000), 1);
    }

    #[test]
    fn a_step_of_the_clock_tells_a_bounded_number() {
        let mut timer = Timer::new(at(0));
        let end = Timestamp::from_nanos(u64::MAX);
        assert_eq!(timer.overdue(end, at(0), 1), MAX_CATCH_UP);
        assert_eq!(timer.overdue(end, at(0), 0), 0);
    }

    #[test]
    fn two_bad_sync_bytes_lose_and_five_good_ones_acquire() {
        let mut sync = Sync::default();
        assert!(!sync.bad());
        assert!(sync.is_doubtful());
        assert!(!sync.good());
        assert!(!sync.is_doubtful(), "one bad byte is forgiven");
        assert!(!sync.bad());
        assert!(sync.bad());
        assert!(!sync.bad(), "lost already");
        for _ in 0..4 {
            assert!(!sync.good());
        }
        assert!(sync.lost);
        assert!(sync.good());
        assert!(!sync.is_doubtful());
        assert!(sync.lose());
        assert!(!sync.lose());
    }

    #[test]
    fn out_of_sync_only_the_indicators_of_sync_count() {
        let mut ledger = Ledger {
            out_of_sync: true,
            ..Ledger::default()
        };
        let mut told = 0;
        ledger.raise(at(0), Indicator::PatError2, Some(0), 1, &mut |_, _| told += 1);
        ledger.raise(at(0), Indicator::SyncByteError, None, 2, &mut |_, _| told += 1);
        let report = ledger.report();
        assert_eq!((told, report.get("1.2"), report.get("1.3.a")), (2, Some(&2), Some(&0)));
        assert_eq!((report.get("2.4"), report.get("3.1.a")), (None, None));
    }
}
