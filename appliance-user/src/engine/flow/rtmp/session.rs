//! The TCP connections that a flow's ports carry with RTMP in them: which one a segment is of, and what becomes of it.
//!
//! A client may send what its server never gets, so several SYNs are several connections. Each is followed and decided by
//! itself; what could be of two must be allowed by both, and what is of none is dropped where the rule asks for something.

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;
use tidegate_common::wire::tcp::{self, Tcp};

use super::RtmpFigures;
use super::line::{Line, State};
use crate::engine::flow::Datagram;
use crate::engine::memory::{Allowance, Grant};
use crate::policy::rule::{OnUnverified, RtmpRule};

/// Connections with the same ports that are known at a time: one that goes on, one that follows it, and as many decoys.
pub(super) const MAX_LINES: usize = 4;
/// The report's word for a connection that was not followed from its beginning.
pub(super) const UNVERIFIED: &str = "unverified";

/// Something to be told of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The rule admits what the client asked for.
    Admitted,
    /// It does not.
    Refused,
    /// Two copies of a byte differ.
    Conflict,
}

/// What becomes of a segment, and what is to be told.
pub(super) type Inspected = (Result<(), DropReason>, Option<News>);

/// What is known of a flow's connections.
#[derive(Debug, Default)]
pub(in crate::engine::flow) struct Session {
    /// The connections whose beginning was seen, oldest first.
    lines: Vec<Line>,
    /// There may be one whose beginning was not seen.
    joined: bool,
    /// What the receiver sends is seen here.
    hears_replies: bool,
    client: Option<Direction>,
    /// What a report says of the connection that was looked at last.
    pub(super) figures: RtmpFigures,
    /// The figures are others than they were when somebody last asked.
    changed: bool,
    /// Pays for what is kept of the streams.
    grant: Option<Grant>,
}

impl Session {
    /// Which way the client sends, where no rule says it: the way of the first SYN.
    pub(super) fn client(&mut self, datagram: &Datagram<'_>, otherwise: Direction) -> Direction {
        let opens = datagram
            .tcp()
            .is_some_and(|tcp| tcp.flags() & (tcp::SYN | tcp::ACK) == tcp::SYN);
        if self.client.is_none() && opens {
            self.client = Some(datagram.direction);
        }
        self.client.unwrap_or(otherwise)
    }

    /// What is known of it, if that changed since the last call.
    pub(super) fn fresh_figures(&mut self) -> Option<&RtmpFigures> {
        core::mem::take(&mut self.changed).then_some(&self.figures)
    }

    /// Whether it has shown itself to be RTMP: its handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        self.lines.iter().any(Line::is_open)
    }

    /// Packets may have gone by unseen: what is missing of an undecided connection will never be seen, nor the beginning of
    /// another one.
    pub(in crate::engine::flow) fn blind(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        self.lines.iter_mut().for_each(Line::lose);
        self.joined = true;
        if let Some(figures) = self.lines.last().map(|line| line.figures.clone()) {
            self.show(figures);
        }
    }

    /// Whether a segment in parts may pass. Its flags and bytes are not looked at, so it may not be what opens a connection
    /// either, which only the server's answer would tell.
    pub(super) fn fragment(&self, rule: &RtmpRule) -> Result<(), DropReason> {
        if let Some(reason) = self.lines.iter().find_map(Line::refusal) {
            return Err(reason);
        }
        let unknown = self.joined || self.lines.iter().any(|line| matches!(line.state, State::Unverified));
        if unknown {
            unverified(rule)?;
        }
        let decided = unknown || !self.lines.is_empty() && self.lines.iter().all(Line::passes);
        if decided && (self.hears_replies || !binds(rule)) {
            Ok(())
        } else {
            Err(DropReason::NotRtmp)
        }
    }

    /// Heap bytes that the client's bytes take.
    pub(super) fn memory(&self) -> usize {
        self.lines.iter().map(Line::memory).sum()
    }

    /// A segment from the server: it confirms which connection this is, and what of it has arrived.
    pub(super) fn reply(&mut self, tcp: Tcp) {
        if tcp.flags() & tcp::ACK == 0 {
            return;
        }
        self.hears_replies = true;
        let expected = tcp.acknowledgement();
        if tcp.flags() & tcp::SYN != 0 {
            self.answered(expected);
        }
        self.lines.iter_mut().for_each(|line| line.arrived(expected));
        self.settle();
    }

    /// A segment from the client. `Err` is the reason for which the rule would have it dropped.
    pub(super) fn segment(&mut self, tcp: Tcp, payload: &[u8], rule: &RtmpRule, allowance: &Allowance) -> Inspected {
        let inspected = self.inspect(tcp, payload, rule, allowance);
        self.settle();
        inspected
    }

    /// Pays for what is held now: less than was asked for, so it is granted.
    fn settle(&mut self) {
        if self.grant.is_some() {
            let held = self.memory();
            self.grant = self.grant.take().filter(|_| held > 0).map(|mut grant| {
                grant.hold(held);
                grant
            });
        }
    }

    fn inspect(&mut self, tcp: Tcp, payload: &[u8], rule: &RtmpRule, allowance: &Allowance) -> Inspected {
        let mut data = tcp.sequence();
        if tcp.flags() & tcp::SYN != 0 {
            data = data.wrapping_add(1);
            if let Err(reason) = self.opened(data, rule) {
                return (Err(reason), None);
            }
        }
        if self.lines.is_empty() && !self.joined {
            self.joined = true;
            self.show(RtmpFigures {
                encryption: UNVERIFIED,
                ..RtmpFigures::default()
            });
        }
        let urgent = tcp.flags() & tcp::URG != 0;
        let settled = self.is_settled();
        let mut of_some = false;
        let mut inspected = (Ok(()), None);
        for place in 0..self.lines.len() {
            let Some(line) = self
                .lines
                .get(place)
                .filter(|line| (!settled || line.answered) && line.fits(data))
            else {
                continue;
            };
            of_some = true;
            let (verdict, news) = if payload.is_empty() {
                // An empty segment of a connection that may not go on tells the server nothing either.
                (line.refusal().map_or(Ok(()), Err), None)
            } else {
                self.take(place, data, urgent, payload, rule, allowance)
            };
            inspected = (inspected.0.and(verdict), news.or(inspected.1));
        }
        if of_some {
            inspected
        } else {
            (self.of_none(payload, rule), None)
        }
    }

    fn take(
        &mut self,
        place: usize,
        data: u32,
        urgent: bool,
        payload: &[u8],
        rule: &RtmpRule,
        allowance: &Allowance,
    ) -> Inspected {
        let others = self.memory();
        let Some(line) = self.lines.get_mut(place) else {
            return (Err(DropReason::NotRtmp), None);
        };
        let undecided = matches!(line.state, State::Following(_));
        let paid = !undecided || {
            let grant = self.grant.get_or_insert_with(|| allowance.grant());
            grant.hold(others - line.memory() + line.memory_with(data, payload))
        };
        let inspected = if paid {
            line.take(data, urgent, payload, rule)
        } else {
            line.starve(rule)
        };
        if undecided && self.figures != line.figures {
            let figures = line.figures.clone();
            self.show(figures);
        }
        inspected
    }

    /// What becomes of a segment that is of no connection whose beginning was seen.
    fn of_none(&self, payload: &[u8], rule: &RtmpRule) -> Result<(), DropReason> {
        let undecided = || self.lines.iter().any(|line| matches!(line.state, State::Following(_)));
        if self.joined {
            unverified(rule)
        } else if !payload.is_empty() && (binds(rule) || undecided()) {
            Err(DropReason::NotRtmp)
        } else {
            Ok(())
        }
    }

    /// A SYN of the client: another connection may begin. `Err` where there is no room for it, for one that is not followed
    /// may not begin.
    fn opened(&mut self, first: u32, rule: &RtmpRule) -> Result<(), DropReason> {
        let all_refused = self.lines.iter().all(|line| line.refusal().is_some());
        if let Some(reason) = self.lines.last().filter(|_| all_refused).and_then(Line::refusal) {
            // The server's answer would make it a connection, and it gets nothing to answer.
            return Err(reason);
        }
        if !self.hears_replies && binds(rule) {
            self.joined = false;
        }
        if let Some(line) = self.lines.iter_mut().find(|line| line.first == first) {
            if !(self.hears_replies && line.answered) {
                line.begin_anew();
            }
            return Ok(());
        }
        if self.lines.len() >= MAX_LINES && !self.make_room() {
            return Err(DropReason::NotRtmp);
        }
        self.add(Line::new(first, false));
        Ok(())
    }

    /// The server has answered a SYN. What it has answered before and could be mistaken for this one stays: a server that
    /// keeps nothing of a SYN (RFC 4987 3.6) answers several.
    fn answered(&mut self, first: u32) {
        self.joined = false;
        self.lines
            .retain(|line| line.first == first || line.answered && line.is_near(first));
        if let Some(line) = self.lines.iter_mut().find(|line| line.first == first) {
            if line.answered {
                line.begin_anew();
            }
            line.answered = true;
            return;
        }
        if self.lines.len() < MAX_LINES || self.make_room() {
            self.add(Line::new(first, true));
        } else if let Some(line) = self.lines.last_mut() {
            let _ = line.refuse(DropReason::NotRtmp);
        }
    }

    /// Forgets a connection, if it can be done without taking its data for another's: one that the server will name if it
    /// answers it, or one that was allowed, where another stays.
    fn make_room(&mut self) -> bool {
        let unanswered = self
            .lines
            .iter()
            .position(|line| !line.answered)
            .filter(|_| self.is_settled());
        let allowed = || {
            let mut allowed = self.lines.iter().enumerate().filter(|(_, line)| line.passes());
            let oldest = allowed.next();
            allowed.next().and(oldest).map(|(place, _)| place)
        };
        let place = unanswered.or_else(allowed);
        place.map(|place| self.lines.remove(place)).is_some()
    }

    /// Whether the server says which connections there are.
    fn is_settled(&self) -> bool {
        self.hears_replies && self.lines.iter().any(|line| line.answered)
    }

    fn add(&mut self, line: Line) {
        if self.lines.is_empty() || line.answered {
            self.show(line.figures.clone());
        }
        self.lines.push(line);
    }

    fn show(&mut self, figures: RtmpFigures) {
        self.changed |= self.figures != figures;
        self.figures = figures;
    }
}

/// Whether a rule asks for something that only a connection's beginning tells.
pub(super) fn binds(rule: &RtmpRule) -> bool {
    rule.applications.is_some() || rule.stream_keys.is_some()
}

/// What becomes of a connection whose beginning was not seen.
pub(super) fn unverified(rule: &RtmpRule) -> Result<(), DropReason> {
    match rule.on_unverified {
        OnUnverified::Return => Ok(()),
        OnUnverified::Drop => Err(DropReason::RtmpUnverified),
    }
}
