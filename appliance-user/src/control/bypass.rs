//! When the kernel acts without a worker: noticing that a queue's packets take the failure action, and for how long.
//!
//! Pure. [`BypassWatch`] is shown one queue's heartbeat and the kernel's totals every few milliseconds and says when the
//! bypass was entered and left. The kernel decides packet by packet; this is its shadow for people.

use std::time::Duration;

use super::events::{BypassPackets, ControlEvent};

/// One queue at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub now: u64,
    /// The worker's last beat on the same clock; `None` if nobody beats.
    pub beat: Option<u64>,
    /// The worker's thread runs.
    pub running: bool,
    /// All packets that ever took a failure action.
    pub totals: BypassPackets,
}

/// Follows one queue.
#[derive(Clone, Debug)]
pub struct BypassWatch {
    queue: u32,
    limit: Duration,
    dark: Option<Dark>,
    /// The totals when the queue was last seen in the light.
    before: BypassPackets,
    /// The first beat that is not told about: of stalls that began before it the end was told, or nobody was there to see.
    told_until: u64,
}

#[derive(Clone, Copy, Debug)]
struct Dark {
    /// The last beat before it.
    since: u64,
    before: BypassPackets,
    takeover: bool,
}

impl BypassWatch {
    /// A queue whose worker is about to beat for the first time and whose program is not attached yet.
    pub fn fresh(queue: u32, limit: Duration, totals: BypassPackets) -> Self {
        BypassWatch {
            queue,
            limit,
            dark: None,
            before: totals,
            told_until: 0,
        }
    }

    /// A queue taken over from an earlier process, whose program kept acting: `since` is when that process was last alive,
    /// `before` the totals it last saw. Also returns the event that tells so.
    pub fn taken_over(
        queue: u32,
        limit: Duration,
        now: u64,
        since: u64,
        before: BypassPackets,
    ) -> (Self, ControlEvent) {
        let watch = BypassWatch {
            queue,
            limit,
            dark: Some(Dark {
                since,
                before,
                takeover: true,
            }),
            before,
            told_until: 0,
        };
        let heartbeat_age_ms = millis(now.saturating_sub(since));
        (
            watch,
            ControlEvent::BypassEntered {
                queue,
                cause: "no-process",
                heartbeat_age_ms,
            },
        )
    }

    /// Whether packets take the failure action as far as this has seen.
    pub fn is_dark(&self) -> bool {
        self.dark.is_some()
    }

    /// A stall that the worker found when it was over, from its last beat to the next, and that no observation fell into:
    /// whoever watches was standing still as well, as when the whole process is stopped. Returns both ends of it.
    pub fn missed(&mut self, (from, to): (u64, u64), totals: BypassPackets) -> Option<[ControlEvent; 2]> {
        if self.dark.is_some() || from < self.told_until {
            return None;
        }
        self.told_until = to;
        let packets = totals.since(self.before);
        self.before = totals;
        let dark_ms = millis(to.saturating_sub(from));
        let entered = ControlEvent::BypassEntered {
            queue: self.queue,
            cause: "heartbeat-stale",
            heartbeat_age_ms: dark_ms,
        };
        let left = ControlEvent::BypassLeft {
            queue: self.queue,
            dark_ms,
            packets,
            takeover: false,
        };
        Some([entered, left])
    }

    /// Takes one observation and says what changed.
    pub fn observe(&mut self, seen: Observation) -> Option<ControlEvent> {
        let age = seen.beat.map(|beat| seen.now.saturating_sub(beat));
        let fresh = age.is_some_and(|age| Duration::from_nanos(age) <= self.limit);
        match self.dark {
            None if fresh => {
                self.before = seen.totals;
                None
            }
            None => {
                let since = seen.beat.unwrap_or(seen.now);
                self.dark = Some(Dark {
                    since,
                    before: self.before,
                    takeover: false,
                });
                let cause = if seen.running {
                    "heartbeat-stale"
                } else {
                    "worker-ended"
                };
                let heartbeat_age_ms = millis(seen.now.saturating_sub(since));
                Some(ControlEvent::BypassEntered {
                    queue: self.queue,
                    cause,
                    heartbeat_age_ms,
                })
            }
            Some(dark) if fresh => {
                self.dark = None;
                self.told_until = seen.beat.unwrap_or(seen.now);
                self.before = seen.totals;
                Some(ControlEvent::BypassLeft {
                    queue: self.queue,
                    dark_ms: millis(seen.now.saturating_sub(dark.since)),
                    packets: seen.totals.since(dark.before),
                    takeover: dark.takeover,
                })
            }
            Some(_) => None,
        }
    }
}

impl BypassPackets {
    /// What was added since `before`.
    pub fn since(self, before: BypassPackets) -> BypassPackets {
        BypassPackets {
            returned: self.returned.saturating_sub(before.returned),
            dropped: self.dropped.saturating_sub(before.dropped),
            passed: self.passed.saturating_sub(before.passed),
        }
    }
}

/// What a process leaves beside its heartbeat for the one that comes after it, whatever ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// All packets that had taken a failure action.
    pub totals: BypassPackets,
    /// When this was written, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
}

impl Note {
    /// As the words beside the heartbeat.
    pub const fn to_words(self) -> [u64; 4] {
        [self.totals.returned, self.totals.dropped, self.totals.passed, self.at]
    }

    /// From the words beside the heartbeat. What says more than there is now was not left by a process on these maps: it is
    /// then as if one had ended just now.
    pub fn from_words([returned, dropped, passed, at]: [u64; 4], now: u64, totals: BypassPackets) -> Self {
        let noted = BypassPackets {
            returned,
            dropped,
            passed,
        };
        let possible = returned <= totals.returned && dropped <= totals.dropped && passed <= totals.passed;
        if possible && at > 0 && at <= now {
            Note { totals: noted, at }
        } else {
            Note { totals, at: now }
        }
    }
}

const fn millis(nanos: u64) -> u64 {
    nanos / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const LIMIT: Duration = Duration::from_millis(80);

    fn seen(now_ms: u64, beat_ms: u64, returned: u64) -> Observation {
        let totals = BypassPackets {
            returned,
            ..BypassPackets::default()
        };
        Observation {
            now: now_ms * MS,
            beat: Some(beat_ms * MS),
            running: true,
            totals,
        }
    }

    #[test]
    fn a_stall_is_told_once_on_entry_and_once_on_exit_with_its_packets() {
        let mut watch = BypassWatch::fresh(3, LIMIT, BypassPackets::default());
        assert_eq!(watch.observe(seen(1_000, 990, 10)), None);
        assert_eq!(watch.observe(seen(1_070, 990, 10)), None, "80 ms is still fresh");
        assert_eq!(
            watch.observe(seen(1_090, 990, 40)),
            Some(ControlEvent::BypassEntered {
                queue: 3,
                cause: "heartbeat-stale",
                heartbeat_age_ms: 100
            })
        );
        assert_eq!(watch.observe(seen(1_110, 990, 60)), None);
        let packets = BypassPackets {
            returned: 90,
            dropped: 0,
            passed: 0,
        };
        assert_eq!(
            watch.observe(seen(1_200, 1_199, 100)),
            Some(ControlEvent::BypassLeft {
                queue: 3,
                dark_ms: 210,
                packets,
                takeover: false
            }),
            "packets count from the last sight of a fresh beat"
        );
        assert_eq!(watch.observe(seen(1_220, 1_219, 100)), None);
    }

    #[test]
    fn a_stall_that_nobody_saw_is_told_once() {
        let totals = |returned| BypassPackets {
            returned,
            ..BypassPackets::default()
        };
        let mut watch = BypassWatch::fresh(1, LIMIT, totals(7));
        let events = watch.missed((1_000 * MS, 1_500 * MS), totals(607)).expect("told");
        assert_eq!(
            events,
            [
                ControlEvent::BypassEntered {
                    queue: 1,
                    cause: "heartbeat-stale",
                    heartbeat_age_ms: 500
                },
                ControlEvent::BypassLeft {
                    queue: 1,
                    dark_ms: 500,
                    packets: totals(600),
                    takeover: false
                }
            ]
        );
        assert_eq!(watch.missed((1_000 * MS, 1_500 * MS), totals(607)), None, "told twice");
        // One that was watched is told by the observations alone.
        assert!(watch.observe(seen(3_100, 3_000, 607)).is_some());
        assert!(watch.observe(seen(3_200, 3_190, 700)).is_some());
        assert_eq!(watch.missed((3_000 * MS, 3_190 * MS), totals(700)), None);
        assert!(
            watch.missed((3_190 * MS, 3_300 * MS), totals(700)).is_some(),
            "the next one"
        );
    }

    #[test]
    fn a_worker_that_ended_is_not_called_stale() {
        let mut watch = BypassWatch::fresh(0, LIMIT, BypassPackets::default());
        let event = watch.observe(Observation {
            running: false,
            beat: None,
            ..seen(5, 0, 0)
        });
        assert_eq!(
            event,
            Some(ControlEvent::BypassEntered {
                queue: 0,
                cause: "worker-ended",
                heartbeat_age_ms: 0
            })
        );
    }

    #[test]
    fn a_takeover_tells_what_the_kernel_did_alone() {
        let noted = BypassPackets {
            returned: 100,
            dropped: 0,
            passed: 0,
        };
        let (mut watch, event) = BypassWatch::taken_over(1, LIMIT, 5_000 * MS, 3_000 * MS, noted);
        assert_eq!(
            event,
            ControlEvent::BypassEntered {
                queue: 1,
                cause: "no-process",
                heartbeat_age_ms: 2_000
            }
        );
        assert_eq!(watch.observe(seen(5_020, 3_000, 900)), None, "not told twice");
        let packets = BypassPackets {
            returned: 850,
            dropped: 0,
            passed: 0,
        };
        assert_eq!(
            watch.observe(seen(5_040, 5_039, 950)),
            Some(ControlEvent::BypassLeft {
                queue: 1,
                dark_ms: 2_040,
                packets,
                takeover: true
            })
        );
        assert!(!watch.is_dark());
    }

    #[test]
    fn a_note_comes_back_and_one_from_other_maps_is_not_believed() {
        let now = BypassPackets {
            returned: 5,
            dropped: 5,
            passed: 5,
        };
        let left = Note {
            totals: BypassPackets {
                returned: 4,
                dropped: 5,
                passed: 0,
            },
            at: 70,
        };
        assert_eq!(Note::from_words(left.to_words(), 80, now), left);
        let none = Note { totals: now, at: 80 };
        for words in [[6, 0, 0, 70], [0, 0, 0, 0], [0, 0, 0, 81]] {
            assert_eq!(Note::from_words(words, 80, now), none, "{words:?}");
        }
    }
}
