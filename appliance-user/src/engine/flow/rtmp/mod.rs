//! RTMP: who may connect to which application and publish or play under which stream key.
//!
//! The client's first bytes are put in order, read, and decided about; then the connection passes without being looked at.
//! Segments pass at once, before the decision too: what comes before it is harmless, and the segment that completes an
//! offence is dropped with everything after it, so the server never gets the command whole.
//!
//! The key is a secret. It is compared and forgotten: neither report nor event has it, nor does any `Debug` here.

mod line;
mod reading;
mod reassembly;
mod session;

use std::sync::Arc;

use serde::Serialize;
use tidegate_common::drop_reason::DropReason;

use self::session::News;
pub(super) use self::session::Session;
use super::{Context, Datagram, Flow, Speaks};
use crate::engine::event::StreamChange;
use crate::engine::report::StreamProtocol;
use crate::engine::stream::Finding;
use crate::policy::Protocol;

/// The port that RTMP is known by (RTMP 1.0, 8); where no rule says so, only there it is looked for.
pub(super) const WELL_KNOWN_PORT: u16 = 1935;

/// What only RTMP knows of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct RtmpFigures {
    application: Option<Arc<str>>,
    client: Option<Arc<str>>,
    purpose: Option<&'static str>,
    publish_type: Option<&'static str>,
    key_pattern: Option<u32>,
    verified: bool,
    refused: Option<DropReason>,
    encryption: &'static str,
}

/// What a report says of an RTMP stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RtmpReport {
    /// `app` of `connect` as the client named it, without what follows a `?`; `None` while it was not seen.
    pub application: Option<Arc<str>>,
    /// `flashVer` of `connect`: what the client calls itself.
    pub client: Option<Arc<str>>,
    /// `publish` or `play`, once the client asked for it.
    pub purpose: Option<&'static str>,
    /// `live`, `record`, `append` or `other`: the type of a `publish`.
    pub publish_type: Option<&'static str>,
    /// Which of the rule's stream keys the client's matches, counted from 1; `None` where the rule has none, or none matched.
    pub key_pattern: Option<u32>,
    /// The connection was followed from its beginning, and the rule admits what it asked for.
    pub verified: bool,
    /// Why the connection was refused, or could not be read where no rule asks for RTMP: a drop reason's name.
    pub refused: Option<&'static str>,
}

impl RtmpFigures {
    /// The report's part.
    pub(in crate::engine) fn report(&self) -> RtmpReport {
        RtmpReport {
            application: self.application.clone(),
            client: self.client.clone(),
            purpose: self.purpose,
            publish_type: self.publish_type,
            key_pattern: self.key_pattern,
            verified: self.verified,
            refused: self.refused.map(DropReason::name),
        }
    }
}

impl Flow {
    /// A segment of a flow that carries RTMP, either way.
    pub(super) fn rtmp(&mut self, datagram: &Datagram<'_>, context: &mut Context<'_>) -> Result<(), DropReason> {
        let forward = self.admission.forward;
        let Speaks::Rtmp(session) = &mut self.speaks else {
            return Ok(());
        };
        let named = context.rule.protocol == Protocol::Rtmp;
        let client = if named {
            forward
        } else {
            session.client(datagram, forward)
        };
        let Some(tcp) = datagram.tcp() else { return Ok(()) };
        if datagram.direction != client {
            session.reply(tcp);
            return Ok(());
        }
        if named && !context.remembers && session::binds(&context.rule.rtmp) {
            // Nothing is known of it at the next packet, nor its SYN when there is room again.
            return Err(DropReason::NotRtmp);
        }
        let (inspected, news) = session.segment(tcp, datagram.payload, &context.rule.rtmp, context.allowance);
        let shown = named || session.is_open();
        let figures = session.fresh_figures().cloned().map(Box::new);
        if !named && inspected == Err(DropReason::NotRtmp) && !shown {
            // Something else on RTMP's port: nobody said that it must not be.
            self.speaks = Speaks::Other;
        }
        if !shown {
            self.opaque(datagram, StreamProtocol::Other, context);
            return inspected;
        }
        if self.streams.first().is_some_and(|stream| stream.is_other()) {
            // What was counted before the handshake was complete was of this stream.
            self.unattributed = self.streams.first().map(|stream| Box::new(stream.totals()));
            self.streams.clear();
        }
        let place = self.stream(StreamProtocol::Rtmp, client, 0, datagram, context);
        if let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) {
            stream.count(context.now, datagram.payload.len(), context.outbox);
            if let Some(figures) = figures {
                stream.encryption = figures.encryption;
                stream.rtmp = Some(figures);
            }
            match news {
                Some(News::Conflict) => stream.find(context.now, Finding::SequenceConflict, context.outbox),
                // Where no rule asked for RTMP there is nobody who admits or refuses.
                Some(news) if named => stream.tell(context.now, change(news, stream.rtmp.as_deref()), context.outbox),
                _ => {}
            }
        }
        inspected
    }

    /// The first part of a segment that came in fragments. TCP finds the path's size by itself, so before the decision this is
    /// somebody who hides what he says.
    pub(super) fn rtmp_first_part(&self, datagram: &Datagram<'_>, context: &Context<'_>) -> Result<(), DropReason> {
        match &self.speaks {
            Speaks::Rtmp(session) if datagram.direction == self.admission.forward => {
                session.fragment(&context.rule.rtmp)
            }
            _ => Ok(()),
        }
    }
}

fn change(news: News, figures: Option<&RtmpFigures>) -> StreamChange {
    let application = figures.and_then(|figures| figures.application.clone());
    if news == News::Admitted {
        StreamChange::RtmpAdmitted {
            application,
            purpose: figures.and_then(|figures| figures.purpose),
            key_pattern: figures.and_then(|figures| figures.key_pattern),
        }
    } else {
        StreamChange::RtmpRefused {
            application,
            reason: figures.and_then(|figures| figures.refused).map_or("", DropReason::name),
        }
    }
}

#[cfg(test)]
mod tests;
