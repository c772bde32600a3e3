//! One TCP connection that carries RTMP: from its SYN to the decision, and what is remembered of it afterwards.

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;
use tidegate_common::wire::tcp::{self, Tcp};

use super::RtmpFigures;
use super::reading::{CLEAR, Decision, Following};
use super::reassembly::{Reassembly, Refused};
use crate::engine::flow::Datagram;
use crate::engine::memory::{Allowance, Grant};
use crate::policy::rule::{OnUnverified, RtmpRule};

/// How far from the connection's first byte a segment before the decision may be: what a receiver may allow a sender to
/// send ahead. What is further off is of another connection, or made to look like it.
const WINDOW: i32 = 1 << 20;
/// The report's word for a connection that was not followed from its beginning.
const UNVERIFIED: &str = "unverified";

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

/// What is known of a connection.
#[derive(Debug, Default)]
pub(in crate::engine::flow) struct Session {
    state: State,
    /// Number of the client's first byte: its SYN's, plus one.
    first: u32,
    /// The first byte's number of a connection that may follow on the same ports.
    next: Option<u32>,
    /// What the receiver sends is seen here.
    hears_replies: bool,
    client: Option<Direction>,
    /// What a report says of it.
    pub(super) figures: RtmpFigures,
    /// The figures are others than they were when somebody last asked.
    changed: bool,
    /// Pays for what is kept of the stream.
    grant: Option<Grant>,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing was seen of it.
    #[default]
    New,
    /// Not decided yet.
    Following(Box<Following>),
    /// Admitted. The bytes that were decided about are kept until the receiver has acknowledged them: it may have got
    /// another copy of them.
    Admitted(Option<Box<Reassembly>>),
    /// Not to be looked into: encrypted, or it asks for nothing that the rule binds.
    Passing,
    /// Not followed from its beginning: what it asked for is not known.
    Unverified,
    /// Dropped, for its life.
    Refused(DropReason),
}

impl Session {
    /// Which way the client sends, where no rule says it: the way of the first SYN.
    pub(super) fn client(&mut self, datagram: &Datagram<'_>, otherwise: Direction) -> Direction {
        let opens = datagram
            .tcp
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
        match &self.state {
            State::Following(following) => following.is_open(),
            State::Admitted(_) => true,
            State::New | State::Passing | State::Unverified | State::Refused(_) => self.figures.application.is_some(),
        }
    }

    /// Packets may have gone by unseen: what is missing of an undecided connection will never be seen.
    pub(in crate::engine::flow) fn blind(&mut self) {
        if let State::Following(_) = self.state {
            self.lose();
        }
    }

    /// Whether a segment in parts may pass. Its flags and bytes are not looked at, so it may not be what opens a connection
    /// either.
    pub(super) fn fragment(&self, rule: &RtmpRule) -> Result<(), DropReason> {
        match self.state {
            State::Refused(reason) => Err(reason),
            State::New | State::Following(_) => Err(DropReason::NotRtmp),
            State::Unverified => unverified(rule),
            State::Admitted(_) | State::Passing => Ok(()),
        }
    }

    /// Heap bytes that the client's bytes take.
    pub(super) fn memory(&self) -> usize {
        match &self.state {
            State::Following(following) => following.memory(),
            State::Admitted(Some(kept)) => kept.memory(),
            State::New | State::Admitted(None) | State::Passing | State::Unverified | State::Refused(_) => 0,
        }
    }

    /// A segment from the server: it confirms which connection this is, and what of it has arrived.
    pub(super) fn reply(&mut self, tcp: Tcp) {
        if tcp.flags() & tcp::ACK == 0 {
            return;
        }
        self.hears_replies = true;
        let expected = tcp.acknowledgement();
        if tcp.flags() & tcp::SYN != 0 && self.next == Some(expected) {
            self.begin(expected);
        }
        if let State::Admitted(kept @ Some(_)) = &mut self.state {
            let decided = kept.as_ref().map_or(0, |kept| kept.in_order().len());
            let arrived = expected.wrapping_sub(self.first) as i32;
            if usize::try_from(arrived).is_ok_and(|arrived| arrived >= decided) {
                *kept = None;
                self.grant = None;
            }
        }
    }

    /// A segment from the client. `Err` is the reason for which the rule would have it dropped.
    pub(super) fn segment(&mut self, tcp: Tcp, payload: &[u8], rule: &RtmpRule, allowance: &Allowance) -> Inspected {
        let inspected = self.inspect(tcp, payload, rule, allowance);
        if self.grant.is_some() {
            let held = self.memory();
            // Less than was asked for, so it is granted.
            self.grant = self.grant.take().filter(|_| held > 0).map(|mut grant| {
                grant.hold(held);
                grant
            });
        }
        inspected
    }

    fn inspect(&mut self, tcp: Tcp, payload: &[u8], rule: &RtmpRule, allowance: &Allowance) -> Inspected {
        let mut data = tcp.sequence();
        if tcp.flags() & tcp::SYN != 0 {
            data = data.wrapping_add(1);
            self.opened(data);
        }
        if matches!(self.state, State::New) {
            self.lose();
        }
        if let State::Refused(reason) = self.state {
            return (Err(reason), None);
        }
        if payload.is_empty() {
            // An empty segment of a connection that may not go on tells the server nothing either.
            let unknown = matches!(self.state, State::Unverified);
            return (if unknown { unverified(rule) } else { Ok(()) }, None);
        }
        self.follow_port_reuse(data);
        if matches!(self.state, State::Unverified) {
            return (unverified(rule), None);
        }
        if matches!(self.state, State::Admitted(None) | State::Passing) {
            return (Ok(()), None);
        }
        let from = data.wrapping_sub(self.first) as i32;
        let urgent = tcp.flags() & tcp::URG != 0;
        match &mut self.state {
            State::Following(following) => {
                // A receiver takes an urgent byte out of the stream (RFC 6093 3.1), so what it reads is not this.
                if urgent {
                    return (Err(DropReason::NotRtmp), None);
                }
                let grant = self.grant.get_or_insert_with(|| allowance.grant());
                if !grant.hold(following.memory_with(from, payload)) {
                    return self.starve(rule);
                }
                if let Err(refusal) = keep(following, from, payload) {
                    return refusal;
                }
                self.read(rule)
            }
            State::Admitted(Some(kept)) => check(kept, from, payload),
            _ => (Ok(()), None),
        }
    }

    /// A SYN of the client. Where it is not the one that is known, another connection may begin on the same ports; that is
    /// believed when the server says so, for the client may send whatever it likes.
    fn opened(&mut self, first: u32) {
        match self.state {
            State::New => self.begin(first),
            _ if first != self.first => self.next = Some(first),
            _ => {}
        }
    }

    /// Where the server is not heard, the data shows which of two connections goes on. A refused one stays refused.
    fn follow_port_reuse(&mut self, data: u32) {
        let near = |first: u32| (0..WINDOW).contains(&(data.wrapping_sub(first) as i32));
        if let Some(next) = self
            .next
            .filter(|next| !self.hears_replies && near(*next) && !near(self.first))
        {
            self.begin(next);
        }
    }

    fn begin(&mut self, first: u32) {
        self.first = first;
        self.next = None;
        self.figures = RtmpFigures {
            encryption: CLEAR,
            ..RtmpFigures::default()
        };
        self.changed = true;
        self.state = State::Following(Box::default());
    }

    /// Its beginning was not seen, or what was seen of it is of no use any more.
    fn lose(&mut self) {
        self.pass(UNVERIFIED);
        self.state = State::Unverified;
    }

    fn pass(&mut self, encryption: &'static str) {
        self.figures.encryption = encryption;
        self.changed = true;
        self.state = State::Passing;
    }

    /// Reads on, after bytes came.
    fn read(&mut self, rule: &RtmpRule) -> Inspected {
        let State::Following(following) = &mut self.state else {
            return (Ok(()), None);
        };
        let before = self.figures.clone();
        let read = following.read(rule, &mut self.figures);
        self.changed |= self.figures != before;
        match read {
            Ok(None) => (Ok(()), None),
            Ok(Some(Decision::Admit)) => {
                self.figures.verified = true;
                self.changed = true;
                let kept = core::mem::take(&mut following.stream);
                self.state = State::Admitted(Some(Box::new(kept)));
                (Ok(()), Some(News::Admitted))
            }
            Ok(Some(Decision::Pass(encryption))) => {
                self.figures.verified = encryption == CLEAR && following.connected;
                self.pass(encryption);
                (Ok(()), None)
            }
            Ok(Some(Decision::Refuse(reason))) => self.refuse(reason),
            Err(_) => self.refuse(DropReason::NotRtmp),
        }
    }

    /// There is no memory to follow it. Where the rule asks for something, the segment is dropped, and repeated by its sender
    /// until there is.
    fn starve(&mut self, rule: &RtmpRule) -> Inspected {
        if rule.applications.is_some() || rule.stream_keys.is_some() {
            return (Err(DropReason::NotRtmp), None);
        }
        self.lose();
        (unverified(rule), None)
    }

    fn refuse(&mut self, reason: DropReason) -> Inspected {
        self.figures.refused = Some(reason);
        self.changed = true;
        self.state = State::Refused(reason);
        (Err(reason), Some(News::Refused))
    }
}

/// What becomes of a connection whose beginning was not seen.
fn unverified(rule: &RtmpRule) -> Result<(), DropReason> {
    match rule.on_unverified {
        OnUnverified::Return => Ok(()),
        OnUnverified::Drop => Err(DropReason::RtmpUnverified),
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
