//! What tells a flow's usual packet: media of its only stream, in the shape in which nearly all senders send it.

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::{Direction, FlowKey};

use super::ArrivalHeader;
use crate::engine::Content;
use crate::engine::flow::{Admission, Flow, Speaks};
use crate::engine::group::Post;
use crate::engine::judge::Packet;
use crate::engine::media::{mpegts, rtp};
use crate::engine::outbox::Outbox;
use crate::engine::stream::Stream;
use crate::engine::time::Timestamp;
use crate::policy::rule::MalformedTs;
use crate::policy::{Protocol, Rule};

/// Seven TS packets behind an RTP header without CSRC list and extension: what fits an Ethernet frame (RFC 2250 2).
const LENGTH: usize = rtp::FIXED_HEADER + TS_PACKETS * mpegts::PACKET_SIZE;
const TS_PACKETS: usize = 7;

/// A media packet of a known stream.
pub(in crate::engine) struct Media<'a> {
    /// What its RTP header says of the stream's state.
    pub header: ArrivalHeader,
    /// RTP payload type.
    pub payload_type: u8,
    /// What the judge takes.
    pub packet: Packet<'a>,
    /// Bytes of its UDP payload.
    pub bytes: usize,
}

impl Flow {
    /// Whether a packet of it may be a usual one.
    #[inline(always)]
    pub(in crate::engine) fn is_usual(&self) -> bool {
        self.usual
    }

    /// Notes whether its next packet may be a usual one: its only stream is confirmed, and goes the way in which its rule has
    /// media go; nothing but its state may speak against a packet of the usual shape with its SSRC.
    ///
    /// Under RIST an SSRC has two forms, and under `any` an odd one may belong to an even one's stream; here there is no other
    /// stream whose it could be.
    pub(in crate::engine) fn note_usual(&mut self, rule: &Rule) {
        let is_usual = |stream: &Stream| stream.is_confirmed() && stream.rtp.is_some();
        let goes_its_way = |stream: &Stream| match rule.protocol {
            Protocol::Any => true,
            Protocol::Rtp | Protocol::RtpFec => stream.direction == self.admission.forward,
            _ => false,
        };
        self.usual = matches!(self.speaks, Speaks::Rtp)
            && matches!(self.streams.as_slice(), [stream] if is_usual(stream) && goes_its_way(stream))
            && rule.rtp.admits_payload_type(rtp::PAYLOAD_TYPE_MP2T)
            && rule.ts.malformed_ts != MalformedTs::Drop;
    }

    /// A usual packet and its stream, if it is one: it goes the stream's way, has its SSRC and the usual shape. The flow must be
    /// a usual one ([`Flow::is_usual`]). For an engine that was blind so often; whether the stream is yet to be told so.
    #[inline(always)]
    pub(in crate::engine) fn usual<'a>(
        &mut self,
        direction: Direction,
        payload: &'a [u8],
        content: Content,
        blindness: u32,
    ) -> Option<(&mut Stream, Media<'a>, bool)> {
        let header = rtp::plain_header(payload.as_array::<LENGTH>()?, rtp::PAYLOAD_TYPE_MP2T)?;
        let stream = self.streams.first_mut()?;
        if stream.selector != header.ssrc || stream.direction != direction {
            return None;
        }
        let payload = payload.get(rtp::FIXED_HEADER..)?;
        let media = Media {
            header: ArrivalHeader {
                sequence: header.sequence_number,
                timestamp: header.timestamp,
                marker: header.marker,
                has_clock: true,
            },
            payload_type: rtp::PAYLOAD_TYPE_MP2T,
            packet: Packet {
                sequence: header.sequence_number.into(),
                retransmitted: false,
                payload,
                ts: payload.as_chunks().0,
                hash: None,
                content,
            },
            bytes: LENGTH,
        };
        let blind = core::mem::replace(&mut self.blindness, blindness) != blindness;
        Some((stream, media, blind))
    }
}

impl Stream {
    /// Takes a media packet of RTP, of a flow with that key and admission, and tells its groups what is due. `Err` where
    /// the stream is blocked.
    #[inline(always)]
    pub(in crate::engine) fn media(
        &mut self,
        now: Timestamp,
        media: Media<'_>,
        (flow, admission): (&FlowKey, Admission),
        outbox: &mut Outbox,
        post: &mut Post,
    ) -> Result<(), DropReason> {
        let Media {
            header,
            payload_type,
            packet,
            bytes,
        } = media;
        self.rtp_packet(now, payload_type, header, packet.retransmitted, outbox);
        self.offer(now, bytes, &packet, outbox);
        if self.rtp_judged(now, header.sequence) {
            // A copy: else the key would have to be in memory for every packet.
            let flow = *flow;
            self.tell_group(now, &flow, admission.rule(), post);
        }
        match self.is_blocked() {
            true => Err(DropReason::StreamBlocked),
            false => Ok(()),
        }
    }
}
