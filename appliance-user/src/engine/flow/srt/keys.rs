//! Keys of a session: learnt from the key material that goes by, with the passphrase of the rule.
//!
//! # What an attacker can make the engine do
//! Deriving a key from a passphrase takes up to a millisecond, so it is bounded: at most one derivation in
//! [`DERIVATION_SPACING`] for the whole engine (50 a second, 5% of a core), one in [`ATTEMPT_SPACING`] for a session after
//! its first, and only for material that the listener took (it repeats it), or that came within an established session.
//! What has to wait is kept, one message for each direction, and tried again with the next packet. A refresh keeps the salt,
//! and so the derived key: refreshes cost microseconds and wait for nothing.

use core::time::Duration;

use tidegate_common::flow::Direction;

use super::session::PerDirection;
use crate::engine::media::mpegts;
use crate::engine::media::srt::cipher::{Dialect, KeyEncryptingKey, StreamKey};
use crate::engine::media::srt::{Cipher, Data, KeyFlag, StoredKeyMaterial};
use crate::engine::time::Timestamp;
use crate::policy::rule::SrtRule;
use crate::policy::secret::Passphrase;

/// Between two derivations of an engine.
const DERIVATION_SPACING: Duration = Duration::from_millis(20);
/// Between two derivations of a session.
const ATTEMPT_SPACING: Duration = Duration::from_secs(1);
/// Passphrases that are tried for a session whose stream id is not known.
const MAX_CANDIDATES: usize = 16;
/// Packets with which the other dialects are tried, until one is proven.
const MAX_TRIALS: u8 = 16;
/// After so many packets in a row that are not authentic, the key is taken for out of date: they are not findings any more.
const MAX_FAILURES: u8 = 16;

/// What deciphering needs of the engine.
#[derive(Debug, Default)]
pub(in crate::engine) struct Decryption {
    /// A packet's cleartext.
    pub clear: Vec<u8>,
    next_derivation: Timestamp,
}

impl Decryption {
    fn may_derive(&mut self, now: Timestamp) -> bool {
        let may = now >= self.next_derivation;
        if may {
            self.next_derivation = now.after(DERIVATION_SPACING);
        }
        may
    }
}

/// What is known of whose session it is, for the choice of the passphrase.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller<'a> {
    /// The handshake said this stream id; empty where it said none.
    Said(&'a str),
    /// The handshake was not seen.
    Unknown,
}

impl Caller<'_> {
    fn candidate(self, rule: &SrtRule, attempt: usize) -> Option<&Passphrase> {
        match self {
            Caller::Said(id) if attempt == 0 => rule.passphrases.for_stream_id(Some(id)),
            Caller::Said(_) => None,
            Caller::Unknown => rule.passphrases.iter().take(MAX_CANDIDATES).nth(attempt),
        }
    }
}

/// What came of trying to unwrap keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unlocked {
    /// Nothing waits, or it has to wait on.
    Nothing,
    /// There are keys now.
    Keys,
    /// No passphrase of the rule fits, and no key of the session is known: who forges key material blames nobody.
    WrongPassphrase,
}

/// What came of deciphering a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deciphered {
    /// [`Decryption::clear`] has it.
    Clear,
    /// There is no key for it.
    Hidden,
    /// The sender did not send it so.
    Forged,
}

/// The keys of a session.
#[derive(Default)]
pub(super) struct Keys {
    /// Those that have proven themselves; each party may have a salt of its own.
    keks: PerDirection<Option<KeyEncryptingKey>>,
    sides: PerDirection<Side>,
    next_attempt: Timestamp,
}

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("<keys>")
    }
}

/// The keys of one direction: each party refreshes those that it sends with.
#[derive(Default)]
struct Side {
    even: Slot,
    odd: Slot,
    /// What the keys came from.
    current: Option<StoredKeyMaterial>,
    pending: Option<Pending>,
    dialect: Dialect,
    /// The dialect has given TS packets, or an authentic packet.
    proven: bool,
    trials: u8,
    failures: u8,
}

/// A key and the one that it replaced: what is sent again is sent as it was, and may come after a refresh.
#[derive(Default)]
struct Slot {
    current: Option<StreamKey>,
    previous: Option<StreamKey>,
}

impl Slot {
    fn put(&mut self, key: StreamKey) {
        self.previous = self.current.replace(key);
    }
}

/// Key material that waits to be unwrapped.
struct Pending {
    material: StoredKeyMaterial,
    /// Under which policy it was tried.
    generation: Option<u64>,
    attempt: usize,
    exhausted: bool,
}

impl Keys {
    /// Key material for what is sent in `direction`.
    pub(super) fn offer(&mut self, direction: Direction, material: StoredKeyMaterial) {
        let side = self.sides.at_mut(direction);
        let waits = side.pending.as_ref().map(|pending| &pending.material);
        if side.current.as_ref() == Some(&material) || waits == Some(&material) {
            return;
        }
        let known = self.keks.iter().flatten().find(|kek| kek.is_for(&material));
        match known.map(|kek| kek.unwrap(&material)) {
            Some(Ok(keys)) => side.install(material, keys),
            // Who forges key material with a salt that it has seen changes nothing.
            Some(Err(_)) => {}
            None => {
                side.pending = Some(Pending {
                    material,
                    generation: None,
                    attempt: 0,
                    exhausted: false,
                });
            }
        }
    }

    /// The material whose keys are in use in `direction`.
    pub(super) fn material(&self, direction: Direction) -> Option<&StoredKeyMaterial> {
        self.sides.at(direction).current.as_ref()
    }

    /// Whether any key of the session is known.
    fn any(&self) -> bool {
        self.sides.iter().any(|side| side.current.is_some())
    }

    /// Whether something waits for `direction`.
    pub(super) fn waits(&self, direction: Direction) -> bool {
        self.sides.at(direction).pending.is_some()
    }

    /// Tries to unwrap what waits for `direction`, if it may be tried now.
    pub(super) fn unlock(
        &mut self,
        direction: Direction,
        caller: Caller<'_>,
        policy: (&SrtRule, u64),
        now: Timestamp,
        decryption: &mut Decryption,
    ) -> Unlocked {
        let (rule, generation) = policy;
        let side = self.sides.at_mut(direction);
        let Some(pending) = &mut side.pending else {
            return Unlocked::Nothing;
        };
        if pending.generation.replace(generation) != Some(generation) {
            (pending.attempt, pending.exhausted) = (0, false);
        }
        if pending.exhausted {
            return Unlocked::Nothing;
        }
        let Some(passphrase) = caller.candidate(rule, pending.attempt) else {
            pending.exhausted = true;
            return Unlocked::Nothing;
        };
        if now < self.next_attempt || !decryption.may_derive(now) {
            return Unlocked::Nothing;
        }
        self.next_attempt = now.after(ATTEMPT_SPACING);
        let material = pending.material;
        let kek = KeyEncryptingKey::derive(passphrase.as_bytes(), &material);
        let Ok(keys) = kek.unwrap(&material) else {
            pending.attempt += 1;
            pending.exhausted = caller.candidate(rule, pending.attempt).is_none();
            return if pending.exhausted && !self.any() {
                Unlocked::WrongPassphrase
            } else {
                Unlocked::Nothing
            };
        };
        side.install(material, keys);
        let other = self.sides.at_mut(direction.flipped());
        if let Some(waiting) = other.pending.as_ref().map(|pending| pending.material)
            && kek.is_for(&waiting)
            && let Ok(keys) = kek.unwrap(&waiting)
        {
            other.install(waiting, keys);
        }
        *self.keks.at_mut(direction) = Some(kek);
        Unlocked::Keys
    }

    /// Deciphers a packet that goes in `direction`.
    pub(super) fn decipher(&mut self, direction: Direction, data: &Data<'_>, clear: &mut Vec<u8>) -> Deciphered {
        self.sides.at_mut(direction).decipher(data, clear)
    }

    /// Whether what is sent in `direction` is authenticated, so that cleartext is none of the sender's.
    pub(super) fn authenticates(&self, direction: Direction) -> bool {
        let side = self.sides.at(direction);
        let mut keys = [&side.even, &side.odd]
            .into_iter()
            .filter_map(|slot| slot.current.as_ref());
        side.proven && keys.any(|key| key.cipher() == Cipher::AesGcm)
    }

    /// Heap bytes that they hold, about.
    pub(super) fn memory(&self) -> usize {
        let slots = self.sides.iter().flat_map(|side| [&side.even, &side.odd]);
        let keys = slots.flat_map(|slot| [&slot.current, &slot.previous]);
        keys.flatten().count() * StreamKey::HEAP
    }
}

impl Side {
    fn install(&mut self, material: StoredKeyMaterial, (even, odd): (Option<StreamKey>, Option<StreamKey>)) {
        // A message that carries both repeats the one that is in use.
        for (slot, key) in [(&mut self.even, even), (&mut self.odd, odd)] {
            let known = |key: &StreamKey| slot.current.as_ref().is_some_and(|current| current.is_same(key));
            if let Some(key) = key.filter(|key| !known(key)) {
                slot.put(key);
            }
        }
        self.current = Some(material);
        self.pending = None;
        (self.trials, self.failures) = (0, 0);
    }

    fn decipher(&mut self, data: &Data<'_>, clear: &mut Vec<u8>) -> Deciphered {
        let slot = match data.key_flag() {
            KeyFlag::Even => &self.even,
            KeyFlag::Odd => &self.odd,
            KeyFlag::None | KeyFlag::Both => return Deciphered::Hidden,
        };
        let Some(key) = &slot.current else {
            return Deciphered::Hidden;
        };
        let authenticates = key.cipher() == Cipher::AesGcm;
        // The tag proves key and dialect; without one, TS packets do.
        let proves = |key: &StreamKey, dialect, clear: &mut Vec<u8>| {
            key.decipher(dialect, data, clear).is_ok() && (authenticates || mpegts::looks_like_ts(clear))
        };
        let mut before = slot.previous.iter();
        if proves(key, self.dialect, clear) || before.any(|key| proves(key, self.dialect, clear)) {
            (self.proven, self.failures) = (true, 0);
            return Deciphered::Clear;
        }
        if !self.proven && self.trials < MAX_TRIALS {
            self.trials += 1;
            if let Some(dialect) = Dialect::all(key.cipher()).find(|dialect| proves(key, *dialect, clear)) {
                (self.dialect, self.proven) = (dialect, true);
                return Deciphered::Clear;
            }
        }
        if !authenticates {
            // Ciphered with this key all the same: the key material's check has proven it.
            return match key.decipher(self.dialect, data, clear) {
                Ok(()) => Deciphered::Clear,
                Err(_) => Deciphered::Hidden,
            };
        }
        if !self.proven || self.failures >= MAX_FAILURES {
            return Deciphered::Hidden;
        }
        self.failures += 1;
        Deciphered::Forged
    }
}
