//! What does not come any more: tables, components, PCRs and time stamps, by the clock of the packets that do come.
//!
//! A look at every timer of a stream is dear where there are thousands of streams, and nearly always finds nothing. So each
//! look finds out until when the next one would find nothing, too: what came meanwhile, or is waited for only since, has its
//! whole interval before it.

use super::monitor::Monitor;
use super::slot::Kind;
use super::{Analyser, Indicator, TsEvent};
use crate::engine::time::Timestamp;

impl Analyser {
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
            let slot = wanted.slot.and_then(|slot| self.slots.get(usize::from(slot)));
            if let Some(slot) = slot.filter(|slot| slot.last > wanted.timer.last) {
                wanted.timer.seen(slot.last);
            }
            let times = wanted.timer.overdue(now, begin, limits.pid);
            ledger.raise(now, Indicator::PidError, Some(wanted.pid), times, out);
            until = until.min(wanted.timer.until(limits.pid));
        }
        for place in &self.extended {
            let Some(slot) = self.slots.get_mut(usize::from(*place)) else {
                continue;
            };
            let Some(more) = &mut slot.more else { continue };
            let pid = Some(slot.pid);
            if let Some(pcr) = more.pcr.as_mut().filter(|_| self.tables.is_pcr_pid(slot.pid)) {
                let times = pcr.overdue(now, limits);
                ledger.raise(now, Indicator::PcrRepetitionError, pid, times, out);
                until = until.min(pcr.until(limits));
            }
            if slot.kind == Kind::Timed {
                let times = more.stamps.overdue(now, begin, limits.pts);
                ledger.raise(now, Indicator::PtsError, pid, times, out);
                until = until.min(more.stamps.until(limits.pts));
            }
        }
        until
    }
}
