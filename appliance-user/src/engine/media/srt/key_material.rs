//! Key material messages (3.2.2): which keys, which cipher, how long. What is in them stays wrapped.

use super::{Error, KeyFlag};

/// Subtype of a key material request in a user-defined control packet, and its handshake extension's type.
pub(super) const REQUEST: u16 = 3;
/// Subtype and extension type of the response.
pub(super) const RESPONSE: u16 = 4;

/// Version 1, packet type 2 (key material), behind a zero bit.
const VERSION_AND_TYPE: u8 = 0x12;
/// The "HAI" vendor's signature.
const SIGNATURE: u16 = 0x2029;
/// Bytes before the salt.
const HEADER: usize = 16;
/// What RFC 3394 adds to the keys that it wraps.
const WRAP_OVERHEAD: usize = 8;

/// Ciphers (3.2.2, Cipher).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// Keys are announced, but nothing is encrypted.
    None,
    /// AES in counter mode.
    AesCtr,
    /// AES in Galois/counter mode.
    AesGcm,
    /// A number without meaning to this parser (1 and 3 are reserved).
    Other(u8),
}

impl Cipher {
    /// The name in reports, for a key of that many bytes; `None` where nothing is encrypted or nobody knows with what.
    pub const fn name(self, key_length: usize) -> Option<&'static str> {
        Some(match (self, key_length) {
            (Cipher::AesCtr, 16) => "aes-128-ctr",
            (Cipher::AesCtr, 24) => "aes-192-ctr",
            (Cipher::AesCtr, 32) => "aes-256-ctr",
            (Cipher::AesGcm, 16) => "aes-128-gcm",
            (Cipher::AesGcm, 24) => "aes-192-gcm",
            (Cipher::AesGcm, 32) => "aes-256-gcm",
            _ => return None,
        })
    }
}

/// Why a responder takes no keys (the KM state of 3.2.2, in place of the message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// It wants no encryption.
    Unsecured,
    /// It has no passphrase.
    NoSecret,
    /// Its passphrase is another one.
    BadSecret,
    /// It wants another cipher.
    BadCryptoMode,
    /// A number without meaning.
    Other(u32),
}

impl KeyRefusal {
    const fn of(state: u32) -> Self {
        match state {
            0 => KeyRefusal::Unsecured,
            3 => KeyRefusal::NoSecret,
            4 => KeyRefusal::BadSecret,
            5 => KeyRefusal::BadCryptoMode,
            other => KeyRefusal::Other(other),
        }
    }

    /// The name in events.
    pub const fn name(self) -> &'static str {
        match self {
            KeyRefusal::Unsecured => "unsecured",
            KeyRefusal::NoSecret => "no-secret",
            KeyRefusal::BadSecret => "bad-secret",
            KeyRefusal::BadCryptoMode => "bad-crypto-mode",
            KeyRefusal::Other(_) => "other",
        }
    }
}

/// The longest wrapped content: two keys of 32 bytes.
pub(super) const MAX_WRAPPED: usize = 2 * 32 + WRAP_OVERHEAD;

/// Key material that waits to be unwrapped. Without the passphrase it tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKeyMaterial {
    /// Which keys it carries.
    pub keys: KeyFlag,
    /// The cipher they are for.
    pub cipher: Cipher,
    /// Bytes of one key: 16, 24 or 32.
    pub key_length: usize,
    /// The salt.
    pub salt: [u8; 16],
    wrapped: [u8; MAX_WRAPPED],
    wrapped_length: usize,
}

impl StoredKeyMaterial {
    /// The keys, wrapped as RFC 3394 says.
    pub fn wrapped(&self) -> &[u8] {
        self.wrapped.get(..self.wrapped_length).unwrap_or_default()
    }
}

/// A key material message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMaterial<'a> {
    /// Which keys it carries.
    pub keys: KeyFlag,
    /// The cipher they are for.
    pub cipher: Cipher,
    /// Bytes of one key: 16, 24 or 32.
    pub key_length: usize,
    /// The salt, 16 bytes (or none).
    pub salt: &'a [u8],
    /// The keys, wrapped as RFC 3394 says.
    pub wrapped: &'a [u8],
}

impl<'a> KeyMaterial<'a> {
    /// Reads a message, or the one word by which a responder says that it refuses the keys.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Result<Self, KeyRefusal>, Error> {
        if let Ok(word) = <[u8; 4]>::try_from(bytes) {
            return Ok(Err(KeyRefusal::of(u32::from_be_bytes(word))));
        }
        let (header, mut rest) = bytes.split_first_chunk::<HEADER>().ok_or(Error::KeyMaterial)?;
        let [
            kind,
            s0,
            s1,
            flags,
            _,
            _,
            _,
            _,
            cipher,
            _,
            _,
            _,
            _,
            _,
            salt_words,
            key_words,
        ] = *header;
        if kind != VERSION_AND_TYPE || u16::from_be_bytes([s0, s1]) != SIGNATURE {
            return Err(Error::KeyMaterial);
        }
        let keys = KeyFlag::of(flags.into());
        let (salt_length, key_length) = (usize::from(salt_words) * 4, usize::from(key_words) * 4);
        if !matches!(key_length, 16 | 24 | 32) || !matches!(salt_length, 0 | 16) || keys == KeyFlag::None {
            return Err(Error::KeyMaterial);
        }
        let salt = rest.split_off(..salt_length).ok_or(Error::KeyMaterial)?;
        let wrapped = rest
            .split_off(..keys.keys() * key_length + WRAP_OVERHEAD)
            .ok_or(Error::KeyMaterial)?;
        let cipher = match cipher {
            0 => Cipher::None,
            2 => Cipher::AesCtr,
            4 => Cipher::AesGcm,
            other => Cipher::Other(other),
        };
        Ok(Ok(KeyMaterial {
            keys,
            cipher,
            key_length,
            salt,
            wrapped,
        }))
    }

    /// A copy that outlives the packet; `None` without a salt, from which no key can be derived.
    pub fn store(&self) -> Option<StoredKeyMaterial> {
        let mut wrapped = [0; MAX_WRAPPED];
        wrapped.get_mut(..self.wrapped.len())?.copy_from_slice(self.wrapped);
        Some(StoredKeyMaterial {
            keys: self.keys,
            cipher: self.cipher,
            key_length: self.key_length,
            salt: self.salt.try_into().ok()?,
            wrapped,
            wrapped_length: self.wrapped.len(),
        })
    }
}
