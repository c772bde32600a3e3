//! What does not come any more: tables, components, PCRs and time stamps, by the clock of the packets that do come.
//!
//! A look at every timer of a stream is dear where there are thousands of streams, and nearly always finds nothing. So each
//! look finds out until when the next one would find nothing, too: what came meanwhile, or is waited for only since, has its
//! whole interval before it.

use super::monitor::Monitor;
use super::slot::Kind;
use super::{Analyser, Indicator, TsEvent, pcr};
use crate::engine::time::Timestamp;

/// A slot that more is kept of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extended {
    pub(super) slot: u16,
    /// Nothing of it is absent up to this time.
    until: Timestamp,
}

impl Extended {
    /// One that was not looked at yet.
    pub(super) fn new(slot: u16) -> Self {
        Extended {
            slot,
            until: Timestamp::default(),
        }
    }
}

impl Analyser {
    /// What is waited for, or for how long, is something else than before.
    pub(super) fn look_anew(&mut self) {
        self.none_absent_until = Timestamp::default();
        for extended in &mut self.extended {
            extended.until = Timestamp::default();
        }
    }

    /// Looks for absences, unless it is known that there are none.
    #[inline]
    pub(super) fn look_for_absences(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) {
        if now > self.none_absent_until {
            let until = self.find_absences(now, out);
            self.none_absent_until = until;
        }
    }

    /// Looks at everything that is waited for. Until when nothing more is absent.
    fn find_absences(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, TsEvent)) -> Timestamp {
        let mut until = self.monitor.overdue(now, out);
        self.look_for_strangers(now, out);
        if !self.strangers.is_empty() {
            until = Timestamp::default();
        }
        let Monitor {
            begin,
            limits,
            ledger,
            components,
            ..
        } = &mut self.monitor;
        let begin = *begin;
        for wanted in components {
            // Whatever has come since, it is not absent yet.
            let known = wanted.timer.until(limits.pid);
            if now <= known && wanted.timer.last >= begin {
                until = until.min(known);
                continue;
            }
            let slot = wanted.slot.and_then(|slot| self.slots.get(usize::from(slot)));
            if let Some(slot) = slot.filter(|slot| slot.last > wanted.timer.last) {
                wanted.timer.seen(slot.last);
            }
            let times = wanted.timer.overdue(now, begin, limits.pid);
            ledger.raise(now, Indicator::PidError, Some(wanted.pid), times, out);
            until = until.min(wanted.timer.until(limits.pid));
        }
        // What begins to be waited for after this look has at least so long.
        let longest = Timestamp::from_nanos(now.nanos().saturating_add(pcr::LATE.min(limits.pts)));
        for extended in &mut self.extended {
            if now <= extended.until {
                until = until.min(extended.until);
                continue;
            }
            extended.until = longest;
            let Some(slot) = self.slots.get_mut(usize::from(extended.slot)) else {
                continue;
            };
            let Some(more) = &mut slot.more else { continue };
            let pid = Some(slot.pid);
            if let Some(clock) = more.pcr.as_mut().filter(|_| self.tables.is_pcr_pid(slot.pid)) {
                let times = clock.overdue(now, limits);
                ledger.raise(now, Indicator::PcrRepetitionError, pid, times, out);
                extended.until = extended.until.min(clock.until(limits));
            }
            if slot.kind == Kind::Timed {
                let times = more.stamps.overdue(now, begin, limits.pts);
                ledger.raise(now, Indicator::PtsError, pid, times, out);
                extended.until = extended.until.min(more.stamps.until(limits.pts));
            }
            until = until.min(extended.until);
        }
        until
    }
}
