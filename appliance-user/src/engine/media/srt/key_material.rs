//! Key material messages (3.2.2): which keys, which cipher, how long. Nothing is unwrapped here.

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
    /// Reads a message; `None` for the one word by which a responder says that it refuses the keys.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Option<Self>, Error> {
        if bytes.len() == 4 {
            return Ok(None);
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
        Ok(Some(KeyMaterial {
            keys,
            cipher,
            key_length,
            salt,
            wrapped,
        }))
    }
}
