//! The engine's outbox: bounded, so that a driver who does not fetch costs events, never memory.

use std::collections::VecDeque;

use super::event::{EVENT_CAPACITY, StreamChange, StreamEvent};
use super::media::mpegts::PACKET_SIZE;
use super::report::StreamIdentity;
use super::time::Timestamp;

/// Places that only verdicts take: a flood of new streams must not push out that another one is blocked.
const RESERVED: usize = EVENT_CAPACITY / 4;

/// TS packets of one stream, in the order in which they were sent.
#[derive(Clone, Debug)]
pub struct Media {
    /// The stream, by its place among the engine's streams ([`super::report::StreamReport::ordinal`]).
    pub stream: u64,
    /// Who the stream is.
    pub identity: StreamIdentity,
    /// The packets of one datagram, decrypted where that was possible.
    pub packets: Vec<[u8; PACKET_SIZE]>,
}

/// What waits for the driver.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    events: VecDeque<StreamEvent>,
    shed: u64,
    /// `None` where nobody wants the media.
    media: Option<VecDeque<Media>>,
    /// The packet under inspection was media of a confirmed stream.
    saw_media: bool,
}

impl Outbox {
    /// An outbox that takes media too. What one call finds is kept, so the driver must fetch it after every call.
    pub(super) fn with_media() -> Self {
        Outbox {
            media: Some(VecDeque::new()),
            ..Outbox::default()
        }
    }

    /// Whether media is wanted.
    pub(super) fn wants_media(&self) -> bool {
        self.media.is_some()
    }

    /// Takes a datagram's packets.
    pub(super) fn hand_on(&mut self, stream: u64, identity: &StreamIdentity, packets: &[[u8; PACKET_SIZE]]) {
        if let Some(media) = self.media.as_mut().filter(|_| !packets.is_empty()) {
            media.push_back(Media {
                stream,
                identity: identity.clone(),
                packets: packets.to_vec(),
            });
        }
    }

    /// The oldest media that was not fetched yet.
    pub(super) fn fetch_media(&mut self) -> Option<Media> {
        self.media.as_mut()?.pop_front()
    }

    /// Tells something about a stream; sheds and counts it when the outbox is full.
    pub(super) fn tell(&mut self, at: Timestamp, stream: &StreamIdentity, change: StreamChange) {
        let room = if change.is_verdict() {
            EVENT_CAPACITY
        } else {
            EVENT_CAPACITY - RESERVED
        };
        if self.events.len() >= room {
            self.shed += 1;
            return;
        }
        self.events.push_back(StreamEvent {
            at,
            stream: stream.clone(),
            change,
        });
    }

    /// The oldest event that was not fetched yet.
    pub(super) fn fetch(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    /// The packet under inspection is media of a confirmed stream.
    pub(super) fn saw_media(&mut self) {
        self.saw_media = true;
    }

    /// Whether the packet that was inspected was media of a confirmed stream; asked once per packet.
    pub(super) fn take_media(&mut self) -> bool {
        core::mem::take(&mut self.saw_media)
    }

    /// Events shed so far.
    pub(super) fn shed(&self) -> u64 {
        self.shed
    }
}
