//! The handshake (3.2.1) of versions 4 and 5, and the extensions of version 5.
//!
//! Extensions are read as libsrt reads them, for what it believes is what will be served: a block counts only where the
//! extension field announces its kind, and the list ends at type 0. Where receivers could disagree (a block twice, a
//! NUL within a stream id) the packet is refused.

use core::time::Duration;

use super::key_material::{self, KeyMaterial};
use super::{Error, words};

/// Bytes of the handshake before its extensions.
const FIXED: usize = 48;
/// Extension field of version 5: blocks of this kind follow (table 4).
const HAS_HSREQ: u16 = 1;
const HAS_KMREQ: u16 = 2;
const HAS_CONFIG: u16 = 4;
/// Extension types (table 5).
const END: u16 = 0;
const HSREQ: u16 = 1;
const HSRSP: u16 = 2;
const STREAM_ID: u16 = 5;
/// The longest stream id (3.2.1.3).
const MAX_STREAM_ID: usize = 512;

/// What a handshake message is for (table 4 of 3.2.1, and the rejection reasons of table 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeType {
    /// Rendezvous, first message.
    WaveAHand,
    /// Caller and listener find each other.
    Induction,
    /// Terms are settled; carries the extensions.
    Conclusion,
    /// Rendezvous, last message.
    Agreement,
    /// 0xFFFFFFFD.
    Done,
    /// Refused, with the reason as on the wire: 1000 and up.
    Rejection(u32),
    /// A number without meaning.
    Other(u32),
}

impl HandshakeType {
    const fn of(number: u32) -> Self {
        match number {
            0 => HandshakeType::WaveAHand,
            1 => HandshakeType::Induction,
            0xffff_ffff => HandshakeType::Conclusion,
            0xffff_fffe => HandshakeType::Agreement,
            0xffff_fffd => HandshakeType::Done,
            1000..=0x7fff_ffff => HandshakeType::Rejection(number),
            other => HandshakeType::Other(other),
        }
    }

    /// The reason's name, for the reasons that the draft lists (table 7).
    pub const fn rejection_name(self) -> Option<&'static str> {
        let HandshakeType::Rejection(reason) = self else {
            return None;
        };
        Some(match reason {
            1000 => "unknown",
            1001 => "system",
            1002 => "peer",
            1003 => "resource",
            1004 => "rogue",
            1005 => "backlog",
            1006 => "internal-program-error",
            1007 => "close",
            1008 => "version",
            1009 => "rendezvous-cookie",
            1010 => "bad-secret",
            1011 => "unsecure",
            1012 => "message-api",
            1013 => "congestion",
            1014 => "filter",
            1015 => "group",
            1016 => "timeout",
            1017 => "crypto",
            _ => return None,
        })
    }
}

/// SRT version, flags and delays of an HSREQ or HSRSP block (3.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// SRT version, as `0x00XXYYZZ`.
    pub version: u32,
    /// SRT flags (table 6).
    pub flags: u32,
    /// Delay that the sender of this message applies to what it receives.
    pub receiver_delay: Duration,
    /// Least delay that it wants its peer to apply.
    pub sender_delay: Duration,
}

impl Latency {
    fn parse(kind: u16, content: &[u8]) -> Result<Self, Error> {
        let block = content.first_chunk::<12>().ok_or(Error::ExtensionLength(kind))?;
        let [version, flags, delays] = words(block);
        let delay = |milliseconds: u32| Duration::from_millis(u64::from(milliseconds & 0xffff));
        Ok(Latency {
            version,
            flags,
            receiver_delay: delay(delays >> 16),
            sender_delay: delay(delays),
        })
    }

    /// The longer of the two delays: a bound in whichever direction the media goes.
    pub fn longest(&self) -> Duration {
        self.receiver_delay.max(self.sender_delay)
    }
}

/// A handshake message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    version: u32,
    encryption: u16,
    extension: u16,
    initial_sequence: u32,
    kind: HandshakeType,
    socket_id: u32,
    cookie: u32,
    request: Option<Latency>,
    response: Option<Latency>,
    key_material: Option<KeyMaterial<'a>>,
    stream_id: Option<&'a [u8]>,
}

impl<'a> Handshake<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (fixed, extensions) = bytes.split_first_chunk::<FIXED>().ok_or(Error::Truncated)?;
        let [
            version,
            fields,
            initial_sequence,
            _mtu,
            _window,
            kind,
            socket_id,
            cookie,
            _,
            _,
            _,
            _,
        ] = words(fixed);
        if !matches!(version, 4 | 5) {
            return Err(Error::HandshakeVersion(version));
        }
        let mut handshake = Handshake {
            version,
            encryption: (fields >> 16) as u16,
            extension: fields as u16,
            initial_sequence: initial_sequence & super::SEQUENCE_MASK,
            kind: HandshakeType::of(kind),
            socket_id,
            cookie,
            request: None,
            response: None,
            key_material: None,
            stream_id: None,
        };
        // In an induction the extension field is a magic number, not an announcement.
        let extended = matches!(handshake.kind, HandshakeType::Conclusion | HandshakeType::Agreement);
        if version == 5 && extended && handshake.extension != 0 {
            handshake.read_extensions(extensions)?;
        }
        Ok(handshake)
    }

    /// Each block is at least four bytes, so the packet's length bounds the loop.
    fn read_extensions(&mut self, mut rest: &'a [u8]) -> Result<(), Error> {
        while let Some([t0, t1, l0, l1]) = rest.split_off(..4).and_then(<[u8]>::first_chunk).copied() {
            let kind = u16::from_be_bytes([t0, t1]);
            if kind == END {
                return Ok(());
            }
            let length = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            let content = rest.split_off(..length).ok_or(Error::ExtensionLength(kind))?;
            self.read_extension(kind, content)?;
        }
        Ok(())
    }

    fn read_extension(&mut self, kind: u16, content: &'a [u8]) -> Result<(), Error> {
        let announced = |flag: u16| self.extension & flag != 0;
        let twice = match kind {
            HSREQ if announced(HAS_HSREQ) => self.request.replace(Latency::parse(kind, content)?).is_some(),
            HSRSP if announced(HAS_HSREQ) => self.response.replace(Latency::parse(kind, content)?).is_some(),
            key_material::REQUEST | key_material::RESPONSE if announced(HAS_KMREQ) => {
                let read = KeyMaterial::parse(content)?;
                read.is_some_and(|read| self.key_material.replace(read).is_some())
            }
            STREAM_ID if announced(HAS_CONFIG) => {
                if content.len() > MAX_STREAM_ID {
                    return Err(Error::ExtensionLength(kind));
                }
                if has_inner_nul(content) {
                    return Err(Error::StreamId);
                }
                self.stream_id.replace(content).is_some()
            }
            _ => false,
        };
        if twice {
            Err(Error::ExtensionTwice(kind))
        } else {
            Ok(())
        }
    }

    /// 4 or 5.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// What the message is for.
    pub const fn kind(&self) -> HandshakeType {
        self.kind
    }

    /// The encryption field: the sender's key length in bytes, where it says one (2, 3, 4 for AES-128, 192, 256).
    pub const fn advertised_key_length(&self) -> Option<usize> {
        match (self.version, self.encryption) {
            (5, 2) => Some(16),
            (5, 3) => Some(24),
            (5, 4) => Some(32),
            _ => None,
        }
    }

    /// The extension field as it is: announced blocks, the magic number 0x4A17, or version 4's socket type.
    pub const fn extension_field(&self) -> u16 {
        self.extension
    }

    /// Sequence number of the first data packet that the sender will send.
    pub const fn initial_sequence_number(&self) -> u32 {
        self.initial_sequence
    }

    /// The sender's own socket id.
    pub const fn socket_id(&self) -> u32 {
        self.socket_id
    }

    /// The listener's cookie.
    pub const fn syn_cookie(&self) -> u32 {
        self.cookie
    }

    /// HSREQ, where there is one.
    pub const fn request(&self) -> Option<Latency> {
        self.request
    }

    /// HSRSP, where there is one.
    pub const fn response(&self) -> Option<Latency> {
        self.response
    }

    /// The longest delay that a caller asks for.
    pub fn request_latency(&self) -> Option<Duration> {
        self.request.map(|request| request.longest())
    }

    /// The longest delay that was agreed on.
    pub fn response_latency(&self) -> Option<Duration> {
        self.response.map(|response| response.longest())
    }

    /// Key material of the request, or repeated by the response.
    pub const fn key_material(&self) -> Option<&KeyMaterial<'a>> {
        self.key_material.as_ref()
    }

    /// The stream id: little-endian words put right, trailing NULs trimmed; bytes that are no UTF-8 become U+FFFD.
    pub fn stream_id(&self) -> Option<String> {
        let (words, _) = self.stream_id?.as_chunks::<4>();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.iter().rev().copied()).collect();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}

/// Whether a NUL stands before the last byte that is none, in the order of the text.
fn has_inner_nul(content: &[u8]) -> bool {
    let mut ended = false;
    let mut text = content.as_chunks::<4>().0.iter().flat_map(|word| word.iter().rev());
    text.any(|byte| {
        ended |= *byte == 0;
        ended && *byte != 0
    })
}
