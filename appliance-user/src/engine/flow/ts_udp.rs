//! TS packets straight in UDP: no sequence numbers, so arrival order is all there is.

use tidegate_common::drop_reason::DropReason;

use super::{Context, Datagram, Flow};
use crate::engine::judge::Packet;
use crate::engine::media::mpegts;
use crate::engine::report::StreamProtocol;
use crate::policy::rule::MalformedTs;

impl Flow {
    /// A datagram of a flow that carries bare TS packets.
    pub(super) fn ts_udp(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        if !mpegts::has_sync(datagram.payload) {
            return Err(DropReason::NotTs);
        }
        let packet = Packet {
            sequence: 0,
            retransmitted: false,
            payload: datagram.payload,
            ts: mpegts::visible(datagram.payload),
            hash: None,
            content: context.content,
        };
        let place = self.stream(StreamProtocol::TsUdp, datagram.direction, 0, datagram, context);
        let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) else {
            return Ok(());
        };
        stream.offer(context.now, datagram.payload.len(), &packet, context.outbox);
        if stream.is_blocked() {
            return Err(DropReason::StreamBlocked);
        }
        malformed(packet.payload, context)
    }
}

/// `malformed_ts = "drop"`: a cleartext TS datagram with bad sync, length or transport error goes.
pub(super) fn malformed(ts: &[u8], context: &Context<'_>) -> Result<(), DropReason> {
    if context.rule.ts.malformed_ts == MalformedTs::Drop && mpegts::is_malformed(ts) {
        Err(DropReason::MalformedTs)
    } else {
        Ok(())
    }
}
