//! The engine's part in groups of flows: messages to and from the engines of other workers, and to itself.

use super::Engine;
use super::group::{GroupBody, GroupMessage, Outcome};
use super::stream::Stream;
use super::time::Timestamp;

impl Engine {
    /// A message for another worker, oldest first: the driver brings it to the engine of worker `to`, in order.
    pub fn next_message(&mut self) -> Option<GroupMessage> {
        self.post.fetch()
    }

    /// Takes a message from another worker. What the groups make of it may be messages in turn.
    pub fn take_message(&mut self, now: Timestamp, message: &GroupMessage) {
        self.deliver(now, message);
        self.read_own_post(now);
    }

    /// A message from [`Engine::next_message`] did not get where it was to go: figures of its stream may be incomplete.
    pub fn message_shed(&mut self, message: &GroupMessage) {
        let member = match &message.body {
            GroupBody::Present(member)
            | GroupBody::Media { member, .. }
            | GroupBody::GivenUp { member, .. }
            | GroupBody::Rebased { member, .. }
            | GroupBody::Fec { member, .. } => member,
            // Whose stream it is about is elsewhere, and its engine is told that it missed something.
            GroupBody::Rtcp { .. } | GroupBody::Result { .. } => return,
        };
        if let Some(flow) = self.flows.peek_mut(&member.flow) {
            flow.outcome(message.at, member, &Outcome::Incomplete, &mut self.outbox);
        }
    }

    /// Messages for this engine were lost, nobody knows which. Groups that meet here begin anew, so that what is missing is
    /// nowhere taken for lost, and figures that may be incomplete are marked so.
    pub fn messages_missed(&mut self) {
        self.groups.missed();
        self.to_tell_of_misses = self.config.max_flows;
    }

    /// Messages of groups that were shed because nobody fetched them, and groups that there was no room for.
    pub fn group_losses(&self) -> (u64, u64) {
        (self.post.shed(), self.groups.refused())
    }

    /// Heap bytes that groups of flows hold, at their homes and with the streams.
    pub fn groups_memory(&self) -> usize {
        let streams = self.flows.iter().flat_map(|(_, flow)| flow.streams());
        self.groups.memory() + streams.map(Stream::rtp_memory).sum::<usize>()
    }

    /// Reads the messages that the engine wrote to itself. Each one makes a few at most, and results make none.
    #[inline]
    pub(super) fn read_own_post(&mut self, now: Timestamp) {
        while let Some(message) = self.post.fetch_own() {
            self.deliver(now, &message);
        }
    }

    fn deliver(&mut self, now: Timestamp, message: &GroupMessage) {
        match &message.body {
            GroupBody::Result { member, outcome } => {
                if let Some(flow) = self.flows.peek_mut(&member.flow) {
                    flow.outcome(now, member, outcome, &mut self.outbox);
                }
            }
            _ => self.groups.take(now, message, &mut self.post),
        }
    }

    /// The input ends: what still waits in streams, and then in groups, is judged.
    pub(super) fn finish_groups(&mut self) {
        let now = self.clock;
        let mut results = Vec::new();
        for (key, flow) in self.flows.iter_mut() {
            for stream in flow.streams_mut() {
                stream.flush(&mut self.outbox);
            }
            flow.tell_groups(now, key, &mut self.post);
            while let Some(message) = self.post.fetch_own() {
                match message.body {
                    GroupBody::Result { .. } => results.push(message),
                    _ => self.groups.take(now, &message, &mut self.post),
                }
            }
        }
        results.iter().for_each(|message| self.deliver(now, message));
        self.groups.finish(now, &mut self.post);
        self.read_own_post(now);
    }
}
