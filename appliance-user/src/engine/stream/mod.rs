//! One media stream: its identity, its judge and its state.
//!
//! What the judge finds comes by way of `verdicts`, what RTP's companions say by way of `rtp`; `figures` reports.

mod ahead;
mod blindness;
mod conditions;
mod figures;
mod finding;
mod packets;
mod rtp;
mod telling;
#[cfg(test)]
mod tests;
mod verdicts;

use core::time::Duration;
use std::sync::Arc;

use tidegate_common::flow::{Direction, Tuple};

pub(super) use self::finding::Finding;
use self::finding::Findings;
use self::telling::Telling;
use self::verdicts::Verdicts;
use super::event::StreamChange;
use super::flow::RtmpFigures;
use super::flow::rtp::RtpFigures;
use super::flow::srt::SrtFigures;
use super::judge::{Axis, Judge, Ordering, UnsequencedFault};
use super::memory::{Allowance, Grant};
use super::outbox::Outbox;
use super::report::{StreamIdentity, StreamProtocol, StreamState};
use super::time::Timestamp;
use super::watch::{Media, Watch};
use crate::policy::Rule;
use crate::policy::rule::TsRule;

/// RTP without a negotiated latency: longer than any switch's reordering, far shorter than a viewer's buffer.
const RTP_WINDOW: Duration = Duration::from_millis(50);
/// SRT while its handshake is unseen, and RIST: several retransmission rounds on a long path.
const ARQ_WINDOW: Duration = Duration::from_secs(1);

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
///
/// What every packet reads and writes are two stretches of whole cache lines: the first fields, which are one line, and the
/// judge's hot part. Between them stands what is seldom needed, and what is told, reported or found stands apart.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Stream {
    /// What tells it from its flow's other streams: the SSRC, or SRT's destination socket id.
    pub selector: u32,
    /// `silence` in units of [`PATIENCE`], rounded down: whoever was not away for so long was not silent.
    patience: u32,
    /// Which way of its flow the media goes.
    pub direction: Direction,
    /// Its TS was judged after decryption.
    pub decrypted: bool,
    announced: bool,
    ts_visible: bool,
    /// The appliance was blind since the last packet.
    unseen: bool,
    /// The watch's state is that its packets are to be dropped.
    blocked: bool,
    /// Silence of it is a matter of its rule.
    is_media: bool,
    /// Something has changed since time was last let pass that time may do something about.
    stirred: bool,
    packets: u64,
    bytes: u64,
    last_seen: Timestamp,
    media: Media,
    /// What only RTP knows; `None` for other protocols.
    pub(in crate::engine) rtp: Option<Box<RtpFigures>>,
    /// Longer without media, in nanoseconds, is silence by its rule.
    silence: u64,
    /// The engine's blindness that `media` knows of.
    blindness: u32,
    cold: Box<Cold>,
    /// What only SRT knows of it.
    pub(in crate::engine) srt: Option<Box<SrtFigures>>,
    /// What only RTMP knows.
    pub rtmp: Option<Box<RtmpFigures>>,
    /// The cipher's name, `none`, or `unverified`.
    pub encryption: &'static str,
    /// The engine's streams in the order in which they appeared.
    ordinal: u64,
    judge: Option<Judge>,
}

/// Nanoseconds, as a power of two: about a millisecond.
const PATIENCE: u32 = 20;

/// What a packet seldom needs.
#[derive(Debug)]
struct Cold {
    identity: StreamIdentity,
    watch: Watch,
    findings: Findings,
    /// What was told of the transport stream lately.
    telling: Telling,
    /// What the rule says of the transport stream.
    rule: Arc<TsRule>,
    /// What pays for the stream's own bytes.
    room: Option<Grant>,
    /// What pays for the watch's.
    watch_room: Option<Grant>,
}

impl Stream {
    /// Bytes of a stream that has just begun, with its judge's first room.
    pub(super) const MEMORY: usize = size_of::<Stream>() + size_of::<Cold>() + 1024;

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
        let media = Media {
            last: now,
            quiet_since: now,
        };
        let cold = Cold {
            identity,
            watch: Watch::new(rule, protocol),
            findings: Findings::default(),
            telling: Telling::default(),
            rule: Arc::clone(&rule.ts),
            room: None,
            watch_room: None,
        };
        let silence = silence_of(rule);
        Stream {
            selector,
            patience: patience_of(silence),
            blindness: 0,
            direction,
            decrypted: false,
            announced: false,
            ts_visible: false,
            unseen: false,
            blocked: false,
            is_media: protocol.is_media(),
            stirred: true,
            packets: 0,
            bytes: 0,
            last_seen: now,
            media,
            rtp: None,
            silence,
            cold: Box::new(cold),
            judge: judge_for(protocol, rule.reorder_window),
            srt: None,
            rtmp: None,
            encryption: "none",
            ordinal: 0,
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
        stream.cold.identity.source = None;
        stream.cold.identity.destination = None;
        stream
    }

    /// Takes its place: `room` pays for it, and what it grows by comes out of the allowance.
    pub(super) fn settle(&mut self, room: Grant, allowance: &Allowance) {
        self.cold.room = Some(room);
        self.cold.watch_room = Some(allowance.grant());
        self.judge = self.judge.take().map(|judge| judge.within(allowance));
    }

    /// The policy changed and the stream goes on under `rule`.
    pub(super) fn readmit(&mut self, rule: &Rule) {
        self.cold.identity.rule = rule_name(rule);
        self.cold.watch.readmit(rule);
        self.silence = silence_of(rule);
        self.patience = patience_of(self.silence);
        self.settle_state();
        self.cold.rule = Arc::clone(&rule.ts);
        if let Some(judge) = &mut self.judge {
            judge.readmit(&rule.ts);
        }
    }

    /// When its last packet came.
    #[inline]
    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// Whether its packets are being dropped.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The watch may have moved its state.
    fn settle_state(&mut self) {
        self.stirred = true;
        self.blocked = self.cold.watch.state() == StreamState::Blocked;
    }

    /// Whether it was told of: it has shown more than one packet.
    #[inline]
    pub(super) fn is_confirmed(&self) -> bool {
        self.announced
    }

    /// Whether it was only counted so far.
    pub(super) fn is_other(&self) -> bool {
        self.cold.identity.protocol == StreamProtocol::Other
    }

    /// Tells something of it.
    pub(super) fn tell(&self, at: Timestamp, change: StreamChange, outbox: &mut Outbox) {
        outbox.tell(at, &self.cold.identity, change);
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
            self.cold.identity.stream_id = stream_id;
        }
        if let (Some(latency), Some(judge)) = (latency, &mut self.judge) {
            judge.set_window(latency);
        }
    }

    /// The stream has shown to be RIST: its sender repeats what was lost, so there is longer to wait.
    pub(super) fn speaks_rist(&mut self, rule: &Rule) {
        if self.cold.identity.protocol == StreamProtocol::Rtp {
            self.cold.identity.protocol = StreamProtocol::Rist;
            if let Some(judge) = &mut self.judge {
                judge.set_window(rule.reorder_window.unwrap_or(ARQ_WINDOW));
            }
        }
    }

    /// The sender came back under another SSRC: the same stream goes on with new counters.
    pub(super) fn succeed(&mut self, selector: u32, outbox: &mut Outbox) {
        self.with_judge(outbox, |judge, verdicts| judge.rebase(verdicts));
        self.selector = selector;
        self.cold.identity.ssrc = Some(selector);
        if let Some(rtp) = &mut self.rtp {
            rtp.succeed();
        }
    }

    /// Its transport stream is analysed too: tables, clocks, TR 101 290.
    pub(super) fn analyse(&mut self) {
        let axis = if self.cold.identity.protocol == StreamProtocol::File {
            Axis::File
        } else {
            Axis::Live
        };
        if let Some(judge) = &mut self.judge {
            judge.analyse(axis, Arc::clone(&self.cold.rule));
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

    /// Takes over what another stream counted, which turned out to be this one.
    pub(super) fn absorb(&mut self, other: &Stream) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    /// Notes a finding that is not the judge's.
    pub(super) fn find(&mut self, at: Timestamp, finding: Finding, outbox: &mut Outbox) {
        if let Some(judge) = self.judge.as_mut().filter(|_| finding.taints()) {
            judge.taint(at);
        }
        self.stirred = true;
        if finding.taints() {
            self.cold.watch.taint(at);
        }
        self.cold.findings.note(&self.cold.identity, at, finding, outbox);
    }

    /// Notes a finding that nobody's injected packets have made: what stands beside it is as good as ever.
    pub(super) fn remark(&mut self, at: Timestamp, finding: Finding, outbox: &mut Outbox) {
        self.cold.findings.note(&self.cold.identity, at, finding, outbox);
    }

    /// Lets time pass: gaps whose window is over, silence, holds and debounces. The engine was blind so often, and sees again
    /// since then: nobody knows what came meanwhile, so silence counts from that moment.
    pub(super) fn advance(&mut self, now: Timestamp, (blindness, sees_since): (u32, Timestamp), outbox: &mut Outbox) {
        self.with_judge(outbox, |judge, verdicts| judge.advance(now, verdicts));
        self.weigh_conditions(now, outbox);
        if self.blindness != blindness {
            self.blindness = blindness;
            self.media.quiet_since = self.media.quiet_since.max(sees_since);
        }
        let media = (self.announced && self.is_media).then_some(self.media);
        let Cold {
            identity,
            watch,
            watch_room,
            ..
        } = &mut *self.cold;
        watch.advance(now, media, &mut |at, change| outbox.tell(at, identity, change));
        if let Some(room) = watch_room {
            // Its windows are bounded, and it is what blocks: where nothing is left, the analysis of others gives way, not it.
            room.hold(watch.memory());
        }
        self.settle_state();
        self.stirred = false;
    }

    /// Whether something has changed since [`Stream::advance`] that time may do something about.
    #[inline]
    pub(super) fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// Until when [`Stream::advance`] does nothing that cannot wait, unless the stream is stirred before. What packets do by
    /// themselves needs no turn.
    pub(super) fn next_turn(&self) -> Timestamp {
        let judged = self.judge.as_ref().is_none_or(Judge::is_at_rest);
        let followed = self.rtp.as_ref().is_some_and(|rtp| rtp.membership.is_followed());
        if !judged || followed || !self.cold.watch.is_quiet() {
            return Timestamp::default();
        }
        let silent = self.media.quiet_since.nanos().saturating_add(self.silence);
        let is_awaited = self.announced && self.is_media;
        let silent = Timestamp::from_nanos(if is_awaited { silent.saturating_add(1) } else { u64::MAX });
        self.next_conditions().map_or(silent, |weighed| silent.min(weighed))
    }

    /// The reader of a file lost synchronisation.
    pub(super) fn sync_lost(&mut self, at: Timestamp, outbox: &mut Outbox) {
        self.with_judge(outbox, |judge, verdicts| judge.sync_lost(at, verdicts));
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
            outbox.tell(now, &self.cold.identity, change);
        }
    }

    fn with_judge<R>(
        &mut self,
        outbox: &mut Outbox,
        work: impl FnOnce(&mut Judge, &mut Verdicts<'_>) -> R,
    ) -> Option<R> {
        let judge = self.judge.as_mut()?;
        let cold = &mut *self.cold;
        let mut verdicts = Verdicts {
            ordinal: self.ordinal,
            identity: &cold.identity,
            watch: &mut cold.watch,
            findings: &mut cold.findings,
            telling: &mut cold.telling,
            rule: &cold.rule,
            rtp: self.rtp.as_deref_mut(),
            outbox,
            told: false,
        };
        let result = work(judge, &mut verdicts);
        let told = verdicts.told;
        if let Some(rtp) = &mut self.rtp {
            rtp.set_copies(judge.transport().duplicated);
        }
        // Where nothing was found the watch is as it was, and its memory is not looked at.
        if told {
            self.settle_state();
        } else if !judge.is_at_rest() {
            self.stirred = true;
        }
        Some(result)
    }
}

/// Longer without media than this is silence by a rule, in nanoseconds.
fn silence_of(rule: &Rule) -> u64 {
    let nanos = |silence: Duration| u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
    rule.silence.map_or(u64::MAX, nanos)
}

/// The same in units of [`PATIENCE`].
fn patience_of(silence: u64) -> u32 {
    u32::try_from(silence >> PATIENCE).unwrap_or(u32::MAX)
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
