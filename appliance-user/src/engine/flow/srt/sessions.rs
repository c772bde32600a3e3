//! The sessions of a flow, by their handshakes: versions 4 and 5, caller and listener, rendezvous; or joined on the way.
//!
//! Everything here is bounded and nothing is believed that does not fit: a repeated or forged conclusion, a rejection or a
//! shutdown with other socket ids changes no session that stands.

use core::time::Duration;
use std::sync::Arc;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Direction;

use super::figures::Terms;
use super::keys::{Caller, Keys};
use crate::engine::media::srt::{Handshake, HandshakeType, KeyMaterial, Latency, StoredKeyMaterial};
use crate::engine::time::Timestamp;
use crate::policy::Rule;
use crate::policy::rule::{Encryption, SrtRule};

/// Sessions and pending handshakes remembered per flow.
const MAX_SESSIONS: usize = 8;
/// An established session this long without data may make room for another.
const SESSION_SILENCE: Duration = Duration::from_secs(10);
/// A negotiated latency outside of this is not a reorder window, but a mistake or an attack on memory.
const LATENCY: core::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(8);

/// The names of the report's `encryption` that are no ciphers.
pub(super) const CLEAR: &str = "none";
pub(super) const UNVERIFIED: &str = "unverified";

/// One of a thing for each direction of the flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PerDirection<T> {
    forward: T,
    reverse: T,
}

impl<T> PerDirection<T> {
    pub(super) const fn at(&self, direction: Direction) -> &T {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Reverse => &self.reverse,
        }
    }

    pub(super) const fn at_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Reverse => &mut self.reverse,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.forward, &self.reverse].into_iter()
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Rendezvous: one or both parties have waved.
    Greeting,
    /// The initiator has said its terms.
    Pending,
    /// The responder has agreed.
    Established,
    /// It was joined after its handshake.
    Joined,
}

/// One SRT connection.
#[derive(Debug)]
pub(super) struct Session {
    standing: Standing,
    /// The direction in which the initiator, the caller, sends.
    initiator: Direction,
    /// The socket id of the party that sends in each direction.
    ids: PerDirection<Option<u32>>,
    pub(super) stream_id: Option<Arc<str>>,
    /// The cipher's name; `None` until it is known, which in version 4 is after data has come.
    cipher: Option<&'static str>,
    pub(super) latency: Option<Duration>,
    pub(super) terms: Arc<Terms>,
    /// The initiator's keys, until the responder takes them.
    offered: Option<StoredKeyMaterial>,
    pub(super) keys: Option<Box<Keys>>,
    /// What it says of its streams has changed.
    pub(super) changed: bool,
    /// A party said good-bye and no data has come since.
    closed: bool,
    /// Joined: the socket id that the receiver's reports seem to go to.
    partner: Option<u32>,
    last_seen: Timestamp,
}

/// What the handshakes of a flow have established.
#[derive(Debug, Default)]
pub(in crate::engine) struct Sessions {
    list: Vec<Session>,
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
        match message.kind() {
            HandshakeType::WaveAHand => self.waved(message, way),
            HandshakeType::Conclusion => {
                // A caller does not know its listener's id. In rendezvous both do, and only a request has an HSREQ.
                if way.destination == 0 || message.request().is_some() {
                    self.asked(message, way, rule)?;
                } else {
                    self.answered(message, way);
                }
            }
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
        if rule.enforce {
            // Nothing of it is remembered, or data could pass for its own.
            admitted?;
        }
        let id = message.socket_id();
        let own = |session: &Session| *session.ids.at(way.direction) == Some(id);
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
        let session = self.list.remove(place);
        self.rejections.1 += 1;
        Some(Refused {
            code,
            name: message.kind().rejection_name(),
            stream_id: session.stream_id,
        })
    }

    /// Room for one more session: one that is over goes first, then a pending one, then one that was joined and has no key,
    /// then one that fell silent. Live sessions stay, or whoever sends handshakes could make them unverified.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if self.list.len() < MAX_SESSIONS {
            return true;
        }
        let rank = |session: &Session| match session.standing {
            _ if session.closed => Some(0),
            Standing::Greeting | Standing::Pending => Some(1),
            Standing::Joined if session.keys.is_none() => Some(2),
            _ if now.since(session.last_seen) >= SESSION_SILENCE => Some(3),
            _ => None,
        };
        let ranked = self.list.iter().enumerate();
        let victim = ranked
            .filter_map(|(place, session)| Some((rank(session)?, session.last_seen, place)))
            .min();
        victim.map(|(_, _, place)| self.list.remove(place)).is_some()
    }

    /// The place of the session that a data packet belongs to. Where the listener's answer was not seen (it may take another
    /// way), the caller's data is of the session that waits for it; what names the listener's socket id is its answer alone,
    /// for anyone may send data.
    pub(super) fn of_data(&mut self, id: u32, direction: Direction, now: Timestamp) -> Option<usize> {
        let known = self.of_control(id, direction);
        let place = known.or_else(|| {
            let pending = |session: &Session| {
                session.standing == Standing::Pending
                    && session.initiator == direction
                    && session.ids.at(direction.flipped()).is_none()
            };
            self.list.iter().rposition(pending)
        })?;
        let session = self.list.get_mut(place)?;
        (session.last_seen, session.closed) = (now, false);
        Some(place)
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

    /// Heap bytes that they hold.
    pub(super) fn memory(&self) -> usize {
        let keys = self.list.iter().filter_map(|session| session.keys.as_ref());
        self.list.capacity() * size_of::<Session>() + keys.map(|keys| size_of::<Keys>() + keys.memory()).sum::<usize>()
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

impl Session {
    fn new(standing: Standing, way: Way) -> Self {
        Session {
            standing,
            initiator: way.direction,
            ids: PerDirection::default(),
            stream_id: None,
            cipher: None,
            latency: None,
            terms: Arc::default(),
            offered: None,
            keys: None,
            changed: true,
            closed: false,
            partner: None,
            last_seen: way.now,
        }
    }

    /// Takes the initiator's terms.
    fn ask(&mut self, message: &Handshake<'_>, stream_id: Option<String>, way: Way) {
        let material = message.key_material();
        let mut terms = Terms {
            version: message.version(),
            rendezvous: way.destination != 0,
            initiator: message.request(),
            key_length: material.map(|material| material.key_length),
            congestion: message.congestion(),
            filter: message.filter(),
            group: message.group(),
            ..Terms::default()
        };
        terms.read_stream_id(stream_id.as_deref());
        *self.ids.at_mut(way.direction) = Some(message.socket_id());
        if terms.rendezvous {
            *self.ids.at_mut(way.direction.flipped()) = Some(way.destination);
        }
        self.standing = Standing::Pending;
        self.initiator = way.direction;
        self.cipher = match material {
            Some(material) => Some(material.cipher.name(material.key_length).unwrap_or(UNVERIFIED)),
            None if message.version() > 4 => Some(CLEAR),
            None => None,
        };
        self.offered = material.and_then(KeyMaterial::store);
        self.latency = message.request_latency().map(clamp);
        self.stream_id = stream_id.map(Arc::from);
        self.terms = Arc::new(terms);
    }

    /// The responder, who sends in `direction`, agrees.
    fn settle(&mut self, message: &Handshake<'_>, direction: Direction) {
        self.standing = Standing::Established;
        self.changed = true;
        self.latency = message.response_latency().map(clamp).or(self.latency);
        Arc::make_mut(&mut self.terms).responder = message.response();
        if message.key_refusal().is_some() {
            self.offered = None;
            return;
        }
        self.take_offered();
        // A responder repeats the keys, or says others of its own for what it sends.
        if let Some(material) = message.key_material().and_then(KeyMaterial::store) {
            self.learn(direction, material);
        }
    }

    /// The initiator's keys are good for both directions, until each party says others.
    pub(super) fn take_offered(&mut self) {
        if let Some(material) = self.offered.take() {
            self.learn(self.initiator, material);
            self.learn(self.initiator.flipped(), material);
        }
    }

    /// Key material for what is sent in `direction`.
    pub(super) fn learn(&mut self, direction: Direction, material: StoredKeyMaterial) {
        let name = material.cipher.name(material.key_length).unwrap_or(UNVERIFIED);
        if self.cipher.replace(name) != Some(name) || self.terms.key_length != Some(material.key_length) {
            Arc::make_mut(&mut self.terms).key_length = Some(material.key_length);
            self.changed = true;
        }
        self.keys.get_or_insert_default().offer(direction, material);
    }

    /// The terms of a version 4 handshake, which come after it; `request` says whose they are.
    pub(super) fn negotiate(&mut self, latency: Latency, request: bool) {
        if self.terms.version != 4 {
            return;
        }
        let terms = Arc::make_mut(&mut self.terms);
        let said = if request {
            &mut terms.initiator
        } else {
            &mut terms.responder
        };
        if said.replace(latency) != Some(latency) {
            self.latency = Some(clamp(latency.longest()));
            self.changed = true;
        }
    }

    /// A party says good-bye; `false` when one has already.
    pub(super) fn close(&mut self) -> bool {
        !core::mem::replace(&mut self.closed, true)
    }

    /// Whether a packet with this destination socket id, going this way, is of this session, which stands.
    fn receives(&self, id: u32, direction: Direction) -> bool {
        let party = *self.ids.at(direction.flipped());
        party == Some(id) && self.standing != Standing::Greeting
    }

    /// The id of the party that sends in `direction`.
    pub(super) fn id(&self, direction: Direction) -> Option<u32> {
        *self.ids.at(direction)
    }

    /// Whether it was joined after its handshake.
    pub(super) fn is_joined(&self) -> bool {
        self.standing == Standing::Joined
    }

    /// What is known of who called.
    pub(super) fn caller(stream_id: &Option<Arc<str>>, joined: bool) -> Caller<'_> {
        if joined {
            Caller::Unknown
        } else {
            Caller::Said(stream_id.as_deref().unwrap_or_default())
        }
    }

    /// The report's `encryption`, given whether data is encrypted.
    pub(super) fn encryption(&self, encrypted: bool) -> &'static str {
        match self.cipher {
            Some(name) => name,
            None if encrypted => UNVERIFIED,
            None => CLEAR,
        }
    }
}

fn clamp(latency: Duration) -> Duration {
    latency.clamp(*LATENCY.start(), *LATENCY.end())
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
        Session {
            ids: PerDirection {
                forward: ids[0],
                reverse: ids[1],
            },
            ..Session::new(standing, way)
        }
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
