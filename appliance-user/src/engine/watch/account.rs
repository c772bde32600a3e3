//! What one limit counts, with and without what may have been injected.
//!
//! All of it may alert; what did not happen beside a sign of injection alone may block, and of that, incidents: one
//! failover of an encoder makes many errors and violations at once, and must not black out the feed that it saves.

use super::cause::Cause;
use super::limits::Limit;
use crate::engine::judge::incidents::{INCIDENT, Incidents, SlidingLimit};
use crate::engine::time::Timestamp;

/// The account of one counted cause.
#[derive(Debug)]
pub(super) struct Account {
    all: SlidingLimit,
    incidents: Incidents,
    /// Where the limit may block: what did not stand beside a finding.
    untainted: Option<(SlidingLimit, Incidents)>,
    last: Timestamp,
}

/// What an account holds within its limit's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// All of it.
    pub all: u64,
    /// What may block.
    pub untainted: u64,
}

impl Account {
    pub(super) fn new(limit: &Limit) -> Self {
        let sliding = || SlidingLimit::new(limit.max, limit.window());
        Account {
            all: sliding(),
            incidents: Incidents::new(),
            untainted: limit.blocks.then(|| (sliding(), Incidents::new())),
            last: Timestamp::default(),
        }
    }

    /// Adds what happened at `at` and returns what the window that ends there holds.
    pub(super) fn add(&mut self, at: Timestamp, cause: Cause, count: u64, tainted: bool) -> Counted {
        self.last = at;
        let fresh = match cause {
            Cause::Continuity => u64::from(self.incidents.event(at)),
            _ => count,
        };
        let untainted = self.untainted.as_mut().map_or(0, |(limit, incidents)| {
            let fresh = match cause {
                _ if tainted => 0,
                Cause::Continuity | Cause::Tr101290 => u64::from(incidents.event(at)),
                _ => count,
            };
            limit.add(at, fresh)
        });
        Counted {
            all: self.all.add(at, fresh),
            untainted,
        }
    }

    /// Whether the window that ends at `now` holds more than the limit.
    pub(super) fn is_exceeded(&mut self, now: Timestamp) -> bool {
        self.all.is_exceeded(now)
    }

    /// Whether nothing is left in the window that ends at `now`, nor of an incident, so that the account can be given up.
    pub(super) fn is_idle(&mut self, now: Timestamp) -> bool {
        self.all.count(now) == 0 && now.since(self.last) >= INCIDENT
    }

    /// Bytes held on the heap, the account itself included.
    pub(super) fn memory(&self) -> usize {
        let untainted = self.untainted.as_ref().map_or(0, |(limit, _)| limit.memory());
        size_of::<Account>() + self.all.memory() + untainted
    }
}
