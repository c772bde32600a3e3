//! An admitted flow and what it speaks: its rule's protocol, or what its packets show themselves to be.
//!
//! Everything here decides about one packet at once and without waiting; what must be judged in order leaves as a
//! digest for the stream's judge.

mod classify;
mod rtmp;
pub(in crate::engine) mod rtp;
pub(in crate::engine) mod srt;
mod ts_udp;

use core::time::Duration;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::{Direction, FlowKey, Tuple};
use tidegate_common::walk::Walk;
use tidegate_common::wire::tcp::Tcp;

use super::Content;
use super::counters::Counters;
use super::group::{Member, Outcome, Post};
use super::media::{fec, mpegts};
use super::memory::Allowance;
use super::outbox::Outbox;
use super::report::StreamProtocol;
use super::stream::{Stream, Totals};
use super::time::Timestamp;
use crate::policy::rule::{Companion, PortRole};
use crate::policy::{Protocol, Rule, RuleId};
pub(in crate::engine) use rtmp::RtmpFigures;
pub use rtmp::RtmpReport;

/// Streams followed within one flow, at most: SSRCs, or SRT sessions behind one pair of ports.
const MAX_STREAMS: usize = 16;

/// Streams of one flow that the flow's own place in the table pays for; further ones come out of the allowance.
const FREE_STREAMS: usize = 1;

/// A stream this long without a packet may make room for another of its flow.
const STREAM_SILENCE: Duration = Duration::from_secs(10);

/// Who admitted a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Admission {
    /// The policy that said so; a flow is decided anew when it changes.
    pub generation: u64,
    /// The rule's number, or [`Admission::OBSERVED`]: there is one of these in each flow.
    rule: u32,
    /// The direction in which the rule's source sends.
    pub forward: Direction,
}

impl Admission {
    /// More than any policy has rules.
    const OBSERVED: u32 = u32::MAX;

    /// By a rule; `None` where everything is observed without a policy.
    pub(in crate::engine) fn new(rule: Option<RuleId>, forward: Direction, generation: u64) -> Self {
        Admission {
            generation,
            rule: rule.map_or(Admission::OBSERVED, |id| id.0),
            forward,
        }
    }

    /// The rule; `None` where everything is observed without a policy.
    #[inline]
    pub(in crate::engine) fn rule(&self) -> Option<RuleId> {
        (self.rule != Admission::OBSERVED).then_some(RuleId(self.rule))
    }
}

/// What a flow speaks.
#[derive(Debug)]
enum Speaks {
    Undecided(Box<classify::Evidence>),
    Rtp,
    Srt(Box<srt::Sessions>),
    TsUdp,
    Rtcp,
    /// With the packet by which it was not yet known.
    Fec(Option<Box<fec::Header>>),
    Rtmp(Box<rtmp::Session>),
    Other,
}

/// An admitted flow.
#[derive(Debug)]
pub(in crate::engine) struct Flow {
    /// Who admitted it.
    pub admission: Admission,
    /// The flow table knows that the flow carries a confirmed stream.
    pub marked_established: bool,
    speaks: Speaks,
    streams: Vec<Stream>,
    /// What was counted before it was known what the flow speaks; the next stream takes it over.
    unattributed: Option<Box<Totals>>,
    /// The engine's blindness that the streams know of.
    blindness: u32,
    /// Its next packet may be a usual one; whatever could change that takes it back, until a packet has gone the general way.
    usual: bool,
}

/// What inspecting a packet needs besides the packet.
pub(in crate::engine) struct Context<'a> {
    /// The burst's time.
    pub now: Timestamp,
    /// The rule that admitted the flow.
    pub rule: &'a Rule,
    /// How often packets may have gone by unseen.
    pub blindness: u32,
    /// Whether streams may be made: not in a flow that is forgotten at once.
    pub remembers: bool,
    /// How much of a packet is hashed.
    pub content: Content,
    /// Whether transport streams are analysed.
    pub analyse: bool,
    /// What streams may grow by.
    pub allowance: &'a Allowance,
    /// Where events go.
    pub outbox: &'a mut Outbox,
    /// What the engine counts.
    pub counters: &'a mut Counters,
    /// What deciphers SRT.
    pub decryption: &'a mut srt::Decryption,
    /// Where messages to the flow's group go.
    pub post: &'a mut Post,
}

/// A packet of an admitted flow.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Datagram<'a> {
    /// Its headers.
    pub walk: &'a Walk,
    /// The packet whose headers these are.
    pub packet: &'a [u8],
    /// Its direction in its flow's key.
    pub direction: Direction,
    /// The transport's payload.
    pub payload: &'a [u8],
}

impl Datagram<'_> {
    /// Its addresses as on the wire.
    pub(in crate::engine) fn tuple(&self) -> Tuple {
        self.walk.tuple()
    }

    /// Its flow's key.
    #[inline]
    pub(in crate::engine) fn key(&self) -> &FlowKey {
        &self.walk.key
    }

    /// The TCP header, where the packet has one.
    pub(in crate::engine) fn tcp(&self) -> Option<Tcp> {
        self.walk.tcp(self.packet)
    }
}

impl Flow {
    /// A flow that was just admitted by `rule`; `forward` is the tuple of its packets in the rule's direction.
    pub(in crate::engine) fn new(admission: Admission, rule: &Rule, forward: &Tuple) -> Self {
        Flow {
            admission,
            marked_established: false,
            speaks: Speaks::by_rule(rule, forward),
            streams: Vec::new(),
            unattributed: None,
            blindness: 0,
            usual: false,
        }
    }

    /// The policy changed: the flow keeps its streams where the same protocol goes on.
    pub(in crate::engine) fn admit_anew(&mut self, admission: Admission, rule: &Rule, forward: &Tuple) {
        self.usual = false;
        let fresh = Speaks::by_rule(rule, forward);
        let goes_on = matches!(fresh, Speaks::Undecided(_))
            || core::mem::discriminant(&fresh) == core::mem::discriminant(&self.speaks);
        if !goes_on {
            self.streams.clear();
            self.speaks = fresh;
        }
        for stream in &mut self.streams {
            stream.readmit(rule);
            if matches!(self.speaks, Speaks::Rtp) {
                stream.tie(rule);
            }
        }
        self.admission = admission;
    }

    /// Tells the groups of its streams what they do not know yet.
    pub(in crate::engine) fn tell_groups(&mut self, now: Timestamp, flow: &FlowKey, post: &mut Post) {
        if matches!(self.speaks, Speaks::Rtp) {
            let rule = self.admission.rule();
            for stream in &mut self.streams {
                stream.tell_group(now, flow, rule, post);
            }
        }
    }

    /// What the home of a group found about one of its streams.
    pub(in crate::engine) fn outcome(
        &mut self,
        now: Timestamp,
        member: &Member,
        outcome: &Outcome,
        outbox: &mut Outbox,
    ) {
        // FEC has one stream for the whole flow, whatever its SSRC.
        let is_it = |stream: &&mut Stream| stream.direction == member.direction && stream.selector == member.ssrc;
        if let Some(stream) = self.streams.iter_mut().find(is_it) {
            stream.outcome(now, outcome, outbox);
        }
    }

    /// Messages for its streams may have been lost: what companions say of them is incomplete from now on.
    pub(in crate::engine) fn missed_messages(&mut self) {
        for rtp in self.streams.iter_mut().filter_map(|stream| stream.rtp.as_mut()) {
            rtp.outcome(&Outcome::Incomplete);
        }
    }

    /// Asks for what the next packet of it will read.
    #[inline]
    pub(in crate::engine) fn prefetch(&self) {
        if let Some(stream) = self.streams.first() {
            stream.prefetch();
        }
    }

    /// The same for what its stream points to, when that has come.
    #[inline]
    pub(in crate::engine) fn prefetch_figures(&self) {
        if let Some(stream) = self.streams.first() {
            stream.prefetch_figures();
        }
    }

    /// The same for what that points to in turn.
    #[inline]
    pub(in crate::engine) fn prefetch_pids(&self) {
        if let Some(stream) = self.streams.first() {
            stream.prefetch_pids();
        }
    }

    /// Its streams.
    #[inline]
    pub(in crate::engine) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Its streams, to change.
    pub(in crate::engine) fn streams_mut(&mut self) -> &mut [Stream] {
        &mut self.streams
    }

    /// Whether something has changed in one of its streams that time may do something about.
    #[inline]
    pub(in crate::engine) fn is_stirred(&self) -> bool {
        self.streams.iter().any(Stream::is_stirred)
    }

    /// Until when time does nothing about its streams, unless they are stirred.
    pub(in crate::engine) fn next_turn(&self) -> Timestamp {
        let turns = self.streams.iter().map(Stream::next_turn);
        turns.min().unwrap_or(Timestamp::from_nanos(u64::MAX))
    }

    /// Whether it carries a stream that was confirmed.
    pub(in crate::engine) fn is_established(&self) -> bool {
        self.streams.iter().any(Stream::is_confirmed)
    }

    /// Inspects a packet. `Err` is the reason for which the rule would have it dropped.
    #[inline]
    pub(in crate::engine) fn inspect(
        &mut self,
        datagram: Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if self.blindness != context.blindness {
            self.was_blind(context);
        }
        if matches!(self.speaks, Speaks::Rtp) {
            let inspected = self.rtp(&datagram, context);
            self.note_usual(context.rule);
            return allowed(inspected, context);
        }
        self.inspect_others(&datagram, context)
    }

    /// Inspects a packet of a flow that was not known to carry RTP.
    fn inspect_others(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        if matches!(self.speaks, Speaks::Undecided(_)) {
            self.classify(datagram);
        }
        let inspected = match &self.speaks {
            Speaks::Rtp => self.rtp(datagram, context),
            Speaks::Srt(_) => self.srt(datagram, context),
            Speaks::TsUdp => self.ts_udp(datagram, context),
            Speaks::Rtcp => self.rtcp(datagram, context),
            Speaks::Rtmp(_) => self.rtmp(datagram, context),
            Speaks::Fec(_) => {
                self.fec(datagram, context);
                Ok(())
            }
            Speaks::Undecided(_) | Speaks::Other => {
                self.opaque(datagram, StreamProtocol::Other, context);
                Ok(())
            }
        };
        allowed(inspected, context)
    }

    /// Packets of it may have gone by unseen.
    #[cold]
    fn was_blind(&mut self, context: &mut Context<'_>) {
        self.blindness = context.blindness;
        for stream in &mut self.streams {
            stream.blind(context.outbox);
        }
        if let Speaks::Rtmp(session) = &mut self.speaks {
            session.blind();
        }
    }

    /// Inspects the first part of a datagram that came in fragments: what its headers show must not pass in parts where it
    /// would not pass whole. It is not judged: media does not come in fragments.
    pub(in crate::engine) fn inspect_first_part(
        &mut self,
        datagram: Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let blocked = |stream: &Stream| stream.direction == datagram.direction && stream.is_blocked();
        if self.streams.iter().any(blocked) {
            return Err(DropReason::StreamBlocked);
        }
        match &self.speaks {
            // A handshake cut short is refused: its extensions may say anything.
            Speaks::Srt(_) => self.srt(&datagram, context),
            Speaks::Rtp => self.rtp_first_part(&datagram, context),
            Speaks::Rtmp(_) if context.rule.protocol == Protocol::Rtmp => self.rtmp_first_part(&datagram, context),
            Speaks::TsUdp if datagram.payload.first() != Some(&mpegts::SYNC_BYTE) => Err(DropReason::NotTs),
            _ => Ok(()),
        }
    }

    /// Counts a packet whose content is not judged, in one stream for the whole flow.
    fn opaque(&mut self, datagram: &Datagram<'_>, protocol: StreamProtocol, context: &mut Context<'_>) {
        // The first packet's sender names the stream; what goes the other way belongs to it.
        let direction = self
            .streams
            .first()
            .map_or(datagram.direction, |stream| stream.direction);
        let place = self.stream(protocol, direction, 0, datagram, context);
        if let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) {
            stream.count(context.now, datagram.payload.len(), context.outbox);
        }
    }

    /// Room for one more stream: one that never came past its first packet goes, else one that fell silent. A live stream
    /// stays, whoever sends what beside it.
    fn make_room(&mut self, context: &mut Context<'_>) -> bool {
        if self.streams.len() < MAX_STREAMS {
            return true;
        }
        let now = context.now;
        let dispensable = |stream: &&Stream| !stream.is_confirmed() || now.since(stream.last_seen()) >= STREAM_SILENCE;
        let victim = self
            .streams
            .iter()
            .filter(dispensable)
            .min_by_key(|stream| (stream.is_confirmed(), stream.last_seen()));
        let Some(selector) = victim.map(|stream| (stream.selector, stream.direction)) else {
            return false;
        };
        self.streams.retain(|stream| {
            let stays = (stream.selector, stream.direction) != selector;
            if !stays {
                stream.tell_gone(now, "replaced", context.outbox);
            }
            stays
        });
        true
    }

    /// The place of a stream by its selector, made when it is new; `None` when the flow holds as many as it may.
    fn stream(
        &mut self,
        protocol: StreamProtocol,
        direction: Direction,
        selector: u32,
        datagram: &Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Option<usize> {
        let known = self
            .streams
            .iter()
            .position(|stream| stream.selector == selector && stream.direction == direction);
        if known.is_some() {
            return known;
        }
        if !context.remembers || !self.make_room(context) {
            context.counters.streams_refused += 1;
            return None;
        }
        let mut room = context.allowance.grant();
        if self.streams.len() >= FREE_STREAMS && !room.grow(Stream::MEMORY) {
            context.counters.streams_refused += 1;
            return None;
        }
        let tuple = datagram.tuple();
        let mut stream = Stream::new(protocol, context.rule, &tuple, direction, selector, context.now);
        stream.settle(room, context.allowance);
        if context.analyse {
            stream.analyse();
        }
        let counted = self.unattributed.take().map(|totals| *totals);
        stream.adopt(counted.unwrap_or_else(|| {
            context.counters.streams_created += 1;
            Totals {
                ordinal: context.counters.streams_created,
                ..Totals::default()
            }
        }));
        if context.outbox.wants_media() {
            stream.hand_on();
        }
        self.streams.push(stream);
        Some(self.streams.len() - 1)
    }
}

/// Where no rule names the protocol, a packet of another one breaks no rule.
#[inline(always)]
fn allowed(inspected: Result<(), DropReason>, context: &Context<'_>) -> Result<(), DropReason> {
    match inspected {
        Err(DropReason::NotRtp | DropReason::NotSrt | DropReason::NotTs | DropReason::NotRtmp)
            if context.rule.protocol == Protocol::Any =>
        {
            Ok(())
        }
        inspected => inspected,
    }
}

impl Speaks {
    fn by_rule(rule: &Rule, forward: &Tuple) -> Speaks {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        let ports = [forward.source.port(), forward.destination.port()];
        match rule.protocol {
            Protocol::Rtmp if forward.protocol == TCP => Speaks::Rtmp(Box::default()),
            Protocol::Any if forward.protocol == TCP && ports.contains(&rtmp::WELL_KNOWN_PORT) => {
                Speaks::Rtmp(Box::default())
            }
            _ if forward.protocol != UDP => Speaks::Other,
            Protocol::Rtp | Protocol::RtpFec | Protocol::Rist => match rule.port_role(forward.destination.port()) {
                Some(PortRole::Companion {
                    kind: Companion::Rtcp, ..
                }) => Speaks::Rtcp,
                Some(PortRole::Companion { .. }) => Speaks::Fec(None),
                Some(PortRole::Media) | None => Speaks::Rtp,
            },
            Protocol::Srt => Speaks::Srt(Box::default()),
            Protocol::TsUdp => Speaks::TsUdp,
            // Travels in TCP, which is taken above.
            Protocol::Rtmp => Speaks::Other,
            Protocol::Any => Speaks::Undecided(Box::default()),
        }
    }
}
