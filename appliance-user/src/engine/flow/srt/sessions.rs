//! The sessions of a flow, by their handshakes: versions 4 and 5, caller and listener, rendezvous; or joined on the way.
//!
//! Everything here is bounded and nothing is believed that does not fit: a repeated or forged conclusion, a rejection or a
//! shutdown with other socket ids changes no session that stands.

use core::time::Duration;
use std::sync::Arc;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;

use super::refusals::Refusals;
use super::session::{PerDirection, Session, Standing};
use crate::engine::media::srt::{Handshake, HandshakeType, KeyMaterial};
use crate::engine::memory::Allowance;
use crate::engine::time::Timestamp;
use crate::policy::Rule;
use crate::policy::rule::{Encryption, SrtRule};

/// Sessions and pending handshakes remembered per flow.
const MAX_SESSIONS: usize = 8;
/// An established session this long without data may make room for another.
const SESSION_SILENCE: Duration = Duration::from_secs(10);

/// What the handshakes of a flow have established.
#[derive(Debug, Default)]
pub(in crate::engine) struct Sessions {
    list: Vec<Session>,
    /// When data that no answer stands for last went each way.
    strays: PerDirection<Option<Timestamp>>,
    /// Parties that the rule did not admit.
    refusals: Refusals,
    /// When a rejection was last told, and how many there were.
    pub(super) rejections: (Option<Timestamp>, u64),
}

/// A party was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// As on the wire, 1000 and up.
    pub code: u32,
    /// Its name, where it has one.
    pub name: Option<&'static str>,
    /// The stream id that was asked for.
    pub stream_id: Option<Arc<str>>,
}

/// Where a handshake message goes and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Its destination socket id: 0 in a caller's, the party's own in what answers it.
    pub destination: u32,
    /// Its direction in the flow.
    pub direction: Direction,
    /// When it came.
    pub now: Timestamp,
}

impl Sessions {
    /// A handshake message.
    ///
    /// # Errors
    /// The reason for which the rule would have it dropped.
    pub(super) fn handshake(
        &mut self,
        message: &Handshake<'_>,
        way: Way,
        rule: &Rule,
    ) -> Result<Option<Refused>, DropReason> {
        // A caller does not know its listener's id. In rendezvous both do, and only a request has an HSREQ.
        let asks = way.destination == 0 || message.request().is_some();
        match message.kind() {
            // They settle nothing, and a refused party may yet ask for what it is admitted to.
            HandshakeType::WaveAHand | HandshakeType::Induction => {}
            HandshakeType::Conclusion if asks => {}
            _ if self.of_control(way.destination, way.direction).is_some() => {}
            _ => self.refusals.handshake(message, way).map_or(Ok(()), Err)?,
        }
        match message.kind() {
            HandshakeType::WaveAHand => self.waved(message, way),
            HandshakeType::Conclusion if asks => self.asked(message, way, rule)?,
            HandshakeType::Conclusion => self.answered(message, way),
            HandshakeType::Agreement => self.agreed(message, way),
            HandshakeType::Rejection(code) => return Ok(self.refused(message, code, way)),
            HandshakeType::Induction | HandshakeType::Done | HandshakeType::Other(_) => {}
        }
        Ok(None)
    }

    /// Rendezvous: a party shows its socket id.
    fn waved(&mut self, message: &Handshake<'_>, way: Way) {
        let id = message.socket_id();
        let known = |session: &Session| *session.ids.at(way.direction) == Some(id);
        if self.list.iter().any(known) {
            return;
        }
        let half =
            |session: &&mut Session| session.standing == Standing::Greeting && session.ids.at(way.direction).is_none();
        if let Some(session) = self.list.iter_mut().find(half) {
            *session.ids.at_mut(way.direction) = Some(id);
        } else if self.make_room(way.now) {
            let mut session = Session::new(Standing::Greeting, way);
            *session.ids.at_mut(way.direction) = Some(id);
            self.list.push(session);
        }
    }

    /// The initiator says its terms.
    fn asked(&mut self, message: &Handshake<'_>, way: Way, rule: &Rule) -> Result<(), DropReason> {
        let stream_id = message.stream_id();
        let admitted = admit(message, stream_id.as_deref(), &rule.srt);
        let id = message.socket_id();
        let own = |session: &Session| *session.ids.at(way.direction) == Some(id);
        if let Err(reason) = admitted
            && rule.enforce
        {
            // No session is made of it, or data could pass for its own. One that stands stays: anyone may ask in its name.
            let stands = |session: &Session| own(session) && session.standing != Standing::Greeting;
            if !self.list.iter().any(stands) {
                self.refusals.remember(message, way, reason);
            }
            return admitted;
        }
        self.refusals.lift(id, way.direction);
        let place = match self.list.iter().position(own) {
            // A repetition, or a forgery: the first one stands.
            Some(place) if self.list.get(place).is_some_and(|s| s.standing != Standing::Greeting) => return admitted,
            Some(place) => place,
            None if self.make_room(way.now) => {
                self.list.push(Session::new(Standing::Pending, way));
                self.list.len() - 1
            }
            None => return admitted,
        };
        if let Some(session) = self.list.get_mut(place) {
            session.ask(message, stream_id, way);
            session.admitted = admitted.is_ok();
        }
        admitted
    }

    /// The responder agrees, addressed to the initiator's socket.
    fn answered(&mut self, message: &Handshake<'_>, way: Way) {
        let responder = message.socket_id();
        let waits = |session: &Session| {
            session.standing == Standing::Pending
                && session.initiator != way.direction
                && *session.ids.at(way.direction.flipped()) == Some(way.destination)
                && session.ids.at(way.direction).is_none_or(|id| id == responder)
        };
        // In rendezvous a responder may conclude without having seen the request: that settles nothing yet.
        let settles = |session: &Session| !session.terms.rendezvous || message.response().is_some();
        if !self.list.iter().any(|session| waits(session) && settles(session)) {
            return;
        }
        // What was joined while the answer was on its way is this session.
        let joined = |session: &Session| {
            session.standing == Standing::Joined && *session.ids.at(way.direction) == Some(responder)
        };
        self.list.retain(|session| !joined(session));
        if let Some(session) = self.list.iter_mut().find(|session| waits(session) && settles(session)) {
            *session.ids.at_mut(way.direction) = Some(responder);
            session.settle(message, way.direction);
        }
    }

    /// Rendezvous: the last message, which may repeat the response.
    fn agreed(&mut self, message: &Handshake<'_>, way: Way) {
        if message.response().is_some() {
            return self.answered(message, way);
        }
        let id = message.socket_id();
        let both = |session: &&mut Session| {
            session.standing == Standing::Pending
                && session.terms.rendezvous
                && *session.ids.at(way.direction) == Some(id)
                && *session.ids.at(way.direction.flipped()) == Some(way.destination)
        };
        if let Some(session) = self.list.iter_mut().find(both) {
            session.settle(message, session.initiator.flipped());
        }
    }

    /// A party is refused: its pending session is over. One that stands is not touched.
    fn refused(&mut self, message: &Handshake<'_>, code: u32, way: Way) -> Option<Refused> {
        let waits = |session: &Session| {
            matches!(session.standing, Standing::Pending | Standing::Greeting)
                && *session.ids.at(way.direction.flipped()) == Some(way.destination)
        };
        let place = self.list.iter().position(waits)?;
        let session = self.remove(place, way.now);
        self.rejections.1 += 1;
        Some(Refused {
            code,
            name: message.kind().rejection_name(),
            stream_id: session.stream_id,
        })
    }

    /// Room for one more session: one that is over and silent goes first (anyone can say good-bye for another), then a pending one, then one that was joined and has no key,
    /// then one that fell silent. Live sessions stay, or whoever sends handshakes could make them unverified.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if self.list.len() < MAX_SESSIONS {
            return true;
        }
        let silent = |session: &Session| now.since(session.last_seen) >= SESSION_SILENCE;
        let rank = |session: &Session| match session.standing {
            _ if session.closed && silent(session) => Some(0),
            Standing::Greeting | Standing::Pending => Some(1),
            Standing::Joined if session.keys.is_none() => Some(2),
            _ if silent(session) => Some(3),
            _ => None,
        };
        let ranked = self.list.iter().enumerate();
        let victim = ranked
            .filter_map(|(place, session)| Some((rank(session)?, session.last_seen, place)))
            .min();
        victim.map(|(_, _, place)| self.remove(place, now)).is_some()
    }

    /// The place of the session that a data packet belongs to. Where the listener's answer was not seen (it may take another
    /// way), the caller's data is of the session that waits for it; what names the listener's socket id is its answer alone,
    /// for anyone may send data.
    pub(super) fn of_data(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<usize> {
        let place = self
            .of_control(id, direction)
            .or_else(|| self.assume(id, direction, now));
        let Some(session) = place.and_then(|place| self.list.get_mut(place)) else {
            *self.strays.at_mut(direction) = Some(now);
            return None;
        };
        (session.last_seen, session.closed) = (now, false);
        if session.standing == Standing::Pending && !session.is_verified(now) {
            *self.strays.at_mut(direction) = Some(now);
        }
        place
    }

    /// Takes data to a socket that nobody knows for the newest unanswered session's, and the socket for its responder's. Not
    /// where it may have begun before the session asked: a handshake that nobody answers must not excuse it.
    fn assume(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<usize> {
        let has = |session: &Session| *session.ids.at(direction.flipped()) == Some(id);
        if self.list.iter().any(has) {
            return None;
        }
        let stray = *self.strays.at(direction);
        let pending = |session: &Session| {
            session.awaits_answer(now)
                && session.initiator == direction
                && session.ids.at(direction.flipped()).is_none()
                && session.assumed.is_none()
                && stray.is_none_or(|stray| session.asked.since(stray) >= SESSION_SILENCE)
        };
        let place = self.list.iter().rposition(pending)?;
        self.list.get_mut(place)?.assumed = Some(id);
        Some(place)
    }

    /// Removes a session; data that it was assumed to have belongs to nobody now.
    fn remove(&mut self, place: usize, now: Timestamp) -> Session {
        let session = self.list.remove(place);
        if session.assumed.is_some() && session.standing == Standing::Pending {
            *self.strays.at_mut(session.initiator) = Some(now);
        }
        session
    }

    /// The place of the newest session whose initiator sends in `direction` and waits for an answer.
    fn waiting(&self, direction: Direction) -> Option<usize> {
        let pending = |session: &Session| {
            session.standing == Standing::Pending
                && session.initiator == direction
                && session.ids.at(direction.flipped()).is_none()
        };
        self.list.iter().rposition(pending)
    }

    /// A data packet that is of no session.
    ///
    /// # Errors
    /// Why its party was refused, where it is of one that was.
    pub(super) fn admit_data(
        &mut self,
        id: u32,
        sequence: u32,
        direction: Direction,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let refused = self.refusals.data(id, sequence, (direction, now));
        refused.map_or(Ok(()), Err)
    }

    /// A control packet that is no handshake.
    ///
    /// # Errors
    /// Why its party was refused, where it is of no session and of a party that was.
    pub(super) fn admit_control(&mut self, id: u32, direction: Direction, now: Timestamp) -> Result<(), DropReason> {
        if self.of_control(id, direction).is_some() || self.waiting(direction).is_some() {
            return Ok(());
        }
        self.refusals.control(id, direction, now).map_or(Ok(()), Err)
    }

    /// The place of the session that a control packet is addressed to.
    pub(super) fn of_control(&self, id: u32, direction: Direction) -> Option<usize> {
        self.list.iter().position(|session| session.receives(id, direction))
    }

    /// A session by its place.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Session> {
        self.list.get_mut(place)
    }

    /// A session whose handshake was not seen: there is data for socket `id`. Room is made only among its like.
    pub(super) fn join(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<usize> {
        if self.list.len() >= MAX_SESSIONS {
            let likes = self.list.iter().enumerate();
            let (_, _, place) = likes
                .filter(|(_, session)| session.standing == Standing::Joined)
                .map(|(place, session)| (session.keys.is_some(), session.last_seen, place))
                .min()?;
            self.list.remove(place);
        }
        let way = Way {
            destination: id,
            direction,
            now,
        };
        let mut session = Session::new(Standing::Joined, way);
        *session.ids.at_mut(direction.flipped()) = Some(id);
        self.list.push(session);
        Some(self.list.len() - 1)
    }

    /// A receiver's report to socket `id` that fits the data of a joined session: the second one in a row shows the sender's
    /// id. The session's place is that of the receiver `from`.
    pub(super) fn reported(&mut self, id: u32, direction: Direction, from: u32) {
        let fits = |session: &&mut Session| {
            session.standing == Standing::Joined
                && *session.ids.at(direction) == Some(from)
                && session.ids.at(direction.flipped()).is_none()
        };
        if let Some(session) = self.list.iter_mut().find(fits)
            && session.partner.replace(id) == Some(id)
        {
            *session.ids.at_mut(direction.flipped()) = Some(id);
        }
    }

    /// The receivers' ids of joined sessions whose sender's id is not known; their reports go in `direction`.
    pub(super) fn without_partner(&self, direction: Direction) -> impl Iterator<Item = u32> {
        let open = move |session: &&Session| {
            session.standing == Standing::Joined && session.ids.at(direction.flipped()).is_none()
        };
        self.list
            .iter()
            .filter(open)
            .filter_map(move |session| *session.ids.at(direction))
    }

    /// Holds the sessions' memory out of the allowance. Where that is used up, sessions that have shown nothing go, and those
    /// that stand are followed without their keys: the flow's own place pays for what is left of them.
    pub(super) fn pay(&mut self, allowance: &Allowance) {
        self.refusals.pay(allowance);
        let alone = self.list.len() == 1;
        self.list.retain_mut(|session| {
            if session.pay(allowance) {
                return true;
            }
            session.economise();
            session.pay(allowance) || alone || session.standing == Standing::Established
        });
    }
}

/// What the rule says of a conclusion.
fn admit(message: &Handshake<'_>, stream_id: Option<&str>, rule: &SrtRule) -> Result<(), DropReason> {
    if !rule.admits_stream_id(stream_id.unwrap_or_default().as_bytes()) {
        return Err(DropReason::SrtStreamId);
    }
    // Version 4 sends its keys later; until then each packet says whether it is encrypted.
    let cleartext = message.key_material().is_none() && message.version() > 4;
    match (rule.encryption, cleartext) {
        (Encryption::Required, true) => Err(DropReason::SrtEncryption),
        (Encryption::Forbidden, false) if message.version() > 4 => Err(DropReason::SrtEncryption),
        _ => message
            .key_material()
            .map_or(Ok(()), |material| admit_key(material, rule)),
    }
}

/// What the rule says of key material.
pub(super) fn admit_key(material: &KeyMaterial<'_>, rule: &SrtRule) -> Result<(), DropReason> {
    let bits = u16::try_from(material.key_length * 8).unwrap_or(u16::MAX);
    if rule.admits_key_length(bits) {
        Ok(())
    } else {
        Err(DropReason::SrtEncryption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn session(standing: Standing, ids: [Option<u32>; 2], last_seen: Timestamp) -> Session {
        let way = Way {
            destination: 0,
            direction: Direction::Forward,
            now: last_seen,
        };
        let mut session = Session::new(standing, way);
        *session.ids.at_mut(Direction::Forward) = ids[0];
        *session.ids.at_mut(Direction::Reverse) = ids[1];
        session
    }

    #[test]
    fn a_flood_of_handshakes_leaves_live_sessions_alone() {
        let mut sessions = Sessions::default();
        sessions
            .list
            .push(session(Standing::Established, [Some(1), Some(100)], at(0)));
        sessions.join(200, Direction::Forward, at(0));
        for id in 2..100 {
            assert!(sessions.make_room(at(1)));
            sessions.list.push(session(Standing::Pending, [Some(id), None], at(1)));
            assert!(sessions.list.len() <= MAX_SESSIONS);
        }
        for (id, direction) in [
            (100, Direction::Forward),
            (1, Direction::Reverse),
            (200, Direction::Forward),
        ] {
            assert!(sessions.of_control(id, direction).is_some(), "{id}");
        }
    }

    #[test]
    fn a_flood_of_joined_sessions_leaves_others_alone() {
        let mut sessions = Sessions::default();
        sessions
            .list
            .push(session(Standing::Established, [Some(1), Some(100)], at(0)));
        sessions.list.push(session(Standing::Pending, [Some(2), None], at(0)));
        for id in 1000..2000 {
            assert!(sessions.join(id, Direction::Forward, at(1)).is_some());
            assert!(sessions.list.len() <= MAX_SESSIONS);
        }
        assert!(sessions.of_control(100, Direction::Forward).is_some());
        assert!(
            sessions
                .list
                .iter()
                .any(|session| session.standing == Standing::Pending)
        );
    }

    #[test]
    fn a_table_of_live_sessions_takes_no_more_until_one_is_silent() {
        let established = |id: u32| session(Standing::Established, [Some(id), Some(100 + id)], at(u64::from(id)));
        let mut sessions = Sessions {
            list: (0..8).map(established).collect(),
            ..Sessions::default()
        };
        assert!(!sessions.make_room(at(9)));
        assert!(sessions.join(7, Direction::Forward, at(9)).is_none());
        assert!(sessions.make_room(at(10)));
        assert!(sessions.list.iter().all(|left| left.id(Direction::Forward) != Some(0)));
    }
}
