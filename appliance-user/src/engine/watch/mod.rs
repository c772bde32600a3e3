//! A stream's state: what its rule's limits make of what is found.
//!
//! Findings act on the stream, never on one packet. There are two kinds of causes. *Counted* ones (continuity, loss,
//! TR 101 290, splice information) are raised at once when more than the limit happens within the sliding window, and
//! cleared when the window holds no more than the limit and nothing exceeded it for `clear_after`. *Conditions* (bit rate,
//! null packets, stream types, PIDs) are raised when they have held for `raise_after`, and cleared when they have been
//! absent for `clear_after`. Silence is a condition whose own time is its `raise_after`. Each raise and each clear is told
//! once, whatever state the stream is in.
//!
//! While anything is raised the stream is degraded. Where its limit says so, it is blocked, until nothing that blocks has
//! exceeded for `hold`; then it flows again on probation, which is told as degraded, until it is healthy. A limit that is
//! exceeded on probation blocks again at once and for the same hold: a block that grew by itself would keep a repaired
//! stream dark for reasons that no rule states.
//!
//! Who can inject packets must not be able to have a good stream blocked. What is counted beside a sign of injection never
//! feeds a block; a condition blocks only after it has held long enough for such signs to show, and not within [`INNOCENT`]
//! of one.

mod account;
mod cause;
mod limits;
mod parts;
#[cfg(test)]
mod tests;

use core::time::Duration;

use self::account::Account;
pub(super) use self::cause::Cause;
use self::limits::{Limits, millis};
pub(super) use self::parts::Media;
use self::parts::{Figures, Hold, Level, Raised, Trigger};
use super::event::StreamChange;
use super::report::{StreamProtocol, StreamState};
use super::time::Timestamp;
use crate::policy::Rule;

/// How long a condition must have held before it blocks: a number that was forged ahead of its time meets the genuine one,
/// and so becomes a finding, within that.
const SETTLING: Duration = Duration::from_secs(2);
/// How long after a finding no condition blocks; the window that its figure is averaged over comes on top. Longer than any
/// absence or interval that a condition is derived from lasts on a sound stream.
const INNOCENT: Duration = Duration::from_secs(10);
/// A stream without media for longer does not go on being blocked for what it sent before.
const FLOWING: Duration = Duration::from_secs(2);
/// What the operator of a blocked SRT stream has to know.
const SRT_NOTE: &str = "an SRT session whose data is blocked for about 5 s breaks; its caller has to call again";

/// The phase between a block and health, by its name in events.
const PROBATION: &str = "probation";

/// The state machine of one stream.
#[derive(Debug)]
pub(super) struct Watch {
    state: StreamState,
    worst: StreamState,
    is_srt: bool,
    limits: Limits,
    /// Allocated for a cause's first count, given up when its window is empty.
    accounts: [Option<Box<Account>>; Cause::COUNTED],
    /// At most one of each cause.
    levels: Vec<Level>,
    /// At most one of each cause.
    raised: Vec<Raised>,
    hold: Option<Hold>,
    /// The block's hold is over; healthy no earlier than this.
    probation: Option<Timestamp>,
    tainted: Option<Timestamp>,
}

impl Watch {
    /// A healthy stream under `rule`. With `enforce = false` the rule's blocks become alerts.
    pub(super) fn new(rule: &Rule, protocol: StreamProtocol) -> Self {
        Watch {
            state: StreamState::Healthy,
            worst: StreamState::Healthy,
            is_srt: protocol == StreamProtocol::Srt,
            limits: Limits::new(rule),
            accounts: Default::default(),
            levels: Vec::new(),
            raised: Vec::new(),
            hold: None,
            probation: None,
            tainted: None,
        }
    }

    /// The policy changed: what the new rule still limits stays as it stands, what it no longer blocks for is let go with the
    /// next [`Watch::advance`], and counts go on where their limit is the same.
    pub(super) fn readmit(&mut self, rule: &Rule) {
        let old = core::mem::replace(&mut self.limits, Limits::new(rule));
        let counted = [Cause::Continuity, Cause::NetworkLoss, Cause::Tr101290, Cause::Scte35];
        for (account, cause) in self.accounts.iter_mut().zip(counted) {
            let same = match (old.of(cause), self.limits.of(cause)) {
                (Some(old), Some(new)) => old.counts_like(&new),
                _ => false,
            };
            if !same {
                *account = None;
            }
        }
        let limits = &self.limits;
        self.levels.retain(|level| limits.of(level.cause).is_some());
        self.hold = self.hold.filter(|hold| hold.enforced || !limits.enforce);
        if let Some(hold) = &mut self.hold {
            let blocks = limits.of(hold.cause).is_some_and(|limit| limit.blocks);
            if !blocks || hold.enforced && !limits.enforce {
                (hold.until, hold.over) = (Timestamp::default(), "policy");
            }
        }
    }

    /// The state now.
    pub(super) fn state(&self) -> StreamState {
        self.state
    }

    /// The worst state so far.
    pub(super) fn worst(&self) -> StreamState {
        self.worst
    }

    /// What is raised now, in the order in which it was raised.
    pub(super) fn standing(&self) -> impl Iterator<Item = Cause> + '_ {
        self.raised.iter().map(|raised| raised.cause)
    }

    /// Bytes held on the heap.
    pub(super) fn memory(&self) -> usize {
        let accounts: usize = self.accounts.iter().flatten().map(|account| account.memory()).sum();
        accounts
            + self.limits.memory()
            + self.levels.capacity() * size_of::<Level>()
            + self.raised.capacity() * size_of::<Raised>()
    }

    /// A sign that somebody injects packets: what stands beside it blocks nothing.
    pub(super) fn taint(&mut self, at: Timestamp) {
        self.tainted = self.tainted.max(Some(at));
    }

    /// A continuity error that the network did not make.
    pub(super) fn continuity_error(
        &mut self,
        at: Timestamp,
        pid: u16,
        tainted: bool,
        out: &mut impl FnMut(Timestamp, StreamChange),
    ) {
        if !self.limits.ignores(pid) {
            self.count(at, Cause::Continuity, 1, tainted, out);
        }
    }

    /// `count` more of a counted cause at `at`. `tainted` where it stands beside a sign of injection. Other causes are no
    /// counts, and are left alone.
    pub(super) fn count(
        &mut self,
        at: Timestamp,
        cause: Cause,
        count: u64,
        tainted: bool,
        out: &mut impl FnMut(Timestamp, StreamChange),
    ) {
        let (Some(limit), Some(account)) = (
            self.limits.of(cause),
            cause.counted().and_then(|place| self.accounts.get_mut(place)),
        ) else {
            return;
        };
        if count == 0 {
            return;
        }
        let account = account.get_or_insert_with(|| Box::new(Account::new(&limit)));
        let counted = account.add(at, cause, count, tainted);
        let figures = |figure| Figures {
            figure,
            limit: limit.max,
            window: limit.window(),
            hold: limit.hold(),
        };
        let mut trigger = Trigger {
            cause: cause.key(),
            figures: figures(counted.all),
        };
        if counted.all > limit.max {
            self.raise(at, cause, trigger.figures, out);
        }
        if limit.blocks && counted.untainted > limit.max {
            trigger.figures = figures(counted.untainted);
            self.block(at, cause, trigger.figures, out);
        }
        self.settle(at, trigger, out);
    }

    /// Whether a condition holds at `at`, with its figure and the limit that it was compared with (bits per second, per cent,
    /// a stream type or a PID). It holds until it is said not to hold any more; saying the same again changes nothing but the
    /// figures. Where the rule has no such limit, nothing follows.
    pub(super) fn level(
        &mut self,
        at: Timestamp,
        cause: Cause,
        holds: bool,
        figure: u64,
        limit: u64,
        out: &mut impl FnMut(Timestamp, StreamChange),
    ) {
        if cause.counted().is_some() || cause == Cause::Silence || self.limits.of(cause).is_none() {
            return;
        }
        let known = self.levels.iter().position(|level| level.cause == cause);
        match (holds, known.and_then(|place| self.levels.get_mut(place))) {
            (true, Some(level)) => (level.figure, level.limit) = (figure, limit),
            (true, None) => self.levels.push(Level {
                cause,
                since: at,
                figure,
                limit,
            }),
            (false, Some(_)) => {
                self.levels.retain(|level| level.cause != cause);
                self.still_raised(cause, at);
            }
            (false, None) => return,
        }
        self.weigh(at, cause, true, out);
    }

    /// The stream's media stopped at `since`, as far as the appliance saw; a matter of the rule's `silence`.
    pub(super) fn silent(&mut self, now: Timestamp, since: Timestamp, out: &mut impl FnMut(Timestamp, StreamChange)) {
        let silent = now.since(since);
        let Some(limit) = self.limits.silence().filter(|limit| silent > *limit) else {
            return;
        };
        let figures = Figures {
            figure: millis(silent),
            limit: millis(limit),
            ..Figures::default()
        };
        self.raise(now, Cause::Silence, figures, out);
        let cause = Cause::Silence.key();
        self.settle(now, Trigger { cause, figures }, out);
    }

    /// Lets time pass: conditions that have held or been absent long enough, holds and probations that are over. `media` is
    /// `None` where nobody waits for media: the stream is not confirmed, or a companion of another.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        media: Option<Media>,
        out: &mut impl FnMut(Timestamp, StreamChange),
    ) {
        if let Some(media) = media {
            self.silent(now, media.quiet_since, out);
        }
        if self.is_quiet() {
            return;
        }
        let flowing = media.is_some_and(|media| now.since(media.last) <= FLOWING);
        for place in 0..self.levels.len() {
            if let Some(cause) = self.levels.get(place).map(|level| level.cause) {
                self.weigh(now, cause, flowing, out);
            }
        }
        self.clear(now, media, out);
        self.end_hold(now, flowing, out);
        self.tell_prolonged(now, out);
        if self.raised.is_empty() && self.probation.is_some_and(|until| now >= until) {
            self.settle_with(now, Trigger::time("clear"), |watch| watch.probation = None, out);
        }
        for account in &mut self.accounts {
            if account.as_mut().is_some_and(|account| account.is_idle(now)) {
                *account = None;
            }
        }
    }

    /// Whether only silence may come of the passing of time.
    pub(super) fn is_quiet(&self) -> bool {
        self.state == StreamState::Healthy
            && self.raised.is_empty()
            && self.levels.is_empty()
            && self.hold.is_none()
            && self.accounts.iter().all(Option::is_none)
    }

    /// Raises a condition that has held for long enough and, where packets flow, blocks for it if the rule says so.
    fn weigh(&mut self, now: Timestamp, cause: Cause, flowing: bool, out: &mut impl FnMut(Timestamp, StreamChange)) {
        let Some(level) = self.levels.iter().find(|level| level.cause == cause).copied() else {
            return;
        };
        let Some(limit) = self.limits.of(cause) else { return };
        let figures = Figures {
            figure: level.figure,
            limit: level.limit,
            window: limit.window(),
            hold: limit.hold(),
        };
        if now.since(level.since) >= self.limits.raise_after {
            self.raise(now, cause, figures, out);
        }
        // A hold that goes on is looked at when it is over.
        if flowing && self.hold.is_none() && self.level_blocks(&level, now) {
            self.block(now, cause, figures, out);
        }
        let cause = cause.key();
        self.settle(now, Trigger { cause, figures }, out);
    }

    /// Whether a condition may block: it has lasted, and nobody is known to have been injecting packets.
    fn level_blocks(&self, level: &Level, now: Timestamp) -> bool {
        self.limits.of(level.cause).is_some_and(|limit| {
            let innocent = INNOCENT.saturating_add(limit.window());
            limit.blocks
                && now.since(level.since) >= self.limits.raise_after.max(SETTLING)
                && self.tainted.is_none_or(|finding| now.since(finding) >= innocent)
        })
    }

    fn raise(&mut self, at: Timestamp, cause: Cause, figures: Figures, out: &mut impl FnMut(Timestamp, StreamChange)) {
        if self.still_raised(cause, at) {
            return;
        }
        self.raised.push(Raised {
            cause,
            since: at,
            last: at,
        });
        let on_exceed = self.limits.of(cause).map_or("alert", |limit| limit.on_exceed());
        let change = figures.raised(cause, on_exceed, self.phase());
        out(at, change);
    }

    /// Notes that a cause goes on; `false` where it was not raised.
    fn still_raised(&mut self, cause: Cause, at: Timestamp) -> bool {
        let raised = self.raised.iter_mut().find(|raised| raised.cause == cause);
        raised.map(|raised| raised.last = raised.last.max(at)).is_some()
    }

    /// Clears what has been absent for long enough, or what the rule no longer limits.
    fn clear(&mut self, now: Timestamp, media: Option<Media>, out: &mut impl FnMut(Timestamp, StreamChange)) {
        let clear_after = self.limits.clear_after;
        for place in (0..self.raised.len()).rev() {
            let Some(raised) = self.raised.get(place).copied() else {
                continue;
            };
            let limited = self.limits.of(raised.cause).is_some();
            // Only packets end a silence.
            let until = match (raised.cause, media) {
                (Cause::Silence, Some(media)) => media.last,
                _ => now,
            };
            if limited && (until.since(raised.last) < clear_after || self.goes_on(raised.cause, now)) {
                continue;
            }
            self.raised.remove(place);
            let change = StreamChange::ConditionCleared {
                condition: raised.cause.name(),
                cause: raised.cause.key(),
                lasted_ms: millis(now.since(raised.since)),
                phase: self.phase(),
            };
            out(now, change);
        }
        self.settle(now, Trigger::time("clear"), out);
    }

    /// Whether a raised cause exceeds its limit at this moment.
    fn goes_on(&mut self, cause: Cause, now: Timestamp) -> bool {
        match cause.counted().and_then(|place| self.accounts.get_mut(place)) {
            Some(account) => account.as_mut().is_some_and(|account| account.is_exceeded(now)),
            None => self.levels.iter().any(|level| level.cause == cause),
        }
    }

    /// Blocks the stream, or prolongs the block; with `enforce = false` only tells it.
    fn block(&mut self, at: Timestamp, cause: Cause, figures: Figures, out: &mut impl FnMut(Timestamp, StreamChange)) {
        let until = at.after(figures.hold);
        if let Some(hold) = &mut self.hold {
            if until > hold.until {
                (hold.until, hold.latest) = (until, cause);
            }
            return;
        }
        let enforced = self.limits.enforce;
        self.hold = Some(Hold::new(at, cause, figures.hold, enforced));
        if !enforced {
            out(at, figures.withheld(cause));
        }
    }

    /// Ends a hold whose time is over, unless the stream still sends what it is blocked for.
    fn end_hold(&mut self, now: Timestamp, flowing: bool, out: &mut impl FnMut(Timestamp, StreamChange)) {
        let Some(hold) = self.hold.filter(|hold| now >= hold.until) else {
            return;
        };
        let standing = self.levels.iter().find(|level| self.level_blocks(level, now));
        if let Some(level) = standing.filter(|_| flowing && self.limits.enforce == hold.enforced) {
            let more = self
                .limits
                .of(level.cause)
                .map(|limit| limit.hold())
                .unwrap_or_default();
            self.hold = Some(Hold {
                tell_from: hold.tell_from,
                ..Hold::new(now, level.cause, more, hold.enforced)
            });
            return;
        }
        let probation = hold.enforced.then(|| now.after(self.limits.clear_after));
        let end = |watch: &mut Watch| {
            watch.hold = None;
            watch.probation = watch.probation.max(probation);
        };
        self.settle_with(now, Trigger::time(hold.over), end, out);
    }

    /// Tells that a block goes on after the time that it was last said to last.
    fn tell_prolonged(&mut self, now: Timestamp, out: &mut impl FnMut(Timestamp, StreamChange)) {
        let due = |hold: &&mut Hold| hold.enforced && now >= hold.tell_from && hold.until > now;
        let Some(hold) = self.hold.as_mut().filter(due) else {
            return;
        };
        let lasts = self.limits.of(hold.latest).map(|limit| limit.hold());
        hold.tell_from = now.after(lasts.unwrap_or_default().max(hold.until.since(now)));
        out(now, hold.prolonged(now));
    }

    /// The name of the phase that the stream is in, where its state does not say it.
    fn phase(&self) -> Option<&'static str> {
        let blocked = self.state == StreamState::Blocked;
        (self.probation.is_some() && !blocked).then_some(PROBATION)
    }

    fn settle(&mut self, at: Timestamp, trigger: Trigger, out: &mut impl FnMut(Timestamp, StreamChange)) {
        self.settle_with(at, trigger, |_| (), out);
    }

    /// Makes a change and, where it moves the state, tells so.
    fn settle_with(
        &mut self,
        at: Timestamp,
        trigger: Trigger,
        change: impl FnOnce(&mut Self),
        out: &mut impl FnMut(Timestamp, StreamChange),
    ) {
        let before = self.phase();
        change(self);
        let to = if self.hold.is_some_and(|hold| hold.enforced) {
            StreamState::Blocked
        } else if self.raised.is_empty() && self.probation.is_none() {
            StreamState::Healthy
        } else {
            StreamState::Degraded
        };
        let from = core::mem::replace(&mut self.state, to);
        self.worst = self.worst.max(to);
        if from == to {
            return;
        }
        let blocked = to == StreamState::Blocked;
        let change = StreamChange::StateChanged {
            from,
            to,
            cause: trigger.cause,
            count: trigger.figures.figure,
            limit: trigger.figures.limit,
            window_ms: millis(trigger.figures.window),
            hold_ms: blocked.then(|| millis(trigger.figures.hold)),
            phase: before.or(self.phase()),
            note: (blocked && self.is_srt).then_some(SRT_NOTE),
        };
        out(at, change);
    }
}
