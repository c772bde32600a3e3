//! The engine's outbox: bounded, so that a driver who does not fetch costs events, never memory.

use std::collections::VecDeque;

use super::event::{EVENT_CAPACITY, StreamChange, StreamEvent};
use super::report::StreamIdentity;
use super::time::Timestamp;

/// Events waiting for the driver.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    events: VecDeque<StreamEvent>,
    shed: u64,
    media: bool,
}

impl Outbox {
    /// Tells something about a stream; sheds and counts it when the outbox is full.
    pub(super) fn tell(&mut self, at: Timestamp, stream: &StreamIdentity, change: StreamChange) {
        if self.events.len() >= EVENT_CAPACITY {
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
        self.media = true;
    }

    /// Whether the packet that was inspected was media of a confirmed stream; asked once per packet.
    pub(super) fn take_media(&mut self) -> bool {
        core::mem::take(&mut self.media)
    }

    /// Events shed so far.
    pub(super) fn shed(&self) -> u64 {
        self.shed
    }
}
