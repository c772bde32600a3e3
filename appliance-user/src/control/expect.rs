//! Waits for the streams of rules that say `expected = true`, over all workers.
//!
//! A stream may reach any queue, and while one of them is in bypass or its worker stands still, XDP forwards packets that
//! nobody sees. So nothing is claimed to be missing unless every worker has been looking for as long as the rule's
//! `silence`.

use std::sync::Arc;

use super::events::ControlEvent;
use crate::engine::expect::{Activity, Expectations};
use crate::engine::time::Timestamp;
use crate::worker::PolicySlot;

/// How far the workers see, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Every queue has a worker that runs and beats.
    pub everywhere: bool,
    /// Times that workers found their own heartbeat stale, all workers together: a stall that is over already.
    pub stalls: u64,
}

/// The waiting.
#[derive(Debug)]
pub struct ExpectWatch {
    policy: Arc<PolicySlot>,
    generation: u64,
    expectations: Expectations,
    stalls: u64,
}

impl ExpectWatch {
    /// Waits from `now` on, in nanoseconds of `CLOCK_MONOTONIC`.
    pub fn new(policy: Arc<PolicySlot>, now: u64) -> Self {
        let published = policy.load();
        let expectations = Expectations::new(published.policy.rules(), Timestamp::from_nanos(now));
        let generation = published.generation;
        drop(published);
        ExpectWatch {
            policy,
            generation,
            expectations,
            stalls: 0,
        }
    }

    /// What changed, given how far the workers see; `gather` adds to the notes what they noted.
    pub fn look(&mut self, now: u64, sight: Sight, gather: impl FnOnce(&mut Activity)) -> Vec<ControlEvent> {
        let now = Timestamp::from_nanos(now);
        let published = self.policy.load();
        if published.generation != self.generation {
            self.generation = published.generation;
            self.expectations.readmit(published.policy.rules(), now);
        }
        if !sight.everywhere || sight.stalls != self.stalls {
            self.stalls = sight.stalls;
            self.expectations.blind(now);
        }
        let mut activity = Activity::new(self.generation);
        gather(&mut activity);
        let mut events = Vec::new();
        self.expectations
            .check(now, &activity, |change| events.push(ControlEvent::Expected(change)));
        events
    }

    /// The rules that are waited for, and whether their streams are missing.
    pub fn rules(&self) -> Vec<(Arc<str>, bool)> {
        let rules = self.expectations.iter();
        rules.map(|(name, missing)| (Arc::clone(name), missing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::figures::{self, Figures, KernelFigures};
    use crate::control::health::Health;
    use crate::control::metrics;
    use crate::control::status;
    use crate::engine::expect::Expectation;
    use crate::engine::{Config, Engine};
    use crate::policy;
    use crate::worker::Published;

    const EVERYWHERE: Sight = Sight {
        everywhere: true,
        stalls: 0,
    };
    const MS: u64 = 1_000_000;

    fn published(generation: u64, expected: &str) -> Published {
        let text = format!(
            "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"rtp\"\nsource = \
             [\"10.0.0.0/24\"]\n{expected}"
        );
        Published {
            policy: policy::parse("p.toml", &text).expect("a valid policy"),
            generation,
        }
    }

    fn waiting() -> (Arc<PolicySlot>, ExpectWatch) {
        let slot = Arc::new(PolicySlot::from_pointee(published(
            1,
            "expected = true\nsilence = \"1s\"\nclear_after = \"2s\"\n",
        )));
        let watch = ExpectWatch::new(Arc::clone(&slot), 0);
        (slot, watch)
    }

    /// A bare RTP packet from 10.0.0.1 through an engine.
    fn send(engine: &mut Engine, slot: &PolicySlot, ms: u64, sequence: u16) {
        let published = slot.load();
        let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 61, 17, 0, 0, 10, 0, 0, 1, 10, 0, 9, 9];
        packet.extend_from_slice(&[0x9c, 0x40, 0x13, 0x88, 0, 20, 0, 0, 0x80, 33]);
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 7]);
        let policy = crate::engine::Published {
            policy: &published.policy,
            generation: published.generation,
        };
        engine.process_bare(Timestamp::from_nanos(ms * MS), &policy, &packet);
    }

    fn names(events: &[ControlEvent]) -> Vec<String> {
        let name = |event| serde_json::to_value(event).expect("serialises")["event"].to_string();
        events.iter().map(name).collect()
    }

    #[test]
    fn a_stream_on_any_worker_is_there_and_one_on_none_is_missing() {
        let (slot, mut watch) = waiting();
        let mut engines = [Engine::new(Config::default()), Engine::new(Config::default())];
        let mut told = Vec::new();
        for ms in (0..20_000_u64).step_by(100) {
            // Five seconds on each of two workers, five seconds nowhere, then back.
            if !(10_000..15_000).contains(&ms) {
                let worker = usize::from((5000..10_000).contains(&ms));
                send(&mut engines[worker], &slot, ms, (ms / 100) as u16);
            }
            let events = watch.look(ms * MS, EVERYWHERE, |all| {
                engines.iter().for_each(|engine| all.merge(engine.activity()));
            });
            told.extend(names(&events).into_iter().map(|name| (ms, name)));
        }
        assert_eq!(
            told,
            [
                (11_000, "\"expected-missing\"".to_owned()),
                // Its numbers are far from where the first worker left them, so the second packet brings it back.
                (17_100, "\"expected-back\"".to_owned())
            ]
        );
    }

    #[test]
    fn nothing_is_claimed_while_a_worker_is_away_nor_of_the_time_of_a_stall() {
        let (_slot, mut watch) = waiting();
        let blind = Sight {
            everywhere: false,
            stalls: 0,
        };
        for ms in (0..10_000).step_by(100) {
            assert_eq!(watch.look(ms * MS, blind, |_| ()), []);
        }
        assert_eq!(watch.look(10_800 * MS, EVERYWHERE, |_| ()), []);
        let stalled = Sight {
            stalls: 1,
            ..EVERYWHERE
        };
        assert_eq!(
            watch.look(15_000 * MS, stalled, |_| ()),
            [],
            "the stall is over already"
        );
        assert_eq!(watch.look(15_900 * MS, stalled, |_| ()), []);
        let told = watch.look(16_100 * MS, stalled, |_| ());
        assert_eq!(
            told,
            [ControlEvent::Expected(Expectation::ExpectedMissing {
                rule: "studio".into(),
                ever: false,
                silent_ms: 1100,
                limit_ms: 1000
            })]
        );
    }

    #[test]
    fn a_new_policy_is_taken_up() {
        let (slot, mut watch) = waiting();
        assert_eq!(watch.look(2000 * MS, EVERYWHERE, |_| ()).len(), 1);
        assert_eq!(watch.rules(), [("studio".into(), true)]);
        slot.store(Arc::new(published(2, "")));
        assert_eq!(watch.look(9000 * MS, EVERYWHERE, |_| ()), []);
        assert_eq!(watch.rules(), []);
    }

    #[test]
    fn the_metric_says_which_rule_is_silent() {
        let (_slot, mut watch) = waiting();
        watch.look(2000 * MS, EVERYWHERE, |_| ());
        let figures = Figures {
            facts: figures::Facts::default(),
            kernel: KernelFigures::zero(),
            queues: Vec::new(),
            events: [0; 3],
            health: Health::Ok,
            uptime: std::time::Duration::ZERO,
            expected: watch.rules(),
        };
        let text = metrics::render(figures::families(&figures));
        assert!(text.contains("tidegate_rule_silent{rule=\"studio\"} 1"), "{text}");
        assert_eq!(
            status::status(&figures)["expected"],
            serde_json::json!([{"rule": "studio", "missing": true}])
        );
    }
}
