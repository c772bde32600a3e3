//! One media stream: its identity, its judge, its state and what is reported of it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_common::digest::PacketDigest;
use tidegate_common::flow::{Direction, FlowKey, Tuple};

use super::event::StreamChange;
use super::flow::RtmpFigures;
use super::flow::rtp::{ArrivalHeader, RtpFigures};
use super::flow::srt::SrtFigures;
use super::group::{Address, GroupKey, Member, Outcome, Post, RtcpNote};
use super::judge::{Event, Fault, Judge, Ordering, ResetCause, Sink, TsBytes, UnsequencedFault};
use super::media::mpegts::PACKET_SIZE;
use super::memory::{Allowance, Grant};
use super::outbox::Outbox;
use super::report::{
    ContinuityErrors, PidReport, StreamIdentity, StreamProtocol, StreamReport, StreamState, TransportReport, TsReport,
};
use super::time::Timestamp;
use super::watch::{Cause, Media, Watch};
use crate::policy::{Protocol, Rule, RuleId};

/// How often one kind of finding is told of one stream, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// RTP without a negotiated latency: longer than any switch's reordering, far shorter than a viewer's buffer.
const RTP_WINDOW: Duration = Duration::from_millis(50);
/// SRT while its handshake is unseen, and RIST: several retransmission rounds on a long path.
const ARQ_WINDOW: Duration = Duration::from_secs(1);

/// Whoever injects packets may have caused losses for so long after a finding was last told: the time between two tellings,
/// and the longest that losses wait to be judged.
const TAINT: Duration = Duration::from_secs(3);

/// Findings of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// One sequence number came with two contents.
    SequenceConflict,
    /// A lone packet far outside the sequence window.
    OutOfWindow,
    /// A second SSRC while the first one still sends.
    SsrcConflict,
    /// No passphrase of the rule unwraps the session's keys.
    SrtWrongPassphrase,
    /// AES-GCM: the packet is not the sender's, or was changed on its way; its receiver throws it away.
    SrtNotAuthentic,
    /// Media went on after its sender's BYE: somebody else said it.
    ByeWithMedia,
    /// The RTP time stamp jumped, and no marker announced it. The sender's fault or whim, not a sign of injection.
    RtpTimestampJump,
}

/// Kinds of findings.
const FINDINGS: usize = Finding::ALL.len();

impl Finding {
    const ALL: [Finding; 7] = [
        Finding::SequenceConflict,
        Finding::OutOfWindow,
        Finding::SsrcConflict,
        Finding::SrtWrongPassphrase,
        Finding::SrtNotAuthentic,
        Finding::ByeWithMedia,
        Finding::RtpTimestampJump,
    ];

    /// The name in reports and events.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Finding::SequenceConflict => "sequence-conflict",
            Finding::OutOfWindow => "out-of-window",
            Finding::SsrcConflict => "ssrc-conflict",
            Finding::SrtWrongPassphrase => "srt-wrong-passphrase",
            Finding::SrtNotAuthentic => "srt-not-authentic",
            Finding::ByeWithMedia => "bye-with-media",
            Finding::RtpTimestampJump => "rtp-timestamp-jump",
        }
    }

    /// Whether somebody may be injecting packets, so that what stands beside it must not feed a block.
    const fn taints(self) -> bool {
        matches!(
            self,
            Finding::SequenceConflict | Finding::OutOfWindow | Finding::SsrcConflict | Finding::SrtNotAuthentic
        )
    }
}

/// How a finding stands: how often, and when it was last told.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    count: u64,
    told: Option<Timestamp>,
}

/// What is counted of a stream, recognised or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    /// The engine's streams in the order in which they appeared.
    pub ordinal: u64,
    /// Datagrams.
    pub packets: u64,
    /// UDP payload bytes.
    pub bytes: u64,
}

/// A stream within a flow.
#[derive(Debug)]
pub(super) struct Stream {
    /// The engine's streams in the order in which they appeared.
    ordinal: u64,
    identity: StreamIdentity,
    /// Which way of its flow the media goes.
    pub direction: Direction,
    /// What tells it from its flow's other streams: the SSRC, or SRT's destination socket id.
    pub selector: u32,
    /// The cipher's name, `none`, or `unverified`.
    pub encryption: &'static str,
    /// What only RTMP knows.
    pub rtmp: Option<Box<RtmpFigures>>,
    /// Its TS was judged after decryption.
    pub decrypted: bool,
    /// What only SRT knows of it.
    pub(in crate::engine) srt: Option<Box<SrtFigures>>,
    judge: Option<Judge>,
    watch: Watch,
    findings: [Found; FINDINGS],
    packets: u64,
    bytes: u64,
    ts_visible: bool,
    announced: bool,
    last_seen: Timestamp,
    media: Media,
    /// The appliance was blind since the last packet.
    unseen: bool,
    /// The engine's blindness that `media` knows of.
    blindness: u32,
    /// What pays for the stream's own bytes.
    room: Option<Grant>,
    /// What only RTP knows; `None` for other protocols.
    pub(in crate::engine) rtp: Option<Box<RtpFigures>>,
}

impl Stream {
    /// Bytes of a stream that has just begun, with its judge's first room.
    pub(super) const MEMORY: usize = size_of::<Stream>() + 1024;

    /// A stream that was just seen for the first time.
    pub(super) fn new(
        protocol: StreamProtocol,
        rule: &Rule,
        tuple: &Tuple,
        direction: Direction,
        selector: u32,
        now: Timestamp,
    ) -> Self {
        let identity = StreamIdentity {
            protocol,
            rule: rule_name(rule),
            source: Some(tuple.source),
            destination: Some(tuple.destination),
            endpoint: tuple.endpoint,
            ssrc: matches!(protocol, StreamProtocol::Rtp | StreamProtocol::Rist).then_some(selector),
            stream_id: None,
        };
        Stream {
            ordinal: 0,
            identity,
            direction,
            selector,
            encryption: "none",
            rtmp: None,
            decrypted: false,
            srt: None,
            judge: judge_for(protocol, rule.reorder_window),
            watch: Watch::new(rule, protocol),
            findings: [Found::default(); FINDINGS],
            packets: 0,
            bytes: 0,
            ts_visible: false,
            announced: false,
            last_seen: now,
            media: Media {
                last: now,
                quiet_since: now,
            },
            unseen: false,
            blindness: 0,
            room: None,
            rtp: None,
        }
    }

    /// The stream of a `.ts` file.
    pub(super) fn of_file(rule: &Rule) -> Self {
        let mut stream = Stream::new(
            StreamProtocol::File,
            rule,
            &Tuple::default(),
            Direction::Forward,
            0,
            Timestamp::default(),
        );
        stream.identity.source = None;
        stream.identity.destination = None;
        stream
    }

    /// Takes its place: `room` pays for it, and what it grows by comes out of the allowance.
    pub(super) fn settle(&mut self, room: Grant, allowance: &Allowance) {
        self.room = Some(room);
        self.judge = self.judge.take().map(|judge| judge.within(allowance));
    }

    /// The policy changed and the stream goes on under `rule`.
    pub(super) fn readmit(&mut self, rule: &Rule) {
        self.identity.rule = rule_name(rule);
        self.watch.readmit(rule);
    }

    /// When its last packet came.
    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// Whether its packets are being dropped.
    pub(super) fn is_blocked(&self) -> bool {
        self.watch.state() == StreamState::Blocked
    }

    /// Whether it was told of: it has shown more than one packet.
    pub(super) fn is_confirmed(&self) -> bool {
        self.announced
    }

    /// Whether it was only counted so far.
    pub(super) fn is_other(&self) -> bool {
        self.identity.protocol == StreamProtocol::Other
    }

    /// Tells something of it.
    pub(super) fn tell(&self, at: Timestamp, change: StreamChange, outbox: &mut Outbox) {
        outbox.tell(at, &self.identity, change);
    }

    /// Whether it is the SRT stream to that destination socket id.
    pub(super) fn is_session(&self, direction: Direction, id: u32) -> bool {
        self.direction == direction && self.selector == id
    }

    /// What the SRT handshake says: cipher, stream id, and the negotiated latency unless the rule sets the window.
    pub(super) fn describe_srt(
        &mut self,
        cipher: &'static str,
        stream_id: Option<Arc<str>>,
        latency: Option<Duration>,
    ) {
        self.encryption = cipher;
        if stream_id.is_some() {
            self.identity.stream_id = stream_id;
        }
        if let (Some(latency), Some(judge)) = (latency, &mut self.judge) {
            judge.set_window(latency);
        }
    }

    /// The stream has shown to be RIST: its sender repeats what was lost, so there is longer to wait.
    pub(super) fn speaks_rist(&mut self, rule: &Rule) {
        if self.identity.protocol == StreamProtocol::Rtp {
            self.identity.protocol = StreamProtocol::Rist;
            if let Some(judge) = &mut self.judge {
                judge.set_window(rule.reorder_window.unwrap_or(ARQ_WINDOW));
            }
        }
    }

    /// The sender came back under another SSRC: the same stream goes on with new counters.
    pub(super) fn succeed(&mut self, selector: u32, outbox: &mut Outbox) {
        self.with_judge(outbox, |judge, verdicts| judge.rebase(verdicts));
        self.selector = selector;
        self.identity.ssrc = Some(selector);
        if let Some(rtp) = &mut self.rtp {
            rtp.succeed();
        }
    }

    /// Its media leaves through the outbox too, in sequence order.
    pub(super) fn hand_on(&mut self) {
        if let Some(judge) = &mut self.judge {
            judge.hand_on();
        }
    }

    /// When it appeared, and its datagrams and bytes so far.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            ordinal: self.ordinal,
            packets: self.packets,
            bytes: self.bytes,
        }
    }

    /// Takes over what was counted of it before it was recognised.
    pub(super) fn adopt(&mut self, totals: Totals) {
        self.ordinal = totals.ordinal;
        self.packets += totals.packets;
        self.bytes += totals.bytes;
    }

    /// The appliance may not have seen packets of it: what is missing is nobody's loss.
    pub(super) fn blind(&mut self, outbox: &mut Outbox) {
        self.unseen = true;
        self.with_judge(outbox, |judge, verdicts| judge.blind(verdicts));
    }

    /// Takes over what another stream counted, which turned out to be this one.
    pub(super) fn absorb(&mut self, other: &Stream) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    /// Counts a packet that carries no media to judge.
    pub(super) fn count(&mut self, now: Timestamp, bytes: usize, outbox: &mut Outbox) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.last_seen = now;
        self.announce(now, outbox);
        // Of what no judge follows, every packet is media.
        if self.judge.is_none() {
            self.take_media(now, outbox);
        }
    }

    /// A media packet came: whatever silence was before it is over now.
    fn take_media(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let silent_since = core::mem::replace(&mut self.media.quiet_since, now);
        self.media.last = now;
        if !self.announced || !self.identity.protocol.is_media() {
            return;
        }
        outbox.saw_media();
        if !core::mem::take(&mut self.unseen) {
            let identity = &self.identity;
            self.watch
                .silent(now, silent_since, &mut |at, change| outbox.tell(at, identity, change));
        }
    }

    /// Takes one packet: its size, its digest and the TS packets in it; what the judge finds moves the state.
    pub(super) fn offer(
        &mut self,
        now: Timestamp,
        bytes: usize,
        digest: &PacketDigest,
        ts: TsBytes<'_>,
        outbox: &mut Outbox,
    ) {
        self.ts_visible |= digest.ts_visible;
        self.count(now, bytes, outbox);
        self.take_media(now, outbox);
        self.with_judge(outbox, |judge, verdicts| judge.offer(now, digest, ts, verdicts));
    }

    /// What only RTP knows, from now on kept.
    pub(super) fn rtp_mut(&mut self) -> &mut RtpFigures {
        self.rtp.get_or_insert_default()
    }

    /// Heap bytes of what only RTP knows.
    pub(super) fn rtp_memory(&self) -> usize {
        self.rtp
            .as_ref()
            .map_or(0, |rtp| size_of::<RtpFigures>() + rtp.memory())
    }

    /// Ties a media stream to its companions by what its rule says: FEC, and the other path of a pair.
    pub(super) fn tie(&mut self, rule: &Rule) {
        let (source, destination) = (self.identity.source, self.identity.destination);
        let is_of = |path: &crate::policy::rule::Path| {
            source.is_some_and(|source| path.source.contains(&source.ip()))
                && destination.is_some_and(|to| path.destination.contains(&to.ip()) && path.port == to.port())
        };
        let paths = rule.rtp.paths.as_ref();
        let path = paths
            .and_then(|paths| paths.iter().position(is_of))
            .map(|path| path as u8);
        self.rtp_mut().tie(rule.protocol == Protocol::RtpFec, path);
    }

    /// A media packet's RTP header, before the packet is judged.
    pub(super) fn rtp_packet(
        &mut self,
        now: Timestamp,
        payload_type: u8,
        header: &ArrivalHeader,
        repeated: bool,
        outbox: &mut Outbox,
    ) {
        let found = self.rtp_mut().media(now, payload_type, header, repeated);
        for finding in found.into_iter().flatten() {
            self.find(now, finding, outbox);
        }
    }

    /// A media packet was judged. Whether the stream's groups should be told something.
    pub(super) fn rtp_judged(&mut self, now: Timestamp, sequence: u16) -> bool {
        let announced = self.announced;
        self.rtp.as_mut().is_some_and(|rtp| {
            rtp.judged(now, sequence);
            announced && rtp.membership.is_due(now)
        })
    }

    /// Tells the stream's groups what they do not know yet.
    pub(super) fn tell_group(&mut self, now: Timestamp, flow: &FlowKey, rule: Option<RuleId>, post: &mut Post) {
        let Some(rtp) = self.rtp.as_mut().filter(|_| self.announced) else {
            return;
        };
        let to = Address {
            member: Member {
                flow: *flow,
                direction: self.direction,
                ssrc: self.selector,
            },
            key: GroupKey {
                rule,
                endpoint: self.identity.endpoint,
                destination: self.identity.destination,
                ssrc: 0,
            },
        };
        rtp.membership.send(now, &to, post);
    }

    /// RTCP said something of the stream at `at`.
    pub(super) fn rtcp_note(&mut self, now: Timestamp, at: Timestamp, note: &RtcpNote, outbox: &mut Outbox) {
        let duplicated = self.judge.as_ref().map_or(0, |judge| judge.transport().duplicated);
        if self.rtp_mut().rtcp(at, note, duplicated) {
            outbox.tell(now, &self.identity, StreamChange::Bye);
        }
    }

    /// What the home of one of its groups found.
    pub(super) fn outcome(&mut self, now: Timestamp, outcome: &Outcome, outbox: &mut Outbox) {
        if let Outcome::Rtcp { at, note } = outcome {
            return self.rtcp_note(now, *at, note, outbox);
        }
        let lost = self.rtp_mut().outcome(outcome);
        if lost == 0 {
            return;
        }
        let beside = |(finding, found): (&Finding, &Found)| {
            finding.taints() && found.told.is_some_and(|told| now.since(told) <= TAINT)
        };
        let tainted = Finding::ALL.iter().zip(&self.findings).any(beside);
        let identity = &self.identity;
        self.watch
            .count(now, Cause::NetworkLoss, lost, tainted, &mut |at, change| {
                outbox.tell(at, identity, change);
            });
    }

    /// Notes a finding that is not the judge's.
    pub(super) fn find(&mut self, at: Timestamp, finding: Finding, outbox: &mut Outbox) {
        if let Some(judge) = self.judge.as_mut().filter(|_| finding.taints()) {
            judge.taint(at);
        }
        if finding.taints() {
            self.watch.taint(at);
        }
        note(&mut self.findings, &self.identity, at, finding, outbox);
    }

    /// Notes a finding that nobody's injected packets have made: what stands beside it is as good as ever.
    pub(super) fn remark(&mut self, at: Timestamp, finding: Finding, outbox: &mut Outbox) {
        note(&mut self.findings, &self.identity, at, finding, outbox);
    }

    /// Lets time pass: gaps whose window is over, silence, holds and debounces. `blindness` is how often the engine was
    /// blind: nobody knows what came meanwhile, so silence counts from the moment at which it sees again.
    pub(super) fn advance(&mut self, now: Timestamp, blindness: u32, outbox: &mut Outbox) {
        self.with_judge(outbox, |judge, verdicts| judge.advance(now, verdicts));
        if self.blindness != blindness {
            self.blindness = blindness;
            self.media.quiet_since = self.media.quiet_since.max(now);
        }
        let waited_for = self.announced && self.identity.protocol.is_media();
        let (media, identity) = (waited_for.then_some(self.media), &self.identity);
        self.watch
            .advance(now, media, &mut |at, change| outbox.tell(at, identity, change));
    }

    /// The input ends: what still waits for missing packets is judged now.
    pub(super) fn flush(&mut self, outbox: &mut Outbox) {
        self.with_judge(outbox, |judge, verdicts| judge.flush(verdicts));
    }

    /// Tells that the stream is gone.
    pub(super) fn tell_gone(&self, now: Timestamp, cause: &'static str, outbox: &mut Outbox) {
        if self.announced {
            let change = StreamChange::StreamGone {
                cause,
                packets: self.packets,
                transport: self.transport(),
            };
            outbox.tell(now, &self.identity, change);
        }
    }

    /// Everything known of it.
    pub(super) fn report(&self) -> StreamReport {
        let findings = Finding::ALL
            .iter()
            .zip(&self.findings)
            .filter(|(_, found)| found.count > 0)
            .map(|(finding, found)| (finding.name(), found.count))
            .collect();
        StreamReport {
            ordinal: self.ordinal,
            identity: self.identity.clone(),
            encryption: self.encryption,
            decrypted: self.decrypted,
            srt: self.srt.as_ref().map(|srt| srt.report()),
            state: self.watch.state(),
            worst_state: self.watch.worst(),
            conditions: self.watch.standing().map(Cause::name).collect(),
            packets: self.packets,
            bytes: self.bytes,
            transport: self.transport(),
            ts: self.ts(),
            tr101290: BTreeMap::new(),
            findings,
            scte35: [],
            rtmp: self.rtmp.as_deref().map(RtmpFigures::report),
            rtp: self.rtp.as_ref().map(|rtp| rtp.report()),
        }
    }

    fn announce(&mut self, now: Timestamp, outbox: &mut Outbox) {
        // RFC 3550 A.1: a source is not believed on its first packet.
        if !self.announced && self.packets >= 2 {
            self.announced = true;
            outbox.tell(now, &self.identity, StreamChange::StreamAppeared);
        }
    }

    fn transport(&self) -> TransportReport {
        self.judge.as_ref().map_or_else(TransportReport::default, |judge| {
            let counted = judge.transport();
            let rtp = self.rtp.as_ref();
            TransportReport {
                recoverable: rtp.and_then(|rtp| rtp.recoverable(counted.lost)),
                lost: counted.lost,
                reordered: counted.reordered,
                duplicated: counted.duplicated,
                retransmitted: counted.retransmitted,
                late: counted.late,
                resets: counted.resets,
            }
        })
    }

    fn ts(&self) -> Option<TsReport> {
        let judge = self.judge.as_ref().filter(|_| self.ts_visible)?;
        let counted = judge.ts();
        let mut pids: Vec<PidReport> = judge
            .pids()
            .map(|pid| PidReport {
                pid: pid.pid,
                packets: pid.packets,
                continuity_errors: pid.continuity_errors,
                stream_type: None,
            })
            .collect();
        pids.sort_unstable_by_key(|pid| pid.pid);
        Some(TsReport {
            packets: counted.packets,
            continuity_errors: ContinuityErrors {
                source: counted.continuity_errors.source,
                network: counted.continuity_errors.network,
                unknown: counted.continuity_errors.unknown,
            },
            duplicates: counted.duplicates,
            sync_byte_errors: counted.sync_byte_errors,
            transport_errors: counted.transport_errors,
            crc_errors: 0,
            pids,
        })
    }

    fn with_judge(&mut self, outbox: &mut Outbox, work: impl FnOnce(&mut Judge, &mut Verdicts<'_>)) {
        let Some(judge) = &mut self.judge else { return };
        let mut verdicts = Verdicts {
            ordinal: self.ordinal,
            identity: &self.identity,
            watch: &mut self.watch,
            findings: &mut self.findings,
            rtp: self.rtp.as_deref_mut(),
            outbox,
        };
        work(judge, &mut verdicts);
    }
}

/// What the judge finds goes to the watch and, told, to the outbox.
struct Verdicts<'a> {
    ordinal: u64,
    identity: &'a StreamIdentity,
    watch: &'a mut Watch,
    findings: &'a mut [Found; FINDINGS],
    rtp: Option<&'a mut RtpFigures>,
    outbox: &'a mut Outbox,
}

impl Sink for Verdicts<'_> {
    fn event(&mut self, event: Event) {
        let (identity, outbox) = (self.identity, &mut *self.outbox);
        let mut out = |at, change| outbox.tell(at, identity, change);
        match event {
            Event::ContinuityError {
                fault: Fault::Network, ..
            } => {}
            Event::ContinuityError { at, pid, tainted, .. } => {
                self.watch.continuity_error(at, pid, tainted, &mut out);
            }
            Event::GivenUp { first, count } => {
                if let Some(rtp) = &mut self.rtp {
                    rtp.membership.given_up(first as u16, count);
                }
            }
            Event::Reset { cause, .. } if cause != ResetCause::Outage => {
                if let Some(rtp) = &mut self.rtp {
                    rtp.membership.rebased();
                }
            }
            // What one path of a pair lost the other may have brought: the merge tells.
            Event::Lost { .. } if self.rtp.as_ref().is_some_and(|rtp| rtp.is_path()) => {}
            Event::Lost { at, count, tainted } => {
                self.watch.count(at, Cause::NetworkLoss, count, tainted, &mut out);
            }
            Event::SequenceConflict { at } => self.find(at, Finding::SequenceConflict),
            Event::OutOfWindow { at } => self.find(at, Finding::OutOfWindow),
            _ => {}
        }
    }

    fn media(&mut self, packets: &[[u8; PACKET_SIZE]]) {
        self.outbox.hand_on(self.ordinal, self.identity, packets);
    }
}

impl Verdicts<'_> {
    fn find(&mut self, at: Timestamp, finding: Finding) {
        self.watch.taint(at);
        note(self.findings, self.identity, at, finding, self.outbox);
    }
}

fn note(
    findings: &mut [Found; FINDINGS],
    identity: &StreamIdentity,
    at: Timestamp,
    finding: Finding,
    outbox: &mut Outbox,
) {
    let found = &mut findings[finding as usize];
    found.count += 1;
    if found.told.is_none_or(|told| at.since(told) >= TELL_EVERY) {
        found.told = Some(at);
        outbox.tell(
            at,
            identity,
            StreamChange::Finding {
                finding: finding.name(),
                count: found.count,
            },
        );
    }
}

fn judge_for(protocol: StreamProtocol, window: Option<Duration>) -> Option<Judge> {
    let (ordering, auto, unsequenced) = match protocol {
        StreamProtocol::Rtp => (Ordering::Rtp, RTP_WINDOW, UnsequencedFault::Unknown),
        StreamProtocol::Rist => (Ordering::Rtp, ARQ_WINDOW, UnsequencedFault::Unknown),
        StreamProtocol::Srt => (Ordering::Srt, ARQ_WINDOW, UnsequencedFault::Unknown),
        StreamProtocol::TsUdp => (Ordering::Arrival, Duration::ZERO, UnsequencedFault::Unknown),
        StreamProtocol::File => (Ordering::Arrival, Duration::ZERO, UnsequencedFault::Source),
        StreamProtocol::RtpFec | StreamProtocol::Rtcp | StreamProtocol::Rtmp | StreamProtocol::Other => return None,
    };
    Some(Judge::new(ordering, window.unwrap_or(auto), unsequenced))
}

/// The observer's rule has no name.
pub(super) fn rule_name(rule: &Rule) -> Option<Arc<str>> {
    (!rule.name.is_empty()).then(|| Arc::from(rule.name.as_str()))
}
