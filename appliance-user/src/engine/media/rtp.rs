//! RTP packets (RFC 3550 5.1), and how RTCP is told from them (RFC 5761 4).

use thiserror::Error;

/// Payload type of an MPEG-2 transport stream (RFC 3551 6).
pub const PAYLOAD_TYPE_MP2T: u8 = 33;

/// Bytes before the CSRC list.
pub const FIXED_HEADER: usize = 12;
/// The second byte of RTCP packets on a shared port, marker bit included (RFC 5761 4).
const RTCP_TYPES: core::ops::RangeInclusive<u8> = 192..=223;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Cut short within the fixed header, the CSRC list or the header extension.
    #[error("RTP packet is cut short")]
    Truncated,
    /// The version is not 2.
    #[error("RTP version is {0}, not 2")]
    Version(u8),
    /// The padding count is zero or larger than what follows the header (5.1, P).
    #[error("RTP padding of {0} bytes does not fit")]
    Padding(u8),
}

/// An RTP packet whose header, extension and padding fit its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    marker_and_type: u8,
    sequence_number: u16,
    timestamp: u32,
    ssrc: u32,
    csrc: &'a [[u8; 4]],
    extension: Option<Extension<'a>>,
    payload: &'a [u8],
}

/// A header extension (5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The 16 bits that the profile defines.
    pub profile: u16,
    /// The extension's content, a multiple of four bytes.
    pub data: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a UDP payload as RTP.
    ///
    /// # Errors
    /// [`Error`] where the bytes break RFC 3550 5.1.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, mut rest) = bytes.split_first_chunk::<FIXED_HEADER>().ok_or(Error::Truncated)?;
        let [flags, marker_and_type, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *header;
        if flags >> 6 != 2 {
            return Err(Error::Version(flags >> 6));
        }
        let csrc_bytes = rest
            .split_off(..usize::from(flags & 0x0f) * 4)
            .ok_or(Error::Truncated)?;
        let extension = match flags & 0x10 != 0 {
            true => Some(Extension::split_off(&mut rest)?),
            false => None,
        };
        if flags & 0x20 != 0 {
            let padding = rest.last().copied().unwrap_or(0);
            let kept = rest.len().checked_sub(usize::from(padding)).filter(|_| padding > 0);
            rest = kept.and_then(|kept| rest.get(..kept)).ok_or(Error::Padding(padding))?;
        }
        Ok(Packet {
            marker_and_type,
            sequence_number: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            csrc: csrc_bytes.as_chunks().0,
            extension,
            payload: rest,
        })
    }

    /// The marker bit, whose meaning the profile defines.
    pub const fn marker(&self) -> bool {
        self.marker_and_type & 0x80 != 0
    }

    /// Payload type, 7 bits.
    pub const fn payload_type(&self) -> u8 {
        self.marker_and_type & 0x7f
    }

    /// Sequence number: one more for each packet sent, modulo 2^16.
    pub const fn sequence_number(&self) -> u16 {
        self.sequence_number
    }

    /// Time stamp in periods of the payload type's clock (90 kHz for MP2T).
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Synchronisation source.
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Contributing sources, at most 15.
    pub fn csrc(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.csrc.iter().map(|source| u32::from_be_bytes(*source))
    }

    /// The header extension, where there is one.
    pub const fn extension(&self) -> Option<Extension<'a>> {
        self.extension
    }

    /// What the packet carries, without padding.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl<'a> Extension<'a> {
    fn split_off(rest: &mut &'a [u8]) -> Result<Self, Error> {
        let [p0, p1, l0, l1] = *rest
            .split_off(..4)
            .and_then(<[u8]>::first_chunk)
            .ok_or(Error::Truncated)?;
        let words = usize::from(u16::from_be_bytes([l0, l1]));
        let data = rest.split_off(..words * 4).ok_or(Error::Truncated)?;
        Ok(Extension {
            profile: u16::from_be_bytes([p0, p1]),
            data,
        })
    }
}

/// A header without CSRC list, extension and padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHeader {
    /// [`Packet::marker`].
    pub marker: bool,
    /// [`Packet::sequence_number`].
    pub sequence_number: u16,
    /// [`Packet::timestamp`].
    pub timestamp: u32,
    /// [`Packet::ssrc`].
    pub ssrc: u32,
}

/// The header of a packet, if it is a plain one with this payload type, which must be none that RTCP's types lie about
/// (RFC 5761 4): at one glance what [`Packet::parse`] says of it.
#[inline(always)]
pub fn plain_header<const N: usize>(bytes: &[u8; N], payload_type: u8) -> Option<PlainHeader> {
    let [flags, marker_and_type, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *bytes.first_chunk::<FIXED_HEADER>()?;
    // Both bytes as one number whose lowest bit is the marker.
    let shape = |bytes| u16::from_le_bytes(bytes).rotate_left(1);
    let (seen, usual) = (shape([flags, marker_and_type]), shape([0x80, payload_type | 0x80]));
    (seen | 1 == usual).then_some(PlainHeader {
        marker: seen & 1 != 0,
        sequence_number: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
    })
}

/// Whether a UDP payload is RTCP rather than RTP: packets of version 2 and a type of 192 to 223 (RFC 5761 4), which no RTP
/// payload type with its marker bit may take on a shared port, whose lengths add up to the whole datagram (RFC 3550 A.2).
#[inline]
pub fn is_rtcp(bytes: &[u8]) -> bool {
    // The smallest RTCP packet that begins a datagram is a header and the sender's SSRC.
    let mut rest = bytes;
    while let Some([first, kind, l0, l1]) = rest.first_chunk() {
        let length = (usize::from(u16::from_be_bytes([*l0, *l1])) + 1) * 4;
        let is_packet = first >> 6 == 2 && RTCP_TYPES.contains(kind);
        if !is_packet || rest.split_off(..length).is_none() {
            return false;
        }
    }
    rest.is_empty() && bytes.len() >= 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(csrc: &[u32], extension: Option<(u16, &[u8])>, payload: &[u8], padding: u8) -> Vec<u8> {
        let flags =
            0x80 | csrc.len() as u8 | if extension.is_some() { 0x10 } else { 0 } | if padding > 0 { 0x20 } else { 0 };
        let mut bytes = vec![flags, 0x80 | 33, 0xab, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend(csrc.iter().flat_map(|source| source.to_be_bytes()));
        if let Some((profile, data)) = extension {
            bytes.extend(profile.to_be_bytes());
            bytes.extend(((data.len() / 4) as u16).to_be_bytes());
            bytes.extend(data);
        }
        bytes.extend(payload);
        if padding > 0 {
            bytes.extend(vec![0; usize::from(padding) - 1]);
            bytes.push(padding);
        }
        bytes
    }

    #[test]
    fn a_plain_header_is_read() {
        let bytes = build(&[], None, b"payload", 0);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.payload_type(), packet.marker()), (PAYLOAD_TYPE_MP2T, true));
        assert_eq!(
            (packet.sequence_number(), packet.timestamp(), packet.ssrc()),
            (0xabcd, 0x0102_0304, 0x0506_0708)
        );
        assert_eq!((packet.payload(), packet.extension()), (b"payload".as_slice(), None));
    }

    #[test]
    fn what_breaks_the_header_is_named() {
        assert_eq!(Packet::parse(&[0x80; 11]), Err(Error::Truncated));
        let mut bytes = build(&[], None, b"x", 0);
        bytes[0] = 0x40;
        assert_eq!(Packet::parse(&bytes), Err(Error::Version(1)));
        bytes[0] = 0x81;
        assert_eq!(Packet::parse(&bytes), Err(Error::Truncated), "CSRC beyond the end");
        bytes[0] = 0x90;
        assert_eq!(Packet::parse(&bytes), Err(Error::Truncated), "extension beyond the end");
        let mut padded = build(&[], None, b"", 4);
        padded[15] = 5;
        assert_eq!(Packet::parse(&padded), Err(Error::Padding(5)));
        padded[15] = 0;
        assert_eq!(Packet::parse(&padded), Err(Error::Padding(0)));
        assert_eq!(
            Packet::parse(&padded[..12]),
            Err(Error::Padding(0)),
            "padding flag without a byte"
        );
        let longest = build(&[], Some((0, &[0; 8])), b"", 0);
        assert_eq!(
            Packet::parse(&longest[..19]),
            Err(Error::Truncated),
            "extension content beyond the end"
        );
    }

    #[test]
    fn rtcp_is_told_from_rtp() {
        for kind in 0..=u8::MAX {
            let bytes = [0x80, kind, 0, 1, 0, 0, 0, 1];
            assert_eq!(is_rtcp(&bytes), (192..=223).contains(&kind), "type {kind}");
        }
        assert!(!is_rtcp(&[0x40, 200, 0, 1, 0, 0, 0, 1]), "version 1");
        assert!(!is_rtcp(&[0x80, 200, 0, 1]), "too short for a sender");
    }

    proptest! {
        #[test]
        fn round_trip(
            csrc in proptest::collection::vec(any::<u32>(), 0..16),
            extension in proptest::option::of((any::<u16>(), proptest::collection::vec(any::<[u8; 4]>(), 0..8))),
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            padding in any::<u8>(),
        ) {
            let data = extension.as_ref().map(|(profile, words)| (*profile, words.concat()));
            let bytes = build(&csrc, data.as_ref().map(|(profile, data)| (*profile, data.as_slice())), &payload, padding);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.csrc().collect::<Vec<_>>(), csrc);
            prop_assert_eq!(packet.payload(), payload.as_slice());
            prop_assert_eq!(packet.extension().map(|e| (e.profile, e.data.to_vec())), data);
        }

        #[test]
        fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = is_rtcp(&bytes);
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload().len() + FIXED_HEADER + 4 * packet.csrc().len() <= bytes.len());
            }
        }
    }
}
