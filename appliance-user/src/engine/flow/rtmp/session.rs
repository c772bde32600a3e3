//! One TCP connection that carries RTMP: from its SYN to the decision, and what is remembered of it afterwards.

use std::sync::Arc;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;
use tidegate_common::wire::tcp::{self, Tcp};

use super::RtmpFigures;
use super::reassembly::{BUDGET, Reassembly};
use crate::engine::flow::Datagram;
use crate::engine::media::rtmp::chunk::{AGGREGATE, AUDIO, ChunkReader, Message, VIDEO};
use crate::engine::media::rtmp::handshake::{self, Opening};
use crate::engine::media::rtmp::{Command, Connect, Error, Purpose, StreamCommand, trim_slashes};
use crate::engine::memory::{Allowance, Grant};
use crate::policy::glob::Glob;
use crate::policy::rule::RtmpRule;

/// Commands before the one that starts the media; the usual encoders send five.
const MAX_COMMANDS: u8 = 32;
/// How far from the connection's first byte a segment before the decision may be: what a receiver may allow a sender to
/// send ahead. What is further off is of another connection, or made to look like it.
const WINDOW: i32 = 1 << 20;
/// Heap bytes of the lists that a session keeps beside its bytes, all at their bounds.
const ROOM: usize = 4096;
/// The longest application or client name of a report in characters.
const MAX_SHOWN: usize = 128;

/// The report's words for what hides the connection.
const TLS: &str = "tls";
const RTMPE: &str = "rtmpe";
const CLEAR: &str = "none";
const UNVERIFIED: &str = "unverified";

/// Something to be told of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The figures changed.
    Learned,
    /// The rule admits what the client asked for.
    Admitted,
    /// It does not.
    Refused,
    /// Two copies of a byte differ.
    Conflict,
}

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
    figures: RtmpFigures,
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
    /// Not to be looked into: joined in mid-stream, encrypted, or it asks for nothing that the rule binds.
    Passing,
    /// Dropped, for its life.
    Refused(DropReason),
}

/// A connection whose first bytes are being read.
#[derive(Debug, Default)]
struct Following {
    stream: Reassembly,
    chunks: ChunkReader,
    /// Bytes read.
    at: usize,
    /// `connect` was seen and admitted.
    connected: bool,
    commands: u8,
}

/// What the bytes so far lead to.
enum Decision {
    Admit,
    Pass(&'static str),
    Refuse(DropReason),
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

    /// What is known of it.
    pub(super) fn figures(&self) -> &RtmpFigures {
        &self.figures
    }

    /// Whether it has shown itself to be RTMP: its handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        match &self.state {
            State::Following(following) => following.stream.in_order().len() >= handshake::LENGTH,
            State::Admitted(_) => true,
            State::New | State::Passing | State::Refused(_) => self.figures.application.is_some(),
        }
    }

    /// Packets may have gone by unseen: what is missing of an undecided connection will never be seen.
    pub(in crate::engine::flow) fn blind(&mut self) {
        if let State::Following(_) = self.state {
            self.pass(UNVERIFIED);
        }
    }

    /// Whether a segment in parts may pass.
    pub(super) fn fragment(&self) -> Result<(), DropReason> {
        match self.state {
            State::Refused(reason) => Err(reason),
            State::Following(_) => Err(DropReason::NotRtmp),
            State::New | State::Admitted(_) | State::Passing => Ok(()),
        }
    }

    /// Heap bytes that the client's bytes take.
    pub(super) fn memory(&self) -> usize {
        match &self.state {
            State::Following(following) => following.memory(),
            State::Admitted(Some(kept)) => kept.memory(),
            State::New | State::Admitted(None) | State::Passing | State::Refused(_) => 0,
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
    pub(super) fn segment(
        &mut self,
        tcp: Tcp,
        payload: &[u8],
        rule: &RtmpRule,
        allowance: &Allowance,
    ) -> (Result<(), DropReason>, Option<News>) {
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

    fn inspect(
        &mut self,
        tcp: Tcp,
        payload: &[u8],
        rule: &RtmpRule,
        allowance: &Allowance,
    ) -> (Result<(), DropReason>, Option<News>) {
        let mut data = tcp.sequence();
        if tcp.flags() & tcp::SYN != 0 {
            data = data.wrapping_add(1);
            self.opened(data);
        }
        if matches!(self.state, State::New) {
            self.pass(UNVERIFIED);
            return (Ok(()), Some(News::Learned));
        }
        if let State::Refused(reason) = self.state {
            return (Err(reason), None);
        }
        if payload.is_empty() || matches!(self.state, State::Admitted(None) | State::Passing) {
            return (Ok(()), None);
        }
        self.follow_port_reuse(data);
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
                if let Err(refusal) = following.insert(from, payload) {
                    return refusal;
                }
                self.read(rule)
            }
            State::Admitted(Some(kept)) => (check(kept, from, payload), None),
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
        self.state = State::Following(Box::default());
    }

    fn pass(&mut self, encryption: &'static str) {
        self.figures.encryption = encryption;
        self.state = State::Passing;
    }

    /// Reads on, after bytes came.
    fn read(&mut self, rule: &RtmpRule) -> (Result<(), DropReason>, Option<News>) {
        let State::Following(following) = &mut self.state else {
            return (Ok(()), None);
        };
        let knew = self.figures.application.is_some();
        match following.read(rule, &mut self.figures) {
            Ok(None) => {
                let learned = self.figures.application.is_some() != knew;
                (Ok(()), learned.then_some(News::Learned))
            }
            Ok(Some(Decision::Admit)) => {
                self.figures.verified = true;
                let kept = core::mem::take(&mut following.stream);
                self.state = State::Admitted(Some(Box::new(kept)));
                (Ok(()), Some(News::Admitted))
            }
            Ok(Some(Decision::Pass(encryption))) => {
                self.figures.verified = encryption == CLEAR && following.connected;
                self.pass(encryption);
                (Ok(()), Some(News::Learned))
            }
            Ok(Some(Decision::Refuse(reason))) => self.refuse(reason),
            Err(_) => self.refuse(DropReason::NotRtmp),
        }
    }

    /// There is no memory to follow it. Where the rule asks for something, the segment is dropped, and repeated by its sender
    /// until there is.
    fn starve(&mut self, rule: &RtmpRule) -> (Result<(), DropReason>, Option<News>) {
        if rule.applications.is_some() || rule.stream_keys.is_some() {
            return (Err(DropReason::NotRtmp), None);
        }
        self.pass(UNVERIFIED);
        (Ok(()), Some(News::Learned))
    }

    fn refuse(&mut self, reason: DropReason) -> (Result<(), DropReason>, Option<News>) {
        self.figures.refused = Some(reason);
        self.state = State::Refused(reason);
        (Err(reason), Some(News::Refused))
    }
}

/// After the decision: what repeats the bytes that were decided about must say the same.
fn check(kept: &mut Reassembly, from: i32, payload: &[u8]) -> Result<(), DropReason> {
    let Some((at, data)) = clipped(from, payload) else {
        return Ok(());
    };
    let decided = kept.in_order().len();
    let both = data
        .get(..decided.saturating_sub(at).min(data.len()))
        .unwrap_or_default();
    if both.is_empty() || kept.in_order().get(at..at + both.len()) == Some(both) {
        return Ok(());
    }
    Err(DropReason::NotRtmp)
}

/// The part of a segment at or behind the stream's first byte, and its place.
fn clipped(from: i32, payload: &[u8]) -> Option<(usize, &[u8])> {
    match usize::try_from(from) {
        Ok(at) => Some((at, payload)),
        Err(_) => Some((0, payload.get(from.unsigned_abs() as usize..)?)),
    }
}

impl Following {
    /// Heap bytes that its bytes take.
    fn memory(&self) -> usize {
        self.stream.memory() + self.chunks.memory()
    }

    /// Heap bytes held at most after a segment was read: the stream's buffer is as long as its last byte needs, and every
    /// byte that can be read now may be in a message that is being put together, whose buffer has room to grow.
    fn memory_with(&self, from: i32, payload: &[u8]) -> usize {
        let end = usize::try_from(from)
            .unwrap_or_default()
            .saturating_add(payload.len())
            .min(BUDGET);
        let longest = end.max(self.stream.reach());
        self.memory() + ROOM + 2 * longest.next_power_of_two() + 2 * longest.saturating_sub(self.at)
    }

    fn insert(&mut self, from: i32, payload: &[u8]) -> Result<(), (Result<(), DropReason>, Option<News>)> {
        use super::reassembly::Refused::{Conflict, TooManyPieces};
        let keep_alive = from == -1 && payload.len() == 1;
        let Some((at, data)) = clipped(from, payload).filter(|(_, data)| from < WINDOW && !data.is_empty()) else {
            // A probe of RFC 9293 3.8.4 repeats one byte before the window, whatever it is.
            return Err((if keep_alive { Ok(()) } else { Err(DropReason::NotRtmp) }, None));
        };
        match self.stream.insert(at, data) {
            Ok(()) => Ok(()),
            Err(Conflict) => Err((Err(DropReason::NotRtmp), Some(News::Conflict))),
            // What is not kept must not arrive: the sender repeats it.
            Err(TooManyPieces) => Err((Err(DropReason::NotRtmp), None)),
        }
    }

    /// Reads what is in order and not read yet, until something is decided.
    fn read(&mut self, rule: &RtmpRule, figures: &mut RtmpFigures) -> Result<Option<Decision>, Error> {
        let Some(first) = self.stream.in_order().first().copied() else {
            return Ok(None);
        };
        let hidden = match Opening::of(first)? {
            Opening::Clear => None,
            Opening::Tls => Some(TLS),
            Opening::Rtmpe => Some(RTMPE),
        };
        if let Some(hidden) = hidden {
            figures.encryption = hidden;
            return Ok(Some(if rule.applications.is_some() || rule.stream_keys.is_some() {
                Decision::Refuse(DropReason::NotRtmp)
            } else {
                Decision::Pass(hidden)
            }));
        }
        self.at = self.at.max(handshake::LENGTH);
        loop {
            let unread = self.stream.in_order().get(self.at..).unwrap_or_default();
            let Some((taken, message)) = self.chunks.read(unread)? else {
                break;
            };
            self.at += taken;
            if let Some(decision) = message
                .map(|message| self.judge(&message, rule, figures))
                .transpose()?
                .flatten()
            {
                return Ok(Some(decision));
            }
            if self.commands > MAX_COMMANDS {
                return Ok(Some(self.give_up(rule)));
            }
        }
        Ok((self.stream.in_order().len() >= BUDGET).then(|| self.give_up(rule)))
    }

    /// The client talks, and asks for nothing that starts media. Where the rule binds what it may still ask for, it ends here.
    fn give_up(&self, rule: &RtmpRule) -> Decision {
        if rule.stream_keys.is_some() || rule.applications.is_some() && !self.connected {
            Decision::Refuse(DropReason::NotRtmp)
        } else {
            Decision::Pass(CLEAR)
        }
    }

    fn judge(
        &mut self,
        message: &Message,
        rule: &RtmpRule,
        figures: &mut RtmpFigures,
    ) -> Result<Option<Decision>, Error> {
        // Media that nobody asked to publish, or commands wrapped in an aggregate.
        if matches!(message.kind, AUDIO | VIDEO | AGGREGATE) {
            return Ok(Some(Decision::Refuse(DropReason::NotRtmp)));
        }
        let Some(command) = Command::parse(message)? else {
            return Ok(None);
        };
        self.commands += 1;
        Ok(match command {
            Command::Connect(connect) => self.connect(&connect, rule, figures),
            _ if !self.connected => Some(Decision::Refuse(DropReason::NotRtmp)),
            Command::Stream(command) => about_stream(&command, rule, figures),
            Command::Other => None,
        })
    }

    fn connect(&mut self, connect: &Connect<'_>, rule: &RtmpRule, figures: &mut RtmpFigures) -> Option<Decision> {
        let application = connect.application.unwrap_or_default();
        figures.application = Some(shown(application));
        figures.client = connect.client.map(shown);
        let admits = |name: &[u8]| {
            let globs = rule.applications.as_ref();
            globs.is_none_or(|globs| matching(globs, name).is_some())
        };
        // Some servers go by the URL, so it may not name what `app` could not.
        let in_url = connect.application_of_url();
        let same = in_url.is_none_or(|in_url| in_url == trim_slashes(application) || admits(in_url));
        if !admits(application) || !same {
            return Some(Decision::Refuse(DropReason::RtmpApplication));
        }
        self.connected = true;
        None
    }
}

fn about_stream(command: &StreamCommand<'_>, rule: &RtmpRule, figures: &mut RtmpFigures) -> Option<Decision> {
    figures.purpose = match command.purpose {
        Purpose::Announce => None,
        Purpose::Publish => Some("publish"),
        Purpose::Play => Some("play"),
    };
    figures.publish_type = command.kind.map(|kind| match kind {
        b"live" => "live",
        b"record" => "record",
        b"append" => "append",
        _ => "other",
    });
    if let Some(keys) = &rule.stream_keys {
        let Some(place) = matching(keys, command.name) else {
            return Some(Decision::Refuse(DropReason::RtmpStreamKey));
        };
        figures.key_pattern = u32::try_from(place + 1).ok();
    }
    (command.purpose != Purpose::Announce).then_some(Decision::Admit)
}

/// The first pattern that matches.
fn matching(globs: &[Glob], name: &[u8]) -> Option<usize> {
    globs.iter().position(|glob| glob.matches(name))
}

/// A name for people: without a query, which may hold a token, without control characters, and not endless.
fn shown(name: &[u8]) -> Arc<str> {
    let plain = name.split(|byte| *byte == b'?').next().unwrap_or_default();
    let text = String::from_utf8_lossy(plain);
    let printable = text
        .chars()
        .take(MAX_SHOWN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    printable.collect::<String>().into()
}
