//! Deciphering with the passphrase (draft-sharabayko-srt 6): key encrypting key, stream encrypting keys, AES-CTR, AES-GCM.
//!
//! AES-CTR carries no proof of integrity: whoever can change packets can change the deciphered media unseen, and a key that
//! is out of date gives noise. AES-GCM's tag proves both. Every key here is overwritten when it is dropped and none has
//! `Debug`, so that none can reach a log.
//!
//! # AES-GCM, which the draft does not describe
//! As libsrt does it from 1.5.4 on: nonce = the salt's first 12 bytes with the sequence number, big-endian, XORed into the
//! last four; additional data = the 16 bytes of the header as on the wire, the retransmission flag cleared; the tag's 16
//! bytes follow the payload. Keys are wrapped as for AES-CTR. The versions before (1.5.2, 1.5.3, a preview) took the first
//! 12 bytes of the counter block of AES-CTR as the nonce and the header in the byte order of their machine. Versions after
//! 1.5.7 may tell the two directions apart by a role in the first byte of nonce and counter block. [`Dialect`] names them.

use aes::cipher::consts::{U12, U16};
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher};
use aes::{Aes128, Aes128Enc, Aes192, Aes192Enc, Aes256, Aes256Enc};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut;
use aes_kw::AesKw;
use ctr::{Ctr128BE, CtrCore, flavors};
use sha1::{Digest, Sha1};
use thiserror::Error;
use zeroize::Zeroizing;

use super::key_material::{Cipher, MAX_WRAPPED, StoredKeyMaterial};
use super::{Data, KeyFlag};

/// Rounds of PBKDF2 (6.1.4).
const ROUNDS: u32 = 2048;
/// Bytes of the authentication tag.
const TAG: usize = 16;
/// Bytes of an AES-GCM nonce.
const NONCE: usize = 12;
/// Roles that may tell the directions apart: none, and one for each.
const ROLES: u8 = 3;

/// Why something was not deciphered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// RFC 3394's check failed: the passphrase is not the one that the keys were wrapped with.
    #[error("the passphrase does not unwrap the key material")]
    WrongPassphrase,
    /// The cipher is none that this module knows.
    #[error("the cipher is not known")]
    UnknownCipher,
    /// The tag does not prove the packet, or there is none.
    #[error("the packet is not authentic")]
    NotAuthentic,
}

/// A key encrypting key: what a passphrase and a salt make (6.1.4).
pub struct KeyEncryptingKey {
    salt: [u8; 16],
    length: usize,
    key: Zeroizing<[u8; 32]>,
}

impl KeyEncryptingKey {
    /// Derives the key that such key material was wrapped with. This takes some tenths of a millisecond to one millisecond,
    /// so whoever calls it bounds how often.
    pub fn derive(passphrase: &[u8], material: &StoredKeyMaterial) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let length = material.key_length.min(key.len());
        // The least significant 64 bits of the salt (6.1.4).
        let [.., s0, s1, s2, s3, s4, s5, s6, s7] = material.salt;
        let salt = [s0, s1, s2, s3, s4, s5, s6, s7];
        if let Some(key) = key.get_mut(..length) {
            pbkdf2::pbkdf2_hmac::<Sha1>(passphrase, &salt, ROUNDS, key);
        }
        KeyEncryptingKey {
            salt: material.salt,
            length,
            key,
        }
    }

    /// Whether this is the key for such key material, provided that the passphrase is the same.
    pub fn is_for(&self, material: &StoredKeyMaterial) -> bool {
        (self.salt, self.length) == (material.salt, material.key_length)
    }

    /// The keys of a message, even and odd, as far as it carries them.
    ///
    /// # Errors
    /// [`Failure::WrongPassphrase`], [`Failure::UnknownCipher`].
    pub fn unwrap(&self, material: &StoredKeyMaterial) -> Result<(Option<StreamKey>, Option<StreamKey>), Failure> {
        let mut buffer = Zeroizing::new([0; MAX_WRAPPED]);
        let key = self.key.get(..self.length).unwrap_or_default();
        let keys = match self.length {
            16 => unwrap_with::<Aes128>(key, material.wrapped(), &mut buffer[..]),
            24 => unwrap_with::<Aes192>(key, material.wrapped(), &mut buffer[..]),
            _ => unwrap_with::<Aes256>(key, material.wrapped(), &mut buffer[..]),
        }?;
        let mut keys = keys.chunks_exact(material.key_length.max(1));
        let mut next = || {
            let key = keys.next().ok_or(Failure::WrongPassphrase)?;
            StreamKey::new(material.cipher, key, material.salt)
        };
        Ok(match material.keys {
            KeyFlag::None => (None, None),
            KeyFlag::Even => (Some(next()?), None),
            KeyFlag::Odd => (None, Some(next()?)),
            // The even key comes first (3.2.2).
            KeyFlag::Both => (Some(next()?), Some(next()?)),
        })
    }
}

/// RFC 3394 with one key length.
fn unwrap_with<'b, C>(key: &[u8], wrapped: &[u8], into: &'b mut [u8]) -> Result<&'b [u8], Failure>
where
    C: KeyInit + BlockCipherDecrypt<BlockSize = U16>,
{
    let key = AesKw::<C>::new_from_slice(key).map_err(|_| Failure::WrongPassphrase)?;
    key.unwrap_key(wrapped, into).map_err(|_| Failure::WrongPassphrase)
}

/// How nonces and additional data are formed; see the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    role: u8,
    preview: bool,
}

impl Dialect {
    /// Every dialect of a cipher, the usual one first.
    pub fn all(cipher: Cipher) -> impl Iterator<Item = Dialect> {
        let previews: &[bool] = if cipher == Cipher::AesGcm {
            &[false, true]
        } else {
            &[false]
        };
        previews.iter().flat_map(|preview| {
            (0..ROLES).map(|role| Dialect {
                role,
                preview: *preview,
            })
        })
    }
}

/// A stream encrypting key, made ready for use.
pub struct StreamKey {
    /// What tells it from other keys; shows nothing of it.
    digest: [u8; 20],
    salt: [u8; 16],
    schedule: Box<Schedule>,
}

enum Schedule {
    Ctr128(Aes128Enc),
    Ctr192(Aes192Enc),
    Ctr256(Aes256Enc),
    Gcm128(AesGcm<Aes128Enc, U12>),
    Gcm192(AesGcm<Aes192Enc, U12>),
    Gcm256(AesGcm<Aes256Enc, U12>),
}

impl StreamKey {
    /// Heap bytes of one key, made ready.
    pub const HEAP: usize = size_of::<Schedule>();

    fn new(cipher: Cipher, key: &[u8], salt: [u8; 16]) -> Result<Self, Failure> {
        let schedule = match (cipher, key.len()) {
            (Cipher::AesCtr, 16) => Aes128Enc::new_from_slice(key).map(Schedule::Ctr128),
            (Cipher::AesCtr, 24) => Aes192Enc::new_from_slice(key).map(Schedule::Ctr192),
            (Cipher::AesCtr, 32) => Aes256Enc::new_from_slice(key).map(Schedule::Ctr256),
            (Cipher::AesGcm, 16) => AesGcm::new_from_slice(key).map(Schedule::Gcm128),
            (Cipher::AesGcm, 24) => AesGcm::new_from_slice(key).map(Schedule::Gcm192),
            (Cipher::AesGcm, 32) => AesGcm::new_from_slice(key).map(Schedule::Gcm256),
            _ => return Err(Failure::UnknownCipher),
        };
        let schedule = Box::new(schedule.map_err(|_| Failure::UnknownCipher)?);
        let digest = Sha1::new().chain_update(salt).chain_update(key).finalize().into();
        Ok(StreamKey { digest, salt, schedule })
    }

    /// Whether it is the same key, for the same salt.
    pub fn is_same(&self, other: &StreamKey) -> bool {
        self.digest == other.digest
    }

    /// The cipher that it is for.
    pub fn cipher(&self) -> Cipher {
        match *self.schedule {
            Schedule::Ctr128(_) | Schedule::Ctr192(_) | Schedule::Ctr256(_) => Cipher::AesCtr,
            Schedule::Gcm128(_) | Schedule::Gcm192(_) | Schedule::Gcm256(_) => Cipher::AesGcm,
        }
    }

    /// Deciphers a packet's payload into `clear`, in place of what is there, which allocates only until `clear` has grown to
    /// the longest payload.
    ///
    /// # Errors
    /// [`Failure::NotAuthentic`], of AES-GCM; `clear` then holds nothing of use.
    pub fn decipher(&self, dialect: Dialect, data: &Data<'_>, clear: &mut Vec<u8>) -> Result<(), Failure> {
        clear.clear();
        clear.extend_from_slice(data.payload());
        let block = self.counter_block(dialect, data.sequence_number());
        match &*self.schedule {
            Schedule::Ctr128(key) => apply(key, block, clear),
            Schedule::Ctr192(key) => apply(key, block, clear),
            Schedule::Ctr256(key) => apply(key, block, clear),
            Schedule::Gcm128(key) => return self.open(key, dialect, data, clear),
            Schedule::Gcm192(key) => return self.open(key, dialect, data, clear),
            Schedule::Gcm256(key) => return self.open(key, dialect, data, clear),
        }
        Ok(())
    }

    /// The first counter block (6.2.2): the salt's first 14 bytes with the sequence number XORed into the last four of them;
    /// two bytes count blocks.
    fn counter_block(&self, dialect: Dialect, sequence: u32) -> [u8; 16] {
        let [first, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, ..] = self.salt;
        let [n0, n1, n2, n3] = sequence.to_be_bytes();
        [
            first ^ dialect.role,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            s8,
            s9,
            s10 ^ n0,
            s11 ^ n1,
            s12 ^ n2,
            s13 ^ n3,
            0,
            0,
        ]
    }

    fn nonce(&self, dialect: Dialect, sequence: u32) -> [u8; NONCE] {
        if dialect.preview {
            let [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, ..] = self.counter_block(dialect, sequence);
            return [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11];
        }
        let [first, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, ..] = self.salt;
        let [n0, n1, n2, n3] = sequence.to_be_bytes();
        [
            first ^ dialect.role,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            s8 ^ n0,
            s9 ^ n1,
            s10 ^ n2,
            s11 ^ n3,
        ]
    }

    fn open<K: AeadInOut<NonceSize = U12, TagSize = U16>>(
        &self,
        key: &K,
        dialect: Dialect,
        data: &Data<'_>,
        clear: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let length = clear.len().checked_sub(TAG).ok_or(Failure::NotAuthentic)?;
        let tag: [u8; TAG] = clear.last_chunk().copied().ok_or(Failure::NotAuthentic)?;
        clear.truncate(length);
        let mut additional = [0; 16];
        for (bytes, word) in additional.as_chunks_mut::<4>().0.iter_mut().zip(data.original_header()) {
            *bytes = if dialect.preview {
                word.to_le_bytes()
            } else {
                word.to_be_bytes()
            };
        }
        let nonce = self.nonce(dialect, data.sequence_number());
        key.decrypt_inout_detached(&nonce.into(), &additional, clear.as_mut_slice().into(), &tag.into())
            .map_err(|_| Failure::NotAuthentic)
    }
}

fn apply<C>(key: &C, block: [u8; 16], clear: &mut [u8])
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    let core = CtrCore::<&C, flavors::Ctr128BE>::inner_iv_init(key, &block.into());
    Ctr128BE::<&C>::from_core(core).apply_keystream(clear);
}

#[cfg(test)]
#[path = "cipher_tests.rs"]
mod tests;
