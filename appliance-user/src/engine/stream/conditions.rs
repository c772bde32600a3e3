//! Conditions that last: what a rule asks of bit rate, null packets, stream types and PIDs, looked at once a second.

use super::{Cold, Stream};
use crate::engine::outbox::Outbox;
use crate::engine::time::Timestamp;
use crate::engine::ts::TsEvent;
use crate::engine::watch::Cause;

/// The causes that the analyser's checks tell of.
const CHECKED: [Cause; 6] = [
    Cause::BitrateLow,
    Cause::BitrateHigh,
    Cause::NullPackets,
    Cause::StreamType,
    Cause::PidUnlisted,
    Cause::PidMissing,
];

/// What holds, with its figure and its limit.
type Holding = [Option<(u64, u64)>; CHECKED.len()];

impl Stream {
    /// When there is something to look at next; `None` where the rule limits nothing of the kind.
    pub(super) fn next_conditions(&self) -> Option<Timestamp> {
        let rule = &self.cold.rule;
        let limits_any =
            rule.bitrate.is_some() || rule.null_packets.is_some() || rule.stream_types.is_some() || rule.pids.is_some();
        let analyser = self.judge.as_ref().filter(|_| limits_any)?.analyser()?;
        Some(analyser.next_check())
    }

    /// Looks whether the transport stream keeps the rule's limits, and lets the watch make of it what it will.
    pub(super) fn weigh_conditions(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let Some(analyser) = self.judge.as_mut().and_then(|judge| judge.analyser_mut()) else {
            return;
        };
        let mut holding = Holding::default();
        let looked = analyser.check(now, &self.cold.rule, &mut |_, event| note(&mut holding, &event));
        if !looked {
            return;
        }
        let Cold { identity, watch, .. } = &mut *self.cold;
        for (cause, held) in CHECKED.into_iter().zip(holding) {
            let (figure, limit) = held.unwrap_or_default();
            watch.level(now, cause, held.is_some(), figure, limit, &mut |at, change| {
                outbox.tell(at, identity, change);
            });
        }
        self.settle_state();
    }
}

/// Enters what holds: of several PIDs or types the first.
fn note(holding: &mut Holding, event: &TsEvent) {
    let (cause, figure, limit) = match *event {
        TsEvent::BitrateHigh { bitrate, limit } => (Cause::BitrateHigh, bitrate, limit),
        TsEvent::BitrateLow { bitrate, limit } => (Cause::BitrateLow, bitrate, limit),
        TsEvent::NullShare { percent, limit } => (Cause::NullPackets, percent.into(), limit.into()),
        TsEvent::UnlistedStreamType { stream_type, .. } => (Cause::StreamType, stream_type.into(), 0),
        TsEvent::UnlistedPid { pid } => (Cause::PidUnlisted, pid.into(), 0),
        TsEvent::MissingPid { pid } => (Cause::PidMissing, pid.into(), 0),
        TsEvent::Tr101290 { .. } | TsEvent::Table(_) | TsEvent::Cue(_) | TsEvent::Scrambling { .. } => return,
    };
    let mut places = CHECKED.into_iter().zip(holding);
    if let Some((_, place)) = places.find(|(checked, _)| *checked == cause) {
        place.get_or_insert((figure, limit));
    }
}
