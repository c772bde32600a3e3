//! SRT packets (draft-sharabayko-srt 3): data, control, the handshake with its extensions, and what deciphers the data.
//!
//! What a listener on the path needs: whose packet it is, in which order it belongs, what was agreed, what the receiver
//! reports. It never answers, and it knows no more than the packets and a passphrase say.

pub mod cipher;
mod control;
mod extension;
mod handshake;
mod key_material;
pub mod stream_id;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::control::{Acknowledgement, Control, ControlType, DropRequest, LossReport, Measured};
pub use self::extension::{FLAG_NAMES, Group, Latency};
pub use self::handshake::{Handshake, HandshakeType};
pub use self::key_material::{Cipher, KeyMaterial, KeyRefusal, StoredKeyMaterial};

/// Sequence numbers have 31 bits (3.1).
pub const SEQUENCE_MASK: u32 = 0x7fff_ffff;
/// Message numbers have 26 bits (3.1).
pub const MESSAGE_MASK: u32 = 0x03ff_ffff;

/// Bytes of every packet's header.
const HEADER: usize = 16;
/// The first bit: control packet.
const CONTROL: u32 = 0x8000_0000;

/// Why bytes are not an SRT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Cut short within the header or within a control packet's fixed content.
    #[error("SRT packet is cut short")]
    Truncated,
    /// A control type that the draft does not define (3.2, table 1).
    #[error("SRT control type {0:#06x} is not defined")]
    ControlType(u16),
    /// The handshake's version is neither 4 nor 5 (3.2.1).
    #[error("SRT handshake version {0} is not known")]
    HandshakeVersion(u32),
    /// A handshake extension runs past the packet's end, or its content has a length that its type cannot have.
    #[error("SRT handshake extension {0} has an impossible length")]
    ExtensionLength(u16),
    /// An extension comes twice: sender and receiver might each believe another one.
    #[error("SRT handshake extension {0} comes twice")]
    ExtensionTwice(u16),
    /// The stream id holds a NUL before its end, where receivers disagree about what it says.
    #[error("SRT stream id holds a NUL")]
    StreamId,
    /// Key material whose signature, version, type or lengths are wrong (3.2.2).
    #[error("SRT key material is malformed")]
    KeyMaterial,
}

/// An SRT packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a packet is looked at once, where it was read; a box would be an allocation"
)]
pub enum Packet<'a> {
    /// Media.
    Data(Data<'a>),
    /// Everything else.
    Control(Control<'a>),
}

impl<'a> Packet<'a> {
    /// Reads a UDP payload as SRT.
    ///
    /// # Errors
    /// [`Error`] where the bytes break section 3 of the draft. Any 16 bytes whose first bit is 0 are a data packet: the
    /// format has nothing to tell them by.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Error::Truncated)?;
        let [first, second, timestamp, destination] = words(header);
        if first & CONTROL == 0 {
            return Ok(Packet::Data(Data {
                sequence: first,
                message: second,
                timestamp,
                destination,
                payload: rest,
            }));
        }
        Control::parse([first, second, timestamp, destination], rest).map(Packet::Control)
    }
}

/// A data packet (3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    sequence: u32,
    message: u32,
    timestamp: u32,
    destination: u32,
    payload: &'a [u8],
}

/// Bit of the second word: R, which a sender sets in what it repeats.
const RETRANSMITTED: u32 = 0x0400_0000;

/// Where a packet stands in its message (PP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In the middle.
    Middle,
    /// The last one.
    Last,
    /// The first one.
    First,
    /// The only one, as always in live mode.
    Single,
}

/// Which key encrypts a packet (KK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFlag {
    /// Not encrypted.
    None,
    /// The even key.
    Even,
    /// The odd key.
    Odd,
    /// Both: only in key material, never in data (3.1).
    Both,
}

impl KeyFlag {
    const fn of(bits: u32) -> Self {
        match bits & 3 {
            0 => KeyFlag::None,
            1 => KeyFlag::Even,
            2 => KeyFlag::Odd,
            _ => KeyFlag::Both,
        }
    }

    /// How many keys the flag names.
    pub const fn keys(self) -> usize {
        match self {
            KeyFlag::None => 0,
            KeyFlag::Even | KeyFlag::Odd => 1,
            KeyFlag::Both => 2,
        }
    }
}

impl<'a> Data<'a> {
    /// Packet sequence number, 31 bits.
    pub const fn sequence_number(&self) -> u32 {
        self.sequence & SEQUENCE_MASK
    }

    /// PP.
    pub const fn position(&self) -> Position {
        match self.message >> 30 {
            0 => Position::Middle,
            1 => Position::Last,
            2 => Position::First,
            _ => Position::Single,
        }
    }

    /// O: the message must be delivered in order.
    pub const fn in_order(&self) -> bool {
        self.message & 0x2000_0000 != 0
    }

    /// KK.
    pub const fn key_flag(&self) -> KeyFlag {
        KeyFlag::of(self.message >> 27)
    }

    /// Whether the payload is encrypted.
    pub const fn is_encrypted(&self) -> bool {
        !matches!(self.key_flag(), KeyFlag::None)
    }

    /// R: the sender repeats the packet.
    pub const fn is_retransmitted(&self) -> bool {
        self.message & RETRANSMITTED != 0
    }

    /// Whether the packet is a packet filter's own (libsrt's FEC), which carries message number 0 and borrows the sequence
    /// number of a media packet: it must not be judged as one.
    pub const fn is_filter_control(&self) -> bool {
        self.message_number() == 0
    }

    /// Message number, 26 bits; counts from 1.
    pub const fn message_number(&self) -> u32 {
        self.message & MESSAGE_MASK
    }

    /// Microseconds since the connection began, modulo 2^32.
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// The receiver's socket id.
    pub const fn destination_socket_id(&self) -> u32 {
        self.destination
    }

    /// The header as its sender first wrote it, without the retransmission flag: what AES-GCM authenticates.
    pub const fn original_header(&self) -> [u32; 4] {
        [
            self.sequence,
            self.message & !RETRANSMITTED,
            self.timestamp,
            self.destination,
        ]
    }

    /// The payload, encrypted as [`Data::key_flag`] says.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Big-endian words of a block whose size is known when it is compiled.
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    const { assert!(BYTES == WORDS * 4) };
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}
