//! What a rule asks of a transport stream beyond TR 101 290: bit rate, null packets, stream types and PIDs.
//!
//! These are conditions that last. Each is told at most once a second while it does; when it is raised and cleared is the
//! watch's business.

use super::rates::{Meter, Packets};
use super::{Analyser, SECOND, TICK, TsEvent};
use crate::engine::media::mpegts::NULL_PID;
use crate::engine::time::Timestamp;
use crate::policy::rule::{BitrateLimit, NullPacketsLimit, PidsLimit, StreamTypesLimit, TsRule};

/// PIDs that are told of one condition in one second.
const MAX_TOLD: usize = 16;
/// Words of a set of PIDs, which have 13 bits.
const PID_WORDS: usize = 8192 / 64;

/// What the checks remember.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Meters of the rule's own windows; `None` where it sets no limit.
    bitrate: Option<Box<Meter>>,
    null_packets: Option<Box<Meter>>,
    next: Timestamp,
}

impl Checks {
    /// Takes the samples that are due.
    pub(super) fn sample(&mut self, now: Timestamp, counted: Packets) {
        for meter in [&mut self.bitrate, &mut self.null_packets].into_iter().flatten() {
            meter.sample(now, counted);
        }
    }

    /// When the next sample is due; never where there is no window.
    pub(super) fn next_sample(&self) -> Timestamp {
        let meters = [&self.bitrate, &self.null_packets];
        let next = meters.into_iter().flatten().map(|meter| meter.next());
        next.min().unwrap_or(Timestamp::from_nanos(u64::MAX))
    }

    /// Packets went by unseen: windows begin anew.
    pub(super) fn reset(&mut self, now: Timestamp) {
        for meter in [&mut self.bitrate, &mut self.null_packets].into_iter().flatten() {
            meter.reset();
        }
        self.next = now;
    }

    /// Heap bytes held.
    pub(super) fn memory(&self) -> usize {
        let meters = [&self.bitrate, &self.null_packets];
        meters.into_iter().flatten().count() * size_of::<Meter>()
    }
}

impl Analyser {
    /// When [`Analyser::check`] looks again.
    pub(in crate::engine) fn next_check(&self) -> Timestamp {
        self.checks.next
    }

    /// Looks whether the stream keeps the rule's limits; not more than once a second, and not before the first packet.
    /// Whether it did look: a condition that was not told then does not hold.
    pub(in crate::engine) fn check(
        &mut self,
        now: Timestamp,
        rule: &TsRule,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) -> bool {
        if self.first.is_none() || now < self.checks.next {
            return false;
        }
        self.checks.next = now.after(SECOND);
        let before = self.checks.memory();
        let mut tell = |event| out(now, event);
        self.check_bitrate(now, rule.bitrate.as_ref(), &mut tell);
        self.check_null_packets(now, rule.null_packets.as_ref(), &mut tell);
        if let Some(limit) = &rule.stream_types {
            self.check_stream_types(limit, &mut tell);
        }
        if let Some(limit) = &rule.pids {
            self.check_pids(now, limit, &mut tell);
        }
        if self.checks.memory() != before {
            self.grown = true;
            // A window that has just begun wants its samples.
            self.next_tick = self.next_tick.min(self.last_tick.after(TICK));
        }
        true
    }

    fn check_bitrate(&mut self, now: Timestamp, limit: Option<&BitrateLimit>, tell: &mut impl FnMut(TsEvent)) {
        let counted = self.counted();
        let Some(limit) = limit else {
            self.checks.bitrate = None;
            return;
        };
        let meter = meter(&mut self.checks.bitrate, limit.window, now, counted);
        let Some(bitrate) = meter.bitrate(now, counted) else {
            return;
        };
        if let Some(limit) = limit.max.filter(|max| bitrate > *max) {
            tell(TsEvent::BitrateHigh { bitrate, limit });
        } else if let Some(limit) = limit.min.filter(|min| bitrate < *min) {
            tell(TsEvent::BitrateLow { bitrate, limit });
        }
    }

    fn check_null_packets(&mut self, now: Timestamp, limit: Option<&NullPacketsLimit>, tell: &mut impl FnMut(TsEvent)) {
        let counted = self.counted();
        let Some(limit) = limit else {
            self.checks.null_packets = None;
            return;
        };
        let meter = meter(&mut self.checks.null_packets, limit.window, now, counted);
        let percent = meter.null_percent(now, counted);
        if let Some(percent) = percent.filter(|percent| *percent > f64::from(limit.max_percent)) {
            tell(TsEvent::NullShare {
                percent: percent.ceil() as u8,
                limit: limit.max_percent,
            });
        }
    }

    fn check_stream_types(&self, limit: &StreamTypesLimit, tell: &mut impl FnMut(TsEvent)) {
        self.tables
            .programmes()
            .flat_map(|programme| &programme.components)
            .filter(|component| !limit.allowed.contains(component.stream_type))
            .take(MAX_TOLD)
            .for_each(|component| {
                tell(TsEvent::UnlistedStreamType {
                    pid: component.pid,
                    stream_type: component.stream_type,
                });
            });
    }

    /// A PID that does not belong is told for two seconds after its last packet; one that is missing, when it has stayed
    /// away for as long as TR 101 290 lets a component do.
    fn check_pids(&self, now: Timestamp, limit: &PidsLimit, tell: &mut impl FnMut(TsEvent)) {
        if let Some(allowed) = &limit.allowed {
            self.slots
                .iter()
                .filter(|slot| slot.pid != NULL_PID && now.since(slot.last) < SECOND * 2)
                .filter(|slot| !allowed.contains(slot.pid))
                .take(MAX_TOLD)
                .for_each(|slot| tell(TsEvent::UnlistedPid { pid: slot.pid }));
        }
        let absent = |last: Timestamp| now.nanos().saturating_sub(last.nanos()) > self.monitor.limits.pid;
        if limit.required.is_empty() || !absent(self.monitor.begin) {
            return;
        }
        let mut present = [0u64; PID_WORDS];
        for slot in self.slots.iter().filter(|slot| !absent(slot.last)) {
            if let Some(word) = present.get_mut(usize::from(slot.pid / 64)) {
                *word |= 1 << (slot.pid % 64);
            }
        }
        let is_present = |pid: u16| {
            present
                .get(usize::from(pid / 64))
                .is_some_and(|word| word >> (pid % 64) & 1 == 1)
        };
        limit
            .required
            .iter()
            .filter(|pid| !is_present(*pid))
            .take(MAX_TOLD)
            .for_each(|pid| tell(TsEvent::MissingPid { pid }));
    }
}

/// The meter of a window; begun now where there was none of this length.
fn meter(place: &mut Option<Box<Meter>>, window: core::time::Duration, now: Timestamp, counted: Packets) -> &Meter {
    if place.as_ref().is_none_or(|meter| meter.window() != window) {
        let mut meter = Box::new(Meter::new(window));
        meter.sample(now, counted);
        *place = Some(meter);
    }
    place.get_or_insert_with(|| Box::new(Meter::new(window)))
}
