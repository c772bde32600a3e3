//! The handshake (3.2.1) of versions 4 and 5, and the extensions of version 5.
//!
//! Extensions are read as libsrt reads them, for what it believes is what will be served: a block counts only where the
//! extension field announces its kind, and the list ends at type 0. Where receivers could disagree (a block twice, a
//! NUL within a stream id) the packet is refused.

use core::time::Duration;

use super::extension::{self, Group, Latency};
use super::key_material::{self, KeyMaterial, KeyRefusal};
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
const CONGESTION: u16 = 6;
const FILTER: u16 = 7;
const GROUP: u16 = 8;
/// The longest stream id (3.2.1.3), and the longest text that is kept of another block.
const MAX_TEXT: usize = 512;

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

    /// The reason's name: of the draft's list (table 7), or of the access control codes that libsrt predefines from 2000
    /// on (numbered like the answers of HTTP).
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
            2000 => "fallback",
            2001 => "key-not-supported",
            2002 => "file-path",
            2003 => "host-not-found",
            2400 => "bad-request",
            2401 => "unauthorized",
            2402 => "overload",
            2403 => "forbidden",
            2404 => "not-found",
            2405 => "bad-mode",
            2406 => "unacceptable",
            2409 => "conflict",
            2415 => "media-not-supported",
            2423 => "locked",
            2424 => "failed-dependency",
            2500 => "internal-server-error",
            2501 => "unimplemented",
            2502 => "gateway",
            2503 => "down",
            2505 => "version-not-supported",
            2507 => "no-room",
            3000.. => "user-defined",
            _ => return None,
        })
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
    key_refusal: Option<KeyRefusal>,
    stream_id: Option<&'a [u8]>,
    congestion: Option<&'a [u8]>,
    filter: Option<&'a [u8]>,
    group: Option<Group>,
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
            key_refusal: None,
            stream_id: None,
            congestion: None,
            filter: None,
            group: None,
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
                let twice = self.key_material.is_some() || self.key_refusal.is_some();
                match KeyMaterial::parse(content)? {
                    Ok(material) => self.key_material = Some(material),
                    Err(refusal) => self.key_refusal = Some(refusal),
                }
                twice
            }
            STREAM_ID if announced(HAS_CONFIG) => {
                if content.len() > MAX_TEXT {
                    return Err(Error::ExtensionLength(kind));
                }
                if extension::has_inner_nul(content) {
                    return Err(Error::StreamId);
                }
                self.stream_id.replace(content).is_some()
            }
            CONGESTION if announced(HAS_CONFIG) && content.len() <= MAX_TEXT => {
                self.congestion.replace(content).is_some()
            }
            FILTER if announced(HAS_CONFIG) && content.len() <= MAX_TEXT => self.filter.replace(content).is_some(),
            GROUP if announced(HAS_CONFIG) => self.group.replace(Group::parse(kind, content)?).is_some(),
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

    /// Why the responder refuses the request's keys.
    pub const fn key_refusal(&self) -> Option<KeyRefusal> {
        self.key_refusal
    }

    /// The stream id; bytes that are no UTF-8 become U+FFFD.
    pub fn stream_id(&self) -> Option<String> {
        self.stream_id.map(extension::text)
    }

    /// The congestion controller's name (3.2.1.3); `live` where there is no block.
    pub fn congestion(&self) -> Option<String> {
        self.congestion.map(extension::text)
    }

    /// The packet filter's configuration, such as `fec,cols:10,rows:5`.
    pub fn filter(&self) -> Option<String> {
        self.filter.map(extension::text)
    }

    /// The group of connections that this one belongs to.
    pub const fn group(&self) -> Option<Group> {
        self.group
    }
}
