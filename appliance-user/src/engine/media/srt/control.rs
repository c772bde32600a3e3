//! Control packets (3.2): what the receiver reports, what the sender gives up, and the extensions of a version 4 handshake.
//!
//! A report that is shorter than the draft wants is a control packet of its type with nothing in it: receivers of old
//! libraries pad and cut, and nothing is decided by a report's length.

use core::time::Duration;

use super::extension::Latency;
use super::handshake::Handshake;
use super::key_material::{self, KeyMaterial, KeyRefusal};
use super::{CONTROL, Error, SEQUENCE_MASK, words};

/// Subtype of a version 4 handshake's request in a user-defined control packet (3.2.1.1).
const HSREQ: u16 = 1;
/// Subtype of its response.
const HSRSP: u16 = 2;

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

    /// Whether it asks for something (a request of the version 4 handshake, new keys) rather than answering.
    pub const fn is_request(self) -> bool {
        matches!(self, ControlType::UserDefined(HSREQ | key_material::REQUEST))
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
    Latency(Latency),
    KeyMaterial(KeyMaterial<'a>),
    KeyRefusal(KeyRefusal),
    Acknowledgement(Acknowledgement),
    Loss(LossReport<'a>),
    Dropped(DropRequest),
    Opaque,
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

/// An acknowledgement (3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The acknowledgement's own number, which the ACKACK repeats; 0 in a light one.
    pub number: u32,
    /// The first sequence number that has not come.
    pub next_expected: u32,
    /// What the receiver has measured: in full and small acknowledgements.
    pub measured: Option<Measured>,
}

/// What a receiver tells in an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Round-trip time.
    pub rtt: Duration,
    /// Its variance.
    pub rtt_variance: Duration,
    /// Free room in the receiver's buffer, in packets.
    pub available_buffer: u32,
    /// Packets a second that it receives; only in a full one, as what follows.
    pub receiving_rate: Option<u32>,
    /// Estimated capacity of the link, packets a second.
    pub link_capacity: Option<u32>,
    /// Bytes a second that it receives.
    pub receiving_bytes: Option<u32>,
}

impl Acknowledgement {
    fn parse(number: u32, rest: &[u8]) -> Option<Self> {
        let mut fields = rest.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
        let next_expected = fields.next()? & SEQUENCE_MASK;
        let measured = match (fields.next(), fields.next(), fields.next()) {
            (Some(rtt), Some(variance), Some(available_buffer)) => Some(Measured {
                rtt: Duration::from_micros(rtt.into()),
                rtt_variance: Duration::from_micros(variance.into()),
                available_buffer,
                receiving_rate: fields.next(),
                link_capacity: fields.next(),
                receiving_bytes: fields.next(),
            }),
            _ => None,
        };
        Some(Acknowledgement {
            number,
            next_expected,
            measured,
        })
    }
}

/// A loss report (3.2.5): numbers that the receiver misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossReport<'a>(&'a [[u8; 4]]);

impl LossReport<'_> {
    /// The ranges that it lists, both ends included (appendix A). As many at most as the packet has words.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut words = self.0.iter().map(|word| u32::from_be_bytes(*word));
        core::iter::from_fn(move || {
            let first = words.next()?;
            let last = if first & CONTROL == 0 { first } else { words.next()? };
            Some((first & SEQUENCE_MASK, last & SEQUENCE_MASK))
        })
    }
}

impl<'a> Content<'a> {
    fn parse(control_type: ControlType, specific: u32, rest: &'a [u8]) -> Result<Self, Error> {
        Ok(match control_type {
            ControlType::Handshake => Content::Handshake(Handshake::parse(rest)?),
            ControlType::UserDefined(HSREQ | HSRSP) => {
                Latency::parse(HSREQ, rest).map_or(Content::Opaque, Content::Latency)
            }
            ControlType::UserDefined(key_material::REQUEST | key_material::RESPONSE) => {
                match KeyMaterial::parse(rest)? {
                    Ok(material) => Content::KeyMaterial(material),
                    Err(refusal) => Content::KeyRefusal(refusal),
                }
            }
            ControlType::Ack => {
                Acknowledgement::parse(specific, rest).map_or(Content::Opaque, Content::Acknowledgement)
            }
            ControlType::Nak => Content::Loss(LossReport(rest.as_chunks::<4>().0)),
            ControlType::DropRequest => {
                let [first, last] = words(rest.first_chunk::<8>().ok_or(Error::Truncated)?);
                let (first, last) = (first & SEQUENCE_MASK, last & SEQUENCE_MASK);
                Content::Dropped(DropRequest {
                    message_number: specific,
                    first,
                    last,
                })
            }
            _ => Content::Opaque,
        })
    }
}

impl<'a> Control<'a> {
    /// Reads what follows the header, whose four words are given.
    pub(super) fn parse(header: [u32; 4], rest: &'a [u8]) -> Result<Self, Error> {
        let [first, specific, timestamp, destination] = header;
        let control_type = ControlType::of((first >> 16) as u16 & 0x7fff, first as u16)?;
        let content = Content::parse(control_type, specific, rest)?;
        Ok(Control {
            control_type,
            timestamp,
            destination,
            content,
        })
    }

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

    /// The request or response that a version 4 handshake sends by itself.
    pub const fn latency(&self) -> Option<Latency> {
        match self.content {
            Content::Latency(latency) => Some(latency),
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

    /// Why a responder refuses key material.
    pub const fn key_refusal(&self) -> Option<KeyRefusal> {
        match self.content {
            Content::KeyRefusal(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The acknowledgement, if it is one.
    pub const fn acknowledgement(&self) -> Option<Acknowledgement> {
        match self.content {
            Content::Acknowledgement(acknowledgement) => Some(acknowledgement),
            _ => None,
        }
    }

    /// The loss report, if it is one.
    pub const fn loss_report(&self) -> Option<LossReport<'a>> {
        match self.content {
            Content::Loss(report) => Some(report),
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
