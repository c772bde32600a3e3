//! TS packets straight in UDP: no sequence numbers, so arrival order is all there is.

use tidegate_common::digest::PacketDigest;
use tidegate_common::drop_reason::DropReason;

use super::{Context, Datagram, Flow};
use crate::engine::judge::TsBytes;
use crate::engine::media::mpegts;
use crate::engine::report::StreamProtocol;
use crate::policy::rule::MalformedTs;

impl Flow {
    /// A datagram of a flow that carries bare TS packets.
    pub(super) fn ts_udp(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        let mut digest = PacketDigest::default();
        let shape = mpegts::digest_datagram(datagram.payload, context.content, &mut digest);
        if digest.ts_count == 0
            || digest.bad_sync & 1 != 0 && digest.bad_sync.count_ones() == u32::from(digest.ts_count)
        {
            return Err(DropReason::NotTs);
        }
        let place = self.stream(StreamProtocol::TsUdp, datagram.direction, 0, datagram, context);
        let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) else {
            return Ok(());
        };
        let ts = TsBytes::all(datagram.payload);
        stream.offer(context.now, datagram.payload.len(), &digest, ts, context.outbox);
        if stream.is_blocked() {
            return Err(DropReason::StreamBlocked);
        }
        malformed(&digest, shape.is_err(), context)
    }
}

/// `malformed_ts = "drop"`: a cleartext TS datagram with bad sync, length or transport error goes.
pub(super) fn malformed(digest: &PacketDigest, bad_shape: bool, context: &Context<'_>) -> Result<(), DropReason> {
    if context.rule.ts.malformed_ts != MalformedTs::Drop {
        return Ok(());
    }
    let bad = bad_shape
        || digest.bad_sync != 0
        || digest
            .ts
            .iter()
            .take(digest.ts_count.into())
            .any(|packet| packet.transport_error());
    if bad { Err(DropReason::MalformedTs) } else { Ok(()) }
}
