//! A rule's limits in the form in which a stream keeps them: small, for there are as many copies as streams.

use core::time::Duration;

use super::cause::Cause;
use crate::policy::Rule;
use crate::policy::rule::{OnExceed, TsRule};

/// One limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// The most that is borne; of a condition that lasts, its caller states the limit.
    pub max: u64,
    window_ns: u64,
    hold_ns: u64,
    /// Whether the rule says `on_exceed = "block"`.
    pub blocks: bool,
}

impl Limit {
    fn new(max: u64, window: Duration, on_exceed: OnExceed, hold: Duration) -> Self {
        Limit {
            max,
            window_ns: nanos(window),
            hold_ns: nanos(hold),
            blocks: matches!(on_exceed, OnExceed::Block),
        }
    }

    /// What the figure is taken over; zero where there is no such time.
    pub(super) fn window(&self) -> Duration {
        Duration::from_nanos(self.window_ns)
    }

    /// How long a block lasts.
    pub(super) fn hold(&self) -> Duration {
        Duration::from_nanos(self.hold_ns)
    }

    /// Whether what was counted for the other limit can go on being counted for this one.
    pub(super) fn counts_like(&self, other: &Limit) -> bool {
        (self.max, self.window_ns, self.blocks) == (other.max, other.window_ns, other.blocks)
    }

    /// The policy key's value.
    pub(super) fn on_exceed(&self) -> &'static str {
        if self.blocks { "block" } else { "alert" }
    }
}

/// The limits of one rule.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    counted: [Limit; Cause::COUNTED],
    silence: Option<Duration>,
    bitrate: Option<Limit>,
    null_packets: Option<Limit>,
    stream_types: Option<Limit>,
    pids: Option<Limit>,
    /// How long a condition must hold before it is raised.
    pub raise_after: Duration,
    /// How long it must be absent before it is cleared.
    pub clear_after: Duration,
    /// Whether blocks are carried out.
    pub enforce: bool,
    /// PIDs whose continuity is not judged, in ascending order.
    ignored: Box<[u16]>,
}

impl Limits {
    pub(super) fn new(rule: &Rule) -> Self {
        let ts = &rule.ts;
        let (types, pids) = (ts.stream_types.as_ref(), ts.pids.as_ref());
        Limits {
            counted: counted(ts),
            silence: rule.silence,
            bitrate: ts
                .bitrate
                .as_ref()
                .map(|l| Limit::new(0, l.window, l.on_exceed, l.hold)),
            null_packets: ts
                .null_packets
                .as_ref()
                .map(|l| Limit::new(0, l.window, l.on_exceed, l.hold)),
            stream_types: types.map(|l| Limit::new(0, Duration::ZERO, l.on_exceed, l.hold)),
            pids: pids.map(|l| Limit::new(0, Duration::ZERO, l.on_exceed, l.hold)),
            raise_after: rule.raise_after,
            clear_after: rule.clear_after,
            enforce: rule.enforce,
            ignored: ts.continuity.ignore_pids.iter().collect(),
        }
    }

    /// The limit on a cause; `None` where the rule sets none.
    pub(super) fn of(&self, cause: Cause) -> Option<Limit> {
        match cause {
            Cause::Continuity | Cause::NetworkLoss | Cause::Tr101290 | Cause::Scte35 => {
                cause.counted().and_then(|place| self.counted.get(place)).copied()
            }
            Cause::Silence => self
                .silence
                .map(|silence| Limit::new(millis(silence), Duration::ZERO, OnExceed::Alert, Duration::ZERO)),
            Cause::BitrateLow | Cause::BitrateHigh => self.bitrate,
            Cause::NullPackets => self.null_packets,
            Cause::StreamType => self.stream_types,
            Cause::PidUnlisted | Cause::PidMissing => self.pids,
        }
    }

    /// How long the stream may be silent.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.silence
    }

    /// Whether the rule ignores the continuity of a PID.
    pub(super) fn ignores(&self, pid: u16) -> bool {
        self.ignored.binary_search(&pid).is_ok()
    }

    /// Bytes held on the heap.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.ignored)
    }
}

fn counted(ts: &TsRule) -> [Limit; Cause::COUNTED] {
    let (continuity, loss, tr101290) = (&ts.continuity, &ts.network_loss, &ts.tr101290);
    [
        Limit::new(
            continuity.max_incidents.into(),
            continuity.window,
            continuity.on_exceed,
            continuity.hold,
        ),
        Limit::new(loss.max_packets.into(), loss.window, loss.on_exceed, loss.hold),
        Limit::new(
            tr101290.max_violations.into(),
            tr101290.window,
            tr101290.on_exceed,
            tr101290.hold,
        ),
        // Each fault by itself exceeds: what a window would hold does not matter.
        Limit::new(0, Duration::ZERO, ts.scte35.on_exceed, ts.scte35.hold),
    ]
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
