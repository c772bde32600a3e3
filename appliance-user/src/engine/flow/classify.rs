//! What a flow speaks when no rule says so: `protocol = "any"`, and `inspect` without a policy.
//!
//! A protocol is believed on evidence that chance does not give: sync bytes 188 bytes apart, a whole handshake, or two
//! consecutive sequence numbers of one sender. Until then, and for everything else, packets are counted and nothing is
//! said about them.

use tidegate_common::flow::Direction;

use super::{Datagram, Flow, Speaks, srt};
use crate::engine::media::{fec, mpegts, rtp, srt as srt_wire};

/// Packets after which a flow that showed nothing is `other` for good.
const PATIENCE: u8 = 64;

/// What the packets so far have shown.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    packets: u8,
    rtp: Option<Candidate>,
    /// What the last packet was if it was of FEC.
    fec: Option<fec::Header>,
    srt: Option<Candidate>,
}

/// The last packet that could have been of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    direction: Direction,
    sender: u32,
    next: u32,
}

impl Flow {
    /// Looks for proof of a protocol in one more packet.
    pub(super) fn classify(&mut self, datagram: &Datagram<'_>) {
        let Speaks::Undecided(evidence) = &mut self.speaks else {
            return;
        };
        let decided = evidence.weigh(datagram);
        if decided.is_none() {
            evidence.packets = evidence.packets.saturating_add(1);
            if evidence.packets >= PATIENCE {
                self.speaks = Speaks::Other;
            }
            return;
        }
        if let Some(speaks) = decided {
            // What was counted as opaque was of this protocol: its stream takes the figures over.
            self.unattributed = self.streams.first().map(|stream| Box::new(stream.totals()));
            self.streams.clear();
            self.speaks = speaks;
        }
    }
}

impl Evidence {
    fn weigh(&mut self, datagram: &Datagram<'_>) -> Option<Speaks> {
        let payload = datagram.payload;
        if mpegts::looks_like_ts(payload) {
            return Some(Speaks::TsUdp);
        }
        if rtp::is_rtcp(payload) {
            return Some(Speaks::Rtcp);
        }
        if let Ok(packet) = srt_wire::Packet::parse(payload) {
            match packet {
                srt_wire::Packet::Control(control) if control.handshake().is_some() => {
                    return Some(Speaks::Srt(Box::<srt::Sessions>::default()));
                }
                srt_wire::Packet::Data(data) => {
                    let seen = Candidate {
                        direction: datagram.direction,
                        sender: data.destination_socket_id(),
                        next: data.sequence_number(),
                    };
                    let next = Candidate {
                        next: (seen.next + 1) & srt_wire::SEQUENCE_MASK,
                        ..seen
                    };
                    if self.srt.replace(next) == Some(seen) || mpegts::looks_like_ts(data.payload()) {
                        return Some(Speaks::Srt(Box::<srt::Sessions>::default()));
                    }
                }
                srt_wire::Packet::Control(_) => {}
            }
        }
        let packet = rtp::Packet::parse(payload).ok()?;
        let seen = Candidate {
            direction: datagram.direction,
            sender: packet.ssrc(),
            next: packet.sequence_number().into(),
        };
        let next = Candidate {
            next: u32::from(packet.sequence_number().wrapping_add(1)),
            ..seen
        };
        let consecutive = self.rtp.replace(next) == Some(seen);
        // ST 2022-1: SSRC 0 and a dynamic payload type, which media could have too, but not with such a header.
        let may_be_fec = packet.ssrc() == 0 && packet.payload_type() >= 96;
        let header = fec::Header::parse(packet.payload()).ok().filter(|_| may_be_fec);
        let before = core::mem::replace(&mut self.fec, header);
        if consecutive && header.is_some_and(|header| header.is_typical()) {
            return Some(Speaks::Fec(before.map(Box::new)));
        }
        (consecutive || mpegts::looks_like_ts(packet.payload())).then_some(Speaks::Rtp)
    }
}
