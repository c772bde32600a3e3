//! One TCP connection among those that the same ports may carry: its numbers, and what is decided about it.

use tidegate_common::drop_reason::DropReason;

use super::RtmpFigures;
use super::reading::{CLEAR, Decision, Following};
use super::reassembly::{Reassembly, Refused};
use super::session::{Inspected, News, UNVERIFIED, binds, unverified};
use crate::policy::rule::RtmpRule;

/// How far from the connection's first byte a segment before the decision may be: what a receiver may allow a sender to
/// send ahead. What is further off is of another connection, or made to look like it.
const WINDOW: i32 = 1 << 20;
/// How far before the first byte a segment may begin that still reaches it: the longest segment.
const LONGEST: i32 = 1 << 16;
/// How far from the last byte known a segment after the decision may be, either way: far more than is under way at once.
const REACH: i32 = 1 << 26;

/// A connection that was followed from its SYN.
#[derive(Debug)]
pub(super) struct Line {
    /// Number of the client's first byte: its SYN's, plus one.
    pub(super) first: u32,
    /// How far it has come: the server's word where it is heard, otherwise the client's.
    highest: u32,
    /// The server has answered its SYN.
    pub(super) answered: bool,
    pub(super) state: State,
    /// What a report says of it.
    pub(super) figures: RtmpFigures,
}

#[derive(Debug)]
pub(super) enum State {
    /// Not decided yet.
    Following(Box<Following>),
    /// Admitted. The bytes that were decided about are kept until the receiver has acknowledged them: it may have got
    /// another copy of them.
    Admitted(Option<Box<Reassembly>>),
    /// Not to be looked into: encrypted, or it asks for nothing that the rule binds.
    Passing,
    /// Some of what it asked for went by unseen.
    Unverified,
    /// Dropped, for its life.
    Refused(DropReason),
}

impl Line {
    /// The connection whose first byte has this number.
    pub(super) fn new(first: u32, answered: bool) -> Self {
        Self {
            first,
            highest: first,
            answered,
            state: State::Following(Box::default()),
            figures: RtmpFigures {
                encryption: CLEAR,
                ..RtmpFigures::default()
            },
        }
    }

    /// Whether a segment from this number on may be of this connection.
    pub(super) fn fits(&self, data: u32) -> bool {
        match self.state {
            State::Following(_) => (-LONGEST..WINDOW).contains(&(data.wrapping_sub(self.first) as i32)),
            _ => (-REACH..REACH).contains(&(data.wrapping_sub(self.highest) as i32)),
        }
    }

    /// Whether data could be of this connection and of one that begins here as well.
    pub(super) fn is_near(&self, first: u32) -> bool {
        let from = if matches!(self.state, State::Following(_)) {
            self.first
        } else {
            self.highest
        };
        (-REACH..REACH).contains(&(first.wrapping_sub(from) as i32))
    }

    /// Whether what it asked for is decided, and allowed: it may be forgotten without harm.
    pub(super) fn passes(&self) -> bool {
        matches!(self.state, State::Admitted(_) | State::Passing)
    }

    /// Why it is refused.
    pub(super) fn refusal(&self) -> Option<DropReason> {
        match self.state {
            State::Refused(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether it has shown itself to be RTMP: its handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        match &self.state {
            State::Following(following) => following.is_open(),
            State::Admitted(_) => true,
            State::Passing | State::Unverified | State::Refused(_) => self.figures.application.is_some(),
        }
    }

    /// Heap bytes that the client's bytes take.
    pub(super) fn memory(&self) -> usize {
        match &self.state {
            State::Following(following) => following.memory(),
            State::Admitted(Some(kept)) => kept.memory(),
            State::Admitted(None) | State::Passing | State::Unverified | State::Refused(_) => 0,
        }
    }

    /// Heap bytes held at most after a segment was taken.
    pub(super) fn memory_with(&self, data: u32, payload: &[u8]) -> usize {
        match &self.state {
            State::Following(following) => following.memory_with(data.wrapping_sub(self.first) as i32, payload),
            _ => self.memory(),
        }
    }

    /// Another connection begins with the same number: what was decided of the first one is not said of it.
    pub(super) fn begin_anew(&mut self) {
        if self.passes() || matches!(self.state, State::Unverified) {
            *self = Self::new(self.first, self.answered);
        }
    }

    /// What is missing will never be seen.
    pub(super) fn lose(&mut self) {
        if let State::Following(_) = self.state {
            self.figures.encryption = UNVERIFIED;
            self.state = State::Unverified;
        }
    }

    /// The server has everything before this number.
    pub(super) fn arrived(&mut self, expected: u32) {
        if (0..REACH).contains(&(expected.wrapping_sub(self.highest) as i32)) {
            self.highest = expected;
        }
        if let State::Admitted(kept @ Some(_)) = &mut self.state {
            let decided = kept.as_ref().map_or(0, |kept| kept.in_order().len());
            let arrived = expected.wrapping_sub(self.first) as i32;
            if usize::try_from(arrived).is_ok_and(|arrived| arrived >= decided) {
                *kept = None;
            }
        }
    }

    /// Takes a segment with payload.
    pub(super) fn take(&mut self, data: u32, urgent: bool, payload: &[u8], rule: &RtmpRule) -> Inspected {
        let from = data.wrapping_sub(self.first) as i32;
        let inspected = match &mut self.state {
            // A receiver takes an urgent byte out of the stream (RFC 6093 3.1), so what it reads is not this.
            State::Following(_) if urgent => (Err(DropReason::NotRtmp), None),
            State::Following(following) => match keep(following, from, payload) {
                Ok(()) => self.read(rule),
                Err(refusal) => refusal,
            },
            State::Admitted(Some(kept)) => check(kept, from, payload),
            State::Admitted(None) | State::Passing => (Ok(()), None),
            State::Unverified => (unverified(rule), None),
            State::Refused(reason) => (Err(*reason), None),
        };
        let end = data.wrapping_add(u32::try_from(payload.len()).unwrap_or_default());
        // Where the server answers it says how far it is: the client may send what never arrives.
        if inspected.0.is_ok() && !self.answered && end.wrapping_sub(self.highest) as i32 > 0 {
            self.highest = end;
        }
        inspected
    }

    /// There is no memory to follow it. Where the rule asks for something, the segment is dropped, and repeated by its sender
    /// until there is.
    pub(super) fn starve(&mut self, rule: &RtmpRule) -> Inspected {
        if binds(rule) {
            return (Err(DropReason::NotRtmp), None);
        }
        self.lose();
        (unverified(rule), None)
    }

    /// Reads on, after bytes came.
    fn read(&mut self, rule: &RtmpRule) -> Inspected {
        let State::Following(following) = &mut self.state else {
            return (Ok(()), None);
        };
        match following.read(rule, &mut self.figures) {
            Ok(None) => (Ok(()), None),
            Ok(Some(Decision::Admit)) => {
                self.figures.verified = true;
                let kept = core::mem::take(&mut following.stream);
                self.state = State::Admitted(Some(Box::new(kept)));
                (Ok(()), Some(News::Admitted))
            }
            Ok(Some(Decision::Pass(encryption))) => {
                self.figures.verified = encryption == CLEAR && following.connected;
                self.figures.encryption = encryption;
                self.state = State::Passing;
                (Ok(()), None)
            }
            Ok(Some(Decision::Refuse(reason))) => self.refuse(reason),
            Err(_) => self.refuse(DropReason::NotRtmp),
        }
    }

    pub(super) fn refuse(&mut self, reason: DropReason) -> Inspected {
        self.figures.refused = Some(reason);
        self.state = State::Refused(reason);
        (Err(reason), Some(News::Refused))
    }
}

/// Before the decision: keeps a segment's bytes to be read in order. `Err` says what becomes of a segment that is not kept.
fn keep(following: &mut Following, from: i32, payload: &[u8]) -> Result<(), Inspected> {
    let keep_alive = from == -1 && payload.len() == 1;
    let Some((at, data)) = clipped(from, payload).filter(|(_, data)| from < WINDOW && !data.is_empty()) else {
        // A probe of RFC 9293 3.8.4 repeats one byte before the window, whatever it is.
        return Err((if keep_alive { Ok(()) } else { Err(DropReason::NotRtmp) }, None));
    };
    following.insert(at, data).map_err(|refused| {
        // What is not kept must not arrive: the sender repeats it.
        let conflict = refused == Refused::Conflict;
        (Err(DropReason::NotRtmp), conflict.then_some(News::Conflict))
    })
}

/// After the decision: what repeats the bytes that were decided about must say the same.
fn check(kept: &Reassembly, from: i32, payload: &[u8]) -> Inspected {
    let Some((at, data)) = clipped(from, payload) else {
        return (Ok(()), None);
    };
    let decided = kept.in_order();
    let repeated = data.len().min(decided.len().saturating_sub(at));
    let same = repeated == 0 || decided.get(at..at + repeated) == data.get(..repeated);
    if same {
        (Ok(()), None)
    } else {
        (Err(DropReason::NotRtmp), Some(News::Conflict))
    }
}

/// The part of a segment at or behind the stream's first byte, and its place.
fn clipped(from: i32, payload: &[u8]) -> Option<(usize, &[u8])> {
    match usize::try_from(from) {
        Ok(at) => Some((at, payload)),
        Err(_) => Some((0, payload.get(from.unsigned_abs() as usize..)?)),
    }
}
