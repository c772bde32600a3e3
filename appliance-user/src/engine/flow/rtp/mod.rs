//! RTP media (RFC 3550, RFC 2250), and its companions RTCP and FEC.

mod arrival;
mod companions;
mod feedback;
mod figures;
mod history;
mod report;
mod usual;

use core::time::Duration;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;

pub(in crate::engine) use self::arrival::Header as ArrivalHeader;
pub(in crate::engine) use self::figures::RtpFigures;
pub use self::report::{FecReport, RtcpReport, RtpReport, SeamlessReport};
use self::usual::Media;
use super::ts_udp::malformed;
use super::{Context, Datagram, Flow};
use crate::engine::judge::Packet;
use crate::engine::media::{mpegts, rtp};
use crate::engine::report::StreamProtocol;
use crate::engine::stream::{Finding, Stream};
use crate::engine::time::Timestamp;
use crate::policy::{Protocol, Rule};

/// A newcomer's SSRC succeeds one that has been silent for this long, and is a conflict before.
const SSRC_SILENCE: Duration = Duration::from_secs(1);

/// Sources of one direction that have sent a single packet, remembered at most.
const MAX_PROBATION: usize = 8;

impl Flow {
    /// A packet of a flow that carries RTP.
    pub(super) fn rtp(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        let Some(packet) = self.rtp_header(datagram, context)? else {
            self.rtcp_beside_media(datagram, context);
            return Ok(());
        };
        let admitted = admit(&packet, context.rule);
        if context.rule.enforce {
            admitted?;
        }
        let sender = self.sender(packet.ssrc(), datagram.direction, context.rule);
        let is_mp2t = packet.payload_type() == rtp::PAYLOAD_TYPE_MP2T;
        let is_ts = is_mp2t || mpegts::looks_like_ts(packet.payload());
        let media = Packet {
            sequence: packet.sequence_number().into(),
            retransmitted: sender.retransmits,
            payload: packet.payload(),
            ts: if is_ts { mpegts::visible(packet.payload()) } else { &[] },
            hash: None,
            content: context.content,
        };
        let is_usual = |stream: &Stream| {
            stream.selector == sender.ssrc && stream.direction == datagram.direction && stream.is_confirmed()
        };
        let place = if self.streams.first().is_some_and(is_usual) {
            Some(0)
        } else {
            self.rtp_stream(&sender, datagram, context)
        };
        let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) else {
            // Nobody walks around a block, or past what holds for every packet, under another SSRC.
            if self.is_blocked(datagram.direction) {
                return Err(DropReason::StreamBlocked);
            }
            return admitted.and(if is_ts {
                malformed(media.payload, context)
            } else {
                Ok(())
            });
        };
        if sender.rist {
            stream.speaks_rist(context.rule);
        }
        let media = Media {
            header: ArrivalHeader {
                sequence: packet.sequence_number(),
                timestamp: packet.timestamp(),
                marker: packet.marker(),
                has_clock: is_mp2t || !media.ts.is_empty(),
            },
            payload_type: packet.payload_type(),
            packet: media,
            bytes: datagram.payload.len(),
        };
        let payload = media.packet.payload;
        let of = (datagram.key(), self.admission);
        let taken = stream.media(context.now, media, of, context.outbox, context.post);
        admitted?;
        taken?;
        if is_ts { malformed(payload, context) } else { Ok(()) }
    }

    #[cold]
    fn is_blocked(&self, direction: Direction) -> bool {
        let blocked = |stream: &Stream| stream.direction == direction && stream.is_blocked();
        self.streams.iter().any(blocked)
    }

    /// The media packet that a datagram is, if its rule has media go this way; `None` for RTCP on the media port (RFC 5761), which may
    /// go either way, is not media and changes nothing.
    #[inline(always)]
    fn rtp_header<'a>(
        &self,
        datagram: &Datagram<'a>,
        context: &Context<'_>,
    ) -> Result<Option<rtp::Packet<'a>>, DropReason> {
        if rtp::is_rtcp(datagram.payload) {
            return Ok(None);
        }
        if datagram.direction != self.admission.forward && context.rule.protocol != Protocol::Any {
            return Err(DropReason::NotRtp);
        }
        rtp::Packet::parse(datagram.payload)
            .map(Some)
            .map_err(|_| DropReason::NotRtp)
    }

    /// What the first part of a media packet shows.
    pub(super) fn rtp_first_part(&self, datagram: &Datagram<'_>, context: &Context<'_>) -> Result<(), DropReason> {
        let packet = self.rtp_header(datagram, context)?;
        packet.map_or(Ok(()), |packet| admit(&packet, context.rule))
    }

    /// Whose packet it is. RIST sets the SSRC's lowest bit in what it sends again (VSF TR-06-1); where no rule says RIST,
    /// an SSRC that differs from a known even one in nothing else shows it, for chance does not.
    #[inline]
    fn sender(&self, ssrc: u32, direction: Direction, rule: &Rule) -> Sender {
        let original = ssrc & !1;
        let is_known = |stream: &Stream| stream.direction == direction && stream.selector == original;
        let rist = rule.protocol == Protocol::Rist
            || rule.protocol == Protocol::Any && ssrc != original && self.streams.iter().any(is_known);
        if rist {
            Sender {
                ssrc: original,
                retransmits: ssrc != original,
                rist,
            }
        } else {
            Sender {
                ssrc,
                retransmits: false,
                rist,
            }
        }
    }

    /// The stream of an SSRC: a known one, a successor, a new one where the rule allows one more; else a conflict.
    #[inline(never)]
    fn rtp_stream(&mut self, sender: &Sender, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Option<usize> {
        let ssrc = sender.ssrc;
        let same_way = |stream: &Stream| stream.direction == datagram.direction;
        let known = self
            .streams
            .iter()
            .position(|stream| same_way(stream) && stream.selector == ssrc);
        if let Some(place) = known {
            return self.of_known_source(place, context);
        }
        let now = context.now;
        let concurrent = self
            .streams
            .iter()
            .filter(|stream| same_way(stream) && stream.is_confirmed() && is_alive(stream, now))
            .count();
        if concurrent >= usize::from(context.rule.rtp.max_ssrc) {
            let is_leaving = |stream: &Stream| stream.rtp.as_ref().is_some_and(|rtp| rtp.is_leaving(now));
            if self.streams.iter().any(|stream| same_way(stream) && is_leaving(stream)) {
                return None;
            }
            // The longest-standing stream is the one that the newcomer challenges.
            if let Some(first) = self.streams.iter_mut().find(|stream| same_way(stream)) {
                first.find(context.now, Finding::SsrcConflict, context.outbox);
            }
            return None;
        }
        self.make_room_for_probation(datagram.direction);
        let protocol = if sender.rist {
            StreamProtocol::Rist
        } else {
            StreamProtocol::Rtp
        };
        let began_before = self.unattributed.as_ref().is_some_and(|before| before.packets > 0);
        let place = self.stream(protocol, datagram.direction, ssrc, datagram, context)?;
        if let Some(stream) = self.streams.get_mut(place) {
            if began_before {
                stream.rtp_mut().began_before();
            }
            stream.tie(context.rule);
        }
        Some(place)
    }

    /// A source's second packet confirms it (RFC 3550 A.1), and who is still on probation beside it was none: one forged
    /// packet cannot challenge a genuine stream.
    fn of_known_source(&mut self, place: usize, context: &mut Context<'_>) -> Option<usize> {
        let source = self.streams.get(place)?;
        if source.is_confirmed() {
            return Some(place);
        }
        let (direction, selector) = (source.direction, source.selector);
        let alive = |stream: &Stream| is_alive(stream, context.now);
        let several = context.rule.rtp.max_ssrc > 1;
        self.streams.retain(|stream| {
            let is_other = stream.direction == direction && stream.selector != selector;
            !is_other || stream.is_confirmed() || several && alive(stream)
        });
        let of_source = |stream: &Stream| stream.direction == direction && stream.selector == selector;
        let place = self.streams.iter().position(of_source)?;
        let fell_silent = |stream: &Stream| stream.direction == direction && stream.is_confirmed() && !alive(stream);
        if !self.streams.iter().any(fell_silent) {
            return Some(place);
        }
        // The stream that fell silent goes on under the newcomer's SSRC.
        let newcomer = self.streams.remove(place);
        let successor = self.streams.iter().position(fell_silent)?;
        let stream = self.streams.get_mut(successor)?;
        stream.succeed(selector, context.outbox);
        stream.absorb(&newcomer);
        Some(successor)
    }

    /// The oldest source on probation gives way to a newer one where there are many.
    fn make_room_for_probation(&mut self, direction: Direction) {
        let on_probation = |stream: &Stream| stream.direction == direction && !stream.is_confirmed();
        if self.streams.iter().filter(|stream| on_probation(stream)).count() >= MAX_PROBATION
            && let Some(oldest) = self.streams.iter().position(on_probation)
        {
            self.streams.remove(oldest);
        }
    }
}

/// What the rule says of a media packet, apart from its stream.
fn admit(packet: &rtp::Packet<'_>, rule: &Rule) -> Result<(), DropReason> {
    if rule.rtp.admits_payload_type(packet.payload_type()) {
        Ok(())
    } else {
        Err(DropReason::RtpPayloadType)
    }
}

/// Whether a stream still holds its place against newcomers.
fn is_alive(stream: &Stream, now: Timestamp) -> bool {
    let has_left = stream.rtp.as_ref().is_some_and(|rtp| rtp.has_left(now));
    now.since(stream.last_seen()) < SSRC_SILENCE && !has_left
}

/// Who sent an RTP packet.
#[derive(Clone, Copy, Debug)]
struct Sender {
    /// The SSRC of the stream.
    ssrc: u32,
    /// The packet is sent again because the receiver asked for it.
    retransmits: bool,
    /// The stream is RIST.
    rist: bool,
}
