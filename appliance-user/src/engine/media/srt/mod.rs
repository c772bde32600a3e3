//! SRT packets (draft-sharabayko-srt 3): data, control, and the handshake with its extensions.
//!
//! Only what a listener on the path needs: whose packet it is, in which order it belongs, what was agreed. Key material
//! is measured, not unwrapped.

mod handshake;
mod key_material;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::handshake::{Handshake, HandshakeType, Latency};
pub use self::key_material::{Cipher, KeyMaterial};

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
        let control_type = ControlType::of((first >> 16) as u16 & 0x7fff, first as u16)?;
        let content = Content::parse(control_type, second, rest)?;
        Ok(Packet::Control(Control {
            control_type,
            timestamp,
            destination,
            content,
        }))
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
        self.message & 0x0400_0000 != 0
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

    /// The payload, encrypted as [`Data::key_flag`] says.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Control types (3.2, table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// 3.2.1.
    Handshake,
    /// 3.2.3.
    KeepAlive,
    /// 3.2.4, full, light or small.
    Ack,
    /// Loss report (3.2.5).
    Nak,
    /// 3.2.6.
    CongestionWarning,
    /// 3.2.7.
    Shutdown,
    /// 3.2.8.
    AckAck,
    /// The sender gave a message up (3.2.9).
    DropRequest,
    /// 3.2.10.
    PeerError,
    /// 0x7FFF with its subtype: the extensions of a version 4 handshake and key refreshes (3.2.2).
    UserDefined(u16),
}

impl ControlType {
    const fn of(number: u16, subtype: u16) -> Result<Self, Error> {
        Ok(match number {
            0 => ControlType::Handshake,
            1 => ControlType::KeepAlive,
            2 => ControlType::Ack,
            3 => ControlType::Nak,
            4 => ControlType::CongestionWarning,
            5 => ControlType::Shutdown,
            6 => ControlType::AckAck,
            7 => ControlType::DropRequest,
            8 => ControlType::PeerError,
            0x7fff => ControlType::UserDefined(subtype),
            _ => return Err(Error::ControlType(number)),
        })
    }
}

/// A control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    control_type: ControlType,
    timestamp: u32,
    destination: u32,
    content: Content<'a>,
}

/// What of a control packet's content is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content<'a> {
    Handshake(Handshake<'a>),
    KeyMaterial(KeyMaterial<'a>),
    Dropped(DropRequest),
    Opaque(&'a [u8]),
}

/// Sequence numbers that the sender will not repeat (3.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropRequest {
    /// The message; 0 where the sender does not say.
    pub message_number: u32,
    /// First number of the range.
    pub first: u32,
    /// Last number of the range, included.
    pub last: u32,
}

impl<'a> Content<'a> {
    fn parse(control_type: ControlType, specific: u32, rest: &'a [u8]) -> Result<Self, Error> {
        Ok(match control_type {
            ControlType::Handshake => Content::Handshake(Handshake::parse(rest)?),
            ControlType::UserDefined(key_material::REQUEST | key_material::RESPONSE) => {
                KeyMaterial::parse(rest)?.map_or(Content::Opaque(rest), Content::KeyMaterial)
            }
            ControlType::DropRequest => {
                let [first, last] = words(rest.first_chunk::<8>().ok_or(Error::Truncated)?);
                let (first, last) = (first & SEQUENCE_MASK, last & SEQUENCE_MASK);
                Content::Dropped(DropRequest {
                    message_number: specific,
                    first,
                    last,
                })
            }
            _ => Content::Opaque(rest),
        })
    }
}

impl<'a> Control<'a> {
    /// What kind of control packet it is.
    pub const fn control_type(&self) -> ControlType {
        self.control_type
    }

    /// Microseconds since the connection began, modulo 2^32.
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// The receiver's socket id; 0 in both of a caller's handshake messages.
    pub const fn destination_socket_id(&self) -> u32 {
        self.destination
    }

    /// The handshake, if it is one.
    pub const fn handshake(&self) -> Option<&Handshake<'a>> {
        match &self.content {
            Content::Handshake(handshake) => Some(handshake),
            _ => None,
        }
    }

    /// The key material of a refresh, or of a version 4 handshake.
    pub const fn key_material(&self) -> Option<&KeyMaterial<'a>> {
        match &self.content {
            Content::KeyMaterial(key_material) => Some(key_material),
            _ => None,
        }
    }

    /// The drop request, if it is one.
    pub const fn drop_request(&self) -> Option<DropRequest> {
        match self.content {
            Content::Dropped(request) => Some(request),
            _ => None,
        }
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
