//! Parties whose handshake the rule refused: what they send and what is sent to them is refused too, for as long as they go
//! on, even if the handshake reached the listener on a path that is not seen here.
//!
//! Anyone may send a handshake that will be refused, in another's name. So a refusal speaks only of packets that are of no
//! session, and a handshake of the same socket that the rule admits lifts it: a party that was admitted stays so.

use core::time::Duration;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;

use super::sessions::Way;
use crate::engine::media::srt::{Handshake, HandshakeType, SEQUENCE_MASK};
use crate::engine::memory::{Allowance, Grant};
use crate::engine::time::Timestamp;

/// Refused parties remembered per flow.
const MAX_REFUSALS: usize = 8;
/// A party this long without a packet is forgotten: twelve times the silence after which libsrt gives its peer up.
const REFUSAL_SILENCE: Duration = Duration::from_secs(60);
/// How far past the handshake's initial sequence number the first data that is seen may be: several seconds of video. Whoever
/// has not seen the handshake hits so few numbers out of 2^31 by chance only.
const FIRST_DATA: u32 = 8192;

/// A party that was refused.
#[derive(Debug)]
struct Refusal {
    /// Its socket id.
    id: u32,
    /// The direction in which it sends.
    direction: Direction,
    /// The number that its data begins with.
    initial_sequence: u32,
    reason: DropReason,
    /// The socket that answered it all the same.
    answered: Option<u32>,
    /// The socket that its data goes to, where the answer was not seen.
    assumed: Option<u32>,
    last_seen: Timestamp,
}

impl Refusal {
    /// Whether a packet with this destination socket id, going this way, is of it.
    fn receives(&self, id: u32, direction: Direction) -> bool {
        if direction == self.direction {
            self.answered == Some(id) || self.assumed == Some(id)
        } else {
            self.id == id
        }
    }

    /// Whether data that goes this way, to a socket that nobody knows, begins where its data was to begin.
    fn begins(&self, sequence: u32, direction: Direction) -> bool {
        let steps = sequence.wrapping_sub(self.initial_sequence) & SEQUENCE_MASK;
        direction == self.direction && self.assumed.is_none() && steps < FIRST_DATA
    }

    /// Whether more than its handshake was seen.
    fn is_bound(&self) -> bool {
        self.answered.is_some() || self.assumed.is_some()
    }
}

/// The refused parties of a flow.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    list: Vec<Refusal>,
    /// What pays for them.
    grant: Option<Grant>,
}

impl Refusals {
    /// The initiator of `message` is refused. Of repetitions the first one stands.
    pub(super) fn remember(&mut self, message: &Handshake<'_>, way: Way, reason: DropReason) {
        let id = message.socket_id();
        self.forget_silent(way.now);
        let known = |refusal: &&mut Refusal| refusal.id == id && refusal.direction == way.direction;
        if let Some(refusal) = self.list.iter_mut().find(known) {
            refusal.last_seen = way.now;
            return;
        }
        if self.list.len() >= MAX_REFUSALS {
            self.forget_oldest();
        }
        self.list.push(Refusal {
            id,
            direction: way.direction,
            initial_sequence: message.initial_sequence_number(),
            reason,
            // In rendezvous each party knows the other's socket.
            answered: (way.destination != 0).then_some(way.destination),
            assumed: None,
            last_seen: way.now,
        });
    }

    /// The party with socket `id`, which sends in `direction`, is admitted.
    pub(super) fn lift(&mut self, id: u32, direction: Direction) {
        self.list
            .retain(|refusal| (refusal.id, refusal.direction) != (id, direction));
    }

    /// A handshake message that does not ask: the reason, if it is of a refused party. It may show who answers.
    pub(super) fn handshake(&mut self, message: &Handshake<'_>, way: Way) -> Option<DropReason> {
        let refusal = self.find(way.destination, way.direction, way.now)?;
        let answers = matches!(message.kind(), HandshakeType::Conclusion | HandshakeType::Agreement);
        if answers && way.direction != refusal.direction {
            refusal.answered = Some(message.socket_id());
        }
        Some(refusal.reason)
    }

    /// A control packet that is of no session: the reason, if it is of a refused party.
    pub(super) fn control(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<DropReason> {
        self.find(id, direction, now).map(|refusal| refusal.reason)
    }

    /// A data packet that is of no session: the reason, if it is of a refused party.
    pub(super) fn data(
        &mut self,
        id: u32,
        sequence: u32,
        (direction, now): (Direction, Timestamp),
    ) -> Option<DropReason> {
        if let Some(refusal) = self.find(id, direction, now) {
            return Some(refusal.reason);
        }
        let begins = |refusal: &&mut Refusal| refusal.begins(sequence, direction);
        let refusal = self.list.iter_mut().find(begins)?;
        (refusal.assumed, refusal.last_seen) = (Some(id), now);
        Some(refusal.reason)
    }

    /// Holds their memory out of the allowance. Where that is used up the newest one stays: the flow's own place pays for it.
    pub(super) fn pay(&mut self, allowance: &Allowance) {
        if self.list.is_empty() && self.grant.is_none() {
            return;
        }
        let grant = self.grant.get_or_insert_with(|| allowance.grant());
        if !grant.hold(self.list.len() * size_of::<Refusal>()) {
            let newest = self.list.pop();
            self.list = newest.into_iter().collect();
        }
    }

    fn find(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<&mut Refusal> {
        if self.list.is_empty() {
            return None;
        }
        self.forget_silent(now);
        let refusal = self.list.iter_mut().find(|refusal| refusal.receives(id, direction))?;
        refusal.last_seen = now;
        Some(refusal)
    }

    fn forget_silent(&mut self, now: Timestamp) {
        self.list
            .retain(|refusal| now.since(refusal.last_seen) < REFUSAL_SILENCE);
    }

    /// One that only ever asked goes first, or whoever asks often could end the refusal of what goes on.
    fn forget_oldest(&mut self) {
        let ranked = self.list.iter().enumerate();
        let oldest = ranked
            .map(|(place, refusal)| (refusal.is_bound(), refusal.last_seen, place))
            .min();
        if let Some((_, _, place)) = oldest {
            self.list.remove(place);
        }
    }
}
