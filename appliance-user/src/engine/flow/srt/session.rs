//! One SRT session: what its handshake settled, its keys, and whose packets are its own.

use core::time::Duration;
use std::sync::Arc;

use tidegate_common::flow::Direction;

use super::figures::Terms;
use super::keys::{Caller, Keys};
use super::sessions::Way;
use crate::engine::media::srt::{Handshake, KeyMaterial, Latency, StoredKeyMaterial};
use crate::engine::memory::{Allowance, Grant};
use crate::engine::time::Timestamp;

/// A negotiated latency outside of this is not a reorder window, but a mistake or an attack on memory.
const LATENCY: core::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(8);

/// How often one thing is told of a session, or of a flow's refused handshakes, at most.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long a conclusion's answer may take: libsrt's own timeout for a connection. What was not answered by then, where it
/// could be seen, is not verified.
const ANSWER_TIME: Duration = Duration::from_secs(3);

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
pub(super) enum Standing {
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
    pub(super) standing: Standing,
    /// The direction in which the initiator, the caller, sends.
    pub(super) initiator: Direction,
    /// The socket id of the party that sends in each direction.
    pub(super) ids: PerDirection<Option<u32>>,
    pub(super) stream_id: Option<Arc<str>>,
    /// The cipher's name; `None` until it is known, which in version 4 is after data has come.
    cipher: Option<&'static str>,
    pub(super) latency: Option<Duration>,
    pub(super) terms: Arc<Terms>,
    /// The rule admits what the initiator asked for. Without enforcement others are followed too.
    pub(super) admitted: bool,
    /// The handshake negotiated a packet filter: what carries message number 0 is the filter's own.
    pub(super) filters: bool,
    /// The initiator's keys, until the responder takes them.
    offered: Option<StoredKeyMaterial>,
    pub(super) keys: Option<Box<Keys>>,
    /// What it says of its streams has changed.
    pub(super) changed: bool,
    /// A party said good-bye and no data has come since.
    pub(super) closed: bool,
    /// When the initiator first said its terms.
    pub(super) asked: Timestamp,
    /// Pending: the responder's socket id as the first data has it, while its answer is not seen.
    pub(super) assumed: Option<u32>,
    /// Joined: the socket id that the receiver's reports seem to go to.
    pub(super) partner: Option<u32>,
    pub(super) last_seen: Timestamp,
    /// When something of it was last told, which anyone who knows its socket ids can bring about.
    told: Option<Timestamp>,
    /// What pays for it.
    grant: Option<Grant>,
    /// It may have grown since it last paid.
    pub(super) owes: bool,
}

impl Session {
    /// A session that `way` begins.
    pub(super) fn new(standing: Standing, way: Way) -> Self {
        Session {
            standing,
            initiator: way.direction,
            ids: PerDirection::default(),
            stream_id: None,
            cipher: None,
            latency: None,
            terms: Arc::default(),
            admitted: false,
            filters: false,
            offered: None,
            keys: None,
            changed: true,
            closed: false,
            asked: way.now,
            assumed: None,
            partner: None,
            last_seen: way.now,
            told: None,
            grant: None,
            owes: true,
        }
    }

    /// Takes the initiator's terms.
    pub(super) fn ask(&mut self, message: &Handshake<'_>, stream_id: Option<String>, way: Way) {
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
        self.filters = terms.filter.is_some();
        terms.read_stream_id(stream_id.as_deref());
        *self.ids.at_mut(way.direction) = Some(message.socket_id());
        if terms.rendezvous {
            *self.ids.at_mut(way.direction.flipped()) = Some(way.destination);
        }
        (self.standing, self.owes, self.asked) = (Standing::Pending, true, way.now);
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
    pub(super) fn settle(&mut self, message: &Handshake<'_>, direction: Direction) {
        self.standing = Standing::Established;
        self.changed = true;
        self.latency = message.response_latency().map(clamp).or(self.latency);
        let terms = Arc::make_mut(&mut self.terms);
        terms.responder = message.response();
        if message.response().is_some() {
            // The response repeats the filter that is used, which may be the responder's own.
            let filter = message.filter();
            self.filters = filter.is_some();
            terms.filter = filter.or(terms.filter.take());
        }
        if message.key_refusal().is_some() {
            self.offered = None;
            return;
        }
        self.take_offered();
        // A responder repeats the keys, or says others of its own for what it sends.
        if let Some(material) = message.key_material().and_then(KeyMaterial::store) {
            self.learn(direction, material, false);
        }
    }

    /// The initiator's keys are good for both directions, until each party says others.
    fn take_offered(&mut self) {
        if let Some(material) = self.offered.take() {
            self.learn(self.initiator, material, false);
            self.learn(self.initiator.flipped(), material, false);
        }
    }

    /// Key material for what is sent in `direction`. Until it is unwrapped anyone may have sent it, so it describes the
    /// session only where nothing does yet and, being `provable`, it cannot be waited for.
    pub(super) fn learn(&mut self, direction: Direction, material: StoredKeyMaterial, provable: bool) {
        if self.cipher.is_none() && !provable {
            self.describe(&material);
        }
        self.keys.get_or_insert_default().offer(direction, material);
        self.owes = true;
        self.prove(direction);
    }

    /// Describes the session by the keys of `direction`, if they have been unwrapped.
    pub(super) fn prove(&mut self, direction: Direction) {
        let proven = self.keys.as_ref().and_then(|keys| keys.material(direction).copied());
        if let Some(material) = proven {
            self.describe(&material);
        }
    }

    fn describe(&mut self, material: &StoredKeyMaterial) {
        let name = material.cipher.name(material.key_length).unwrap_or(UNVERIFIED);
        if self.cipher.replace(name) != Some(name) || self.terms.key_length != Some(material.key_length) {
            Arc::make_mut(&mut self.terms).key_length = Some(material.key_length);
            self.changed = true;
        }
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

    /// Whether something may be told of it at `now`: once a second at most.
    pub(super) fn may_tell(&mut self, now: Timestamp) -> bool {
        let may = self.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if may {
            self.told = Some(now);
        }
        may
    }

    /// Whether a packet with this destination socket id, going this way, is of this session, which stands.
    pub(super) fn receives(&self, id: u32, direction: Direction) -> bool {
        let party = *self.ids.at(direction.flipped());
        let assumed = self.standing == Standing::Pending && direction == self.initiator && self.assumed == Some(id);
        assumed || party == Some(id) && self.standing != Standing::Greeting
    }

    /// Data goes to `id` of a session whose answer was not seen: it may take another way. The answer, when it comes, is what
    /// counts.
    pub(super) fn assume(&mut self, id: u32, direction: Direction) {
        if self.standing == Standing::Pending && direction == self.initiator {
            self.assumed = Some(id);
            self.take_offered();
        }
    }

    /// Holds its memory out of the allowance; `false` where there is not enough for it.
    pub(super) fn pay(&mut self, allowance: &Allowance) -> bool {
        let keys = self.keys.as_ref().map_or(0, |keys| size_of::<Keys>() + keys.memory());
        let texts = self.terms.memory() + self.stream_id.as_ref().map_or(0, |id| id.len());
        self.owes = false;
        let grant = self.grant.get_or_insert_with(|| allowance.grant());
        grant.hold(size_of::<Session>() + texts + keys)
    }

    /// Gives up what it can do without: where memory is short a session is followed, but not deciphered.
    pub(super) fn economise(&mut self) {
        self.keys = None;
        self.terms = Arc::new(Terms {
            version: self.terms.version,
            rendezvous: self.terms.rendezvous,
            key_length: self.terms.key_length,
            ..Terms::default()
        });
        self.changed = true;
    }

    /// The id of the party that sends in `direction`.
    pub(super) fn id(&self, direction: Direction) -> Option<u32> {
        *self.ids.at(direction)
    }

    /// Whether it was joined after its handshake.
    pub(super) fn is_joined(&self) -> bool {
        self.standing == Standing::Joined
    }

    /// Whether its answer may still come.
    pub(super) fn awaits_answer(&self, now: Timestamp) -> bool {
        self.standing == Standing::Pending && now.since(self.asked) < ANSWER_TIME
    }

    /// Whether its data is of a session whose handshake was seen: answered, or not long ago.
    pub(super) fn is_verified(&self, now: Timestamp) -> bool {
        self.standing == Standing::Established || self.awaits_answer(now)
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
