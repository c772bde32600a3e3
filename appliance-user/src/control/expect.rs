//! Waits for the streams of rules that say `expected = true`, over all workers.
//!
//! A stream may reach any queue, and while one of them is in bypass or its worker stands still, XDP forwards packets that
//! nobody sees. So nothing is claimed to be missing unless every worker has been looking for as long as the rule's
//! `silence`.

use std::sync::Arc;

use super::events::ControlEvent;
use crate::engine::expect::{Activity, Expectation, Expectations};
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
            .check(now, &activity, |change| events.push(change.into()));
        events
    }

    /// The rules that are waited for, and whether their streams are missing.
    pub fn rules(&self) -> Vec<(Arc<str>, bool)> {
        let rules = self.expectations.iter();
        rules.map(|(name, missing)| (Arc::clone(name), missing)).collect()
    }
}

impl From<Expectation> for ControlEvent {
    fn from(change: Expectation) -> Self {
        match change {
            Expectation::ExpectedMissing {
                rule,
                ever,
                silent_ms,
                limit_ms,
            } => ControlEvent::ExpectedMissing {
                rule,
                ever,
                silent_ms,
                limit_ms,
            },
            Expectation::ExpectedBack { rule, missing_ms } => ControlEvent::ExpectedBack { rule, missing_ms },
        }
    }
}
