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

    /// Events shed so far.
    pub(super) fn shed(&self) -> u64 {
        self.shed
    }
}
