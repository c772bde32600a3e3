//! What accompanies RTP media on ports of its own: RTCP on P+1, FEC on P+2 and P+4, and RTCP on the media's own port.

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Tuple;

use crate::engine::flow::{Context, Datagram, Flow, Speaks};
use crate::engine::group::{GroupBody, GroupKey, Member, for_each_note};
use crate::engine::media::fec::{self, Dimension};
use crate::engine::media::rtcp::{Compound, Packet};
use crate::engine::media::rtp;
use crate::engine::report::StreamProtocol;
use crate::policy::rule::PortRole;
use crate::policy::{Protocol, Rule};

impl Flow {
    /// RTCP beside its media (RFC 3550 11: the next odd port), both ways.
    pub(in crate::engine::flow) fn rtcp(
        &mut self,
        datagram: &Datagram<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if !rtp::is_rtcp(datagram.payload) {
            if self.is_media_after_all(datagram, context.rule) {
                self.speaks = Speaks::Rtp;
                self.unattributed = self.streams.first().map(|stream| Box::new(stream.totals()));
                self.streams.clear();
                return self.rtp(datagram, context);
            }
            return Err(DropReason::NotRtp);
        }
        self.opaque(datagram, StreamProtocol::Rtcp, context);
        let compound = Compound::parse(datagram.payload);
        let key = self.media_of_rtcp(datagram, context.rule, compound.as_ref().ok());
        let Some(stream) = self.streams.first_mut() else {
            return Ok(());
        };
        let own = stream.rtp_mut();
        let Ok(compound) = compound else {
            own.rtcp_malformed(1);
            return Ok(());
        };
        let malformed = for_each_note(&compound, |ssrc, note| {
            own.rtcp(context.now, &note);
            if let Some(key) = key {
                context.post.send_home(context.now, key, GroupBody::Rtcp { ssrc, note });
            }
        });
        own.rtcp_malformed(malformed);
        Ok(())
    }

    /// RTCP on the media's own port (RFC 5761), which may go either way, is not media and says something of it.
    #[cold]
    pub(super) fn rtcp_beside_media(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) {
        let Ok(compound) = Compound::parse(datagram.payload) else {
            return;
        };
        let streams = &mut self.streams;
        for_each_note(&compound, |ssrc, note| {
            let exact = streams.iter().any(|stream| stream.selector == ssrc);
            let wanted = if exact { ssrc } else { ssrc & !1 };
            for stream in streams.iter_mut().filter(|stream| stream.selector == wanted) {
                stream.rtcp_note(context.now, context.now, &note, context.outbox);
            }
        });
    }

    /// FEC of the media on the listed port (SMPTE ST 2022-1: columns on P+2, rows on P+4).
    pub(in crate::engine::flow) fn fec(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) {
        self.opaque(datagram, StreamProtocol::RtpFec, context);
        let header = rtp::Packet::parse(datagram.payload)
            .ok()
            .and_then(|packet| fec::Header::parse(packet.payload()).ok());
        // The packet by which the flow was not yet known came the same way.
        if let Speaks::Fec(before) = &mut self.speaks
            && let Some(before) = before.take()
        {
            self.fec_header(datagram, Some(*before), context);
        }
        self.fec_header(datagram, header, context);
    }

    fn fec_header(&mut self, datagram: &Datagram<'_>, header: Option<fec::Header>, context: &mut Context<'_>) {
        let Some(stream) = self.streams.first_mut() else {
            return;
        };
        stream.rtp_mut().fec_packet(header.as_ref());
        let Some(header) = header.filter(|_| datagram.direction == stream.direction) else {
            return;
        };
        let member = Member {
            flow: *datagram.key(),
            direction: stream.direction,
            ssrc: 0,
        };
        let protected = header.protected;
        let tuple = datagram.tuple();
        let media = media_port_of_fec(&tuple, context.rule, header.dimension);
        if let Some(key) = media.map(|port| self.group_key(&tuple, port)) {
            let body = GroupBody::Fec { member, protected };
            context.post.send_home(context.now, key, body);
        }
    }

    /// The group of the media that goes where a packet goes, to another port.
    fn group_key(&self, tuple: &Tuple, port: u16) -> GroupKey {
        let mut destination = tuple.destination;
        destination.set_port(port);
        GroupKey {
            rule: self.admission.rule(),
            endpoint: tuple.endpoint,
            destination: Some(destination),
            ssrc: 0,
        }
    }

    /// The group of the media that RTCP belongs to. Where no rule says which way the media goes, the report does: a sender's
    /// goes with the media, a receiver's against it.
    fn media_of_rtcp(&self, datagram: &Datagram<'_>, rule: &Rule, compound: Option<&Compound<'_>>) -> Option<GroupKey> {
        let (tuple, reversed) = (datagram.tuple(), datagram.tuple().reversed());
        let with_media = if rule.protocol == Protocol::Any {
            !compound.is_some_and(is_of_receiver)
        } else {
            datagram.direction == self.admission.forward
        };
        let tuple = if with_media { &tuple } else { &reversed };
        let port = tuple.destination.port();
        let media = match rule.port_role(port) {
            Some(PortRole::Companion { media, .. }) => media,
            Some(PortRole::Media) | None => port.checked_sub(1)?,
        };
        Some(self.group_key(tuple, media))
    }

    /// Without a rule a flow whose first packet was RTCP may still be media, with RTCP on the same port (RFC 5761).
    fn is_media_after_all(&self, datagram: &Datagram<'_>, rule: &Rule) -> bool {
        let port = datagram.tuple().destination.port();
        rule.protocol == Protocol::Any && port.is_multiple_of(2) && rtp::Packet::parse(datagram.payload).is_ok()
    }
}

/// Whether a receiver sent it: its first report is a receiver's that says something, or it asks for retransmissions.
fn is_of_receiver(compound: &Compound<'_>) -> bool {
    for packet in compound.packets().flatten() {
        match packet {
            Packet::SenderReport { .. } => return false,
            Packet::ReceiverReport { blocks, .. } if blocks.iter().len() > 0 => return true,
            Packet::GenericNack { .. } | Packet::RangeNack { .. } => return true,
            _ => {}
        }
    }
    false
}

/// The port of the media that an FEC packet protects.
fn media_port_of_fec(tuple: &Tuple, rule: &Rule, dimension: Dimension) -> Option<u16> {
    let port = tuple.destination.port();
    match rule.port_role(port) {
        Some(PortRole::Companion { media, .. }) => Some(media),
        Some(PortRole::Media) | None => port.checked_sub(match dimension {
            Dimension::Column => 2,
            Dimension::Row => 4,
        }),
    }
}
