//! A stream's state: what its rule's limits make of what the judge finds.
//!
//! Findings act on the stream, never on one packet. Two separate accounts are kept of everything a limit counts: all of
//! it, which may alert, and what did not happen beside a sign of injection, which alone may block. Who can inject
//! packets must not be able to have a good stream blocked.

use core::time::Duration;

use super::judge::incidents::{Incidents, SlidingLimit};
use super::report::StreamState;
use super::time::Timestamp;
use crate::policy::Rule;
use crate::policy::rule::OnExceed;
use crate::policy::set::PidSet;

/// A raised state clears after this long without another excess.
const CLEAR_AFTER: Duration = Duration::from_secs(10);

/// A change of state and what caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    /// State before.
    pub from: StreamState,
    /// State now.
    pub to: StreamState,
    /// Policy key of the limit, or the time that ran out.
    pub cause: &'static str,
    /// What was counted within the window.
    pub count: u64,
    /// The most that the rule allows.
    pub limit: u64,
    /// The limit's window.
    pub window: Duration,
}

/// What one limit counts, with and without what may have been injected.
#[derive(Debug)]
struct Account {
    cause: &'static str,
    limit: u64,
    window: Duration,
    hold: Duration,
    blocks: bool,
    all: SlidingLimit,
    untainted: SlidingLimit,
}

impl Account {
    fn new(cause: &'static str, limit: u64, window: Duration, hold: Duration, blocks: bool) -> Self {
        Account {
            cause,
            limit,
            window,
            hold,
            blocks,
            all: SlidingLimit::new(limit, window),
            untainted: SlidingLimit::new(limit, window),
        }
    }
}

/// The state machine of one stream.
#[derive(Debug)]
pub(super) struct Watch {
    state: StreamState,
    worst: StreamState,
    until: Timestamp,
    continuity: Account,
    network_loss: Account,
    incidents: Incidents,
    untainted_incidents: Incidents,
    ignored_pids: PidSet,
}

impl Watch {
    /// A healthy stream under `rule`. With `enforce = false` the rule's blocks become alerts.
    pub(super) fn new(rule: &Rule) -> Self {
        let continuity = &rule.ts.continuity;
        let loss = &rule.ts.network_loss;
        let blocks = |on_exceed| rule.enforce && matches!(on_exceed, OnExceed::Block);
        Watch {
            state: StreamState::Healthy,
            worst: StreamState::Healthy,
            until: Timestamp::default(),
            continuity: Account::new(
                "continuity",
                continuity.max_incidents.into(),
                continuity.window,
                continuity.hold,
                blocks(continuity.on_exceed),
            ),
            network_loss: Account::new(
                "network_loss",
                loss.max_packets.into(),
                loss.window,
                loss.hold,
                blocks(loss.on_exceed),
            ),
            incidents: Incidents::new(),
            untainted_incidents: Incidents::new(),
            ignored_pids: continuity.ignore_pids.clone(),
        }
    }

    /// The policy changed: the limits are the new rule's, the state stays until they say otherwise.
    pub(super) fn readmit(&mut self, rule: &Rule) {
        *self = Watch {
            state: self.state,
            worst: self.worst,
            until: self.until,
            ..Watch::new(rule)
        };
    }

    /// The state now.
    pub(super) fn state(&self) -> StreamState {
        self.state
    }

    /// The worst state so far.
    pub(super) fn worst(&self) -> StreamState {
        self.worst
    }

    /// A continuity error that the network did not make.
    pub(super) fn continuity_error(&mut self, at: Timestamp, pid: u16, tainted: bool) -> Option<Transition> {
        if self.ignored_pids.contains(pid) {
            return None;
        }
        let fresh = u64::from(self.incidents.event(at));
        let fresh_untainted = u64::from(!tainted && self.untainted_incidents.event(at));
        let (all, untainted) = (
            self.continuity.all.add(at, fresh),
            self.continuity.untainted.add(at, fresh_untainted),
        );
        self.judge(at, all, untainted, |watch| &watch.continuity)
    }

    /// Packets that the network lost.
    pub(super) fn lost(&mut self, at: Timestamp, packets: u64, tainted: bool) -> Option<Transition> {
        let untainted = if tainted { 0 } else { packets };
        let (all, untainted) = (
            self.network_loss.all.add(at, packets),
            self.network_loss.untainted.add(at, untainted),
        );
        self.judge(at, all, untainted, |watch| &watch.network_loss)
    }

    /// Lets time pass: a block's hold ends in probation (degraded, but flowing), a quiet degraded stream is healthy again.
    pub(super) fn advance(&mut self, now: Timestamp) -> Option<Transition> {
        if self.state == StreamState::Healthy || now < self.until {
            return None;
        }
        match self.state {
            StreamState::Blocked => self.enter(StreamState::Degraded, now.after(CLEAR_AFTER), "hold-over"),
            _ => self.enter(StreamState::Healthy, now, "clear"),
        }
    }

    fn judge(&mut self, at: Timestamp, all: u64, untainted: u64, which: fn(&Self) -> &Account) -> Option<Transition> {
        let account = which(self);
        let (cause, limit, window) = (account.cause, account.limit, account.window);
        let (to, until, count) = if account.blocks && untainted > limit {
            (StreamState::Blocked, at.after(account.hold), untainted)
        } else if all > limit {
            (StreamState::Degraded, at.after(CLEAR_AFTER), all)
        } else {
            return None;
        };
        if to < self.state {
            return None;
        }
        self.enter(to, until, cause).map(|t| Transition {
            count,
            limit,
            window,
            ..t
        })
    }

    fn enter(&mut self, to: StreamState, until: Timestamp, cause: &'static str) -> Option<Transition> {
        let from = core::mem::replace(&mut self.state, to);
        self.until = until;
        self.worst = self.worst.max(to);
        (from != to).then_some(Transition {
            from,
            to,
            cause,
            count: 0,
            limit: 0,
            window: Duration::ZERO,
        })
    }
}
