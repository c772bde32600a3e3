//! What a rule says of SRT.

use crate::policy::glob::Glob;
use crate::policy::secret::Passphrases;

/// Whether an SRT session must, may or must not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Cleartext is dropped.
    Required,
    /// Either is admitted.
    #[default]
    Optional,
    /// Ciphertext is dropped.
    Forbidden,
}

/// What happens to an SRT session that was joined without its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnverified {
    /// Forward it and say that it is unverified.
    #[default]
    Return,
    /// Drop it.
    Drop,
}

/// What a rule says of SRT.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SrtRule {
    /// Stream ids that may call, or `None` for every one.
    pub stream_ids: Option<Vec<Glob>>,
    /// What the session's encryption must be.
    pub encryption: Encryption,
    /// What happens to a session joined without its handshake.
    pub on_unverified: OnUnverified,
    /// Lengths of the stream encrypting key that a session may use, in bits: 128, 192 or 256, ascending; `None` for every
    /// one. A cleartext session is `encryption`'s matter.
    pub key_lengths: Option<Vec<u16>>,
    /// What the sessions are deciphered with for judging; empty until the policy's files are read.
    pub passphrases: Passphrases,
}

impl SrtRule {
    /// Whether a handshake with this stream id may pass. A handshake without one has the empty id.
    pub fn admits_stream_id(&self, id: &[u8]) -> bool {
        self.stream_ids
            .as_ref()
            .is_none_or(|globs| globs.iter().any(|glob| glob.matches(id)))
    }

    /// Whether a session may use a key of this many bits.
    pub fn admits_key_length(&self, bits: u16) -> bool {
        self.key_lengths.as_ref().is_none_or(|lengths| lengths.contains(&bits))
    }
}
