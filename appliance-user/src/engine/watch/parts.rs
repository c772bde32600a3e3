//! What the state machine keeps of each cause and of a block, and the events that are made of it.

use core::time::Duration;

use super::cause::Cause;
use super::limits::millis;
use crate::engine::event::StreamChange;
use crate::engine::time::Timestamp;

/// What the end of a block is put down to, unless a new policy ended it.
const HOLD_OVER: &str = "hold-over";

/// A figure and the limit that it was compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// What was compared.
    pub figure: u64,
    /// The most that is borne, or the least.
    pub limit: u64,
    /// What the figure is taken over; zero where there is no such time.
    pub window: Duration,
    /// How long a block for it lasts.
    pub hold: Duration,
}

impl Figures {
    /// The event of a raise.
    pub(super) fn raised(&self, cause: Cause, on_exceed: &'static str, phase: Option<&'static str>) -> StreamChange {
        StreamChange::ConditionRaised {
            condition: cause.name(),
            cause: cause.key(),
            figure: self.figure,
            limit: self.limit,
            window_ms: self.window_ms(),
            on_exceed,
            phase,
        }
    }

    /// The event of a block that the rule does not have carried out.
    pub(super) fn withheld(&self, cause: Cause) -> StreamChange {
        StreamChange::BlockWithheld {
            condition: cause.name(),
            cause: cause.key(),
            figure: self.figure,
            limit: self.limit,
            window_ms: self.window_ms(),
            hold_ms: millis(self.hold),
            enforced: false,
        }
    }

    fn window_ms(&self) -> Option<u64> {
        (!self.window.is_zero()).then(|| millis(self.window))
    }
}

/// What moves the state, if it moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    /// Policy key of the limit, or what ended.
    pub cause: &'static str,
    /// Its figures.
    pub figures: Figures,
}

impl Trigger {
    /// Time has passed.
    pub(super) fn time(cause: &'static str) -> Self {
        Trigger {
            cause,
            figures: Figures::default(),
        }
    }
}

/// A condition that lasts, from its first moment on, raised or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    /// What holds.
    pub cause: Cause,
    /// Since when, without a pause.
    pub since: Timestamp,
    /// Its latest figure.
    pub figure: u64,
    /// The limit that the figure was compared with.
    pub limit: u64,
}

/// A cause that was raised and not cleared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raised {
    /// What was raised.
    pub cause: Cause,
    /// When.
    pub since: Timestamp,
    /// The last moment at which the limit was known to be exceeded.
    pub last: Timestamp,
}

/// A block, or one that is only told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// When it is over.
    pub until: Timestamp,
    /// What it is for.
    pub cause: Cause,
    /// Packets are dropped.
    pub enforced: bool,
    /// What its end is put down to.
    pub over: &'static str,
    /// What prolonged it last, or what it is for.
    pub latest: Cause,
    /// When it is told that it goes on, if it does: no earlier than it was last said to end.
    pub tell_from: Timestamp,
}

impl Hold {
    /// It begins, or begins anew.
    pub(super) fn new(at: Timestamp, cause: Cause, lasts: Duration, enforced: bool) -> Self {
        let until = at.after(lasts);
        Hold {
            until,
            cause,
            enforced,
            over: HOLD_OVER,
            latest: cause,
            tell_from: until,
        }
    }

    /// The event that it goes on.
    pub(super) fn prolonged(&self, now: Timestamp) -> StreamChange {
        StreamChange::BlockProlonged {
            condition: self.latest.name(),
            cause: self.latest.key(),
            hold_ms: millis(self.until.since(now)),
        }
    }
}

/// When media of a stream came.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Media {
    /// The last packet.
    pub last: Timestamp,
    /// The last packet or, where that is later, the time from which on the appliance has seen everything: it may have been
    /// blind before.
    pub quiet_since: Timestamp,
}
