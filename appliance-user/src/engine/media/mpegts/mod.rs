//! MPEG transport stream packets (ISO/IEC 13818-1 2.4.3): what the judge needs of each, and nothing of its content.

mod datagram;
pub mod descriptor;
pub mod pes;
pub mod psi;
pub mod section;
pub mod si;
pub mod stream_type;

use tidegate_common::digest::TsDigest;

pub(in crate::engine) use self::datagram::Header;
pub use self::datagram::{
    ShapeError, digest_datagram, has_sync, hash_datagram, hash_payload, is_malformed, looks_like_ts, shape, visible,
};
use super::hash;

/// Bytes of a TS packet (2.4.3.2).
pub const PACKET_SIZE: usize = 188;
/// The first byte of every TS packet (2.4.3.3).
pub const SYNC_BYTE: u8 = 0x47;
/// The PID of null packets, whose continuity counter is undefined (2.4.3.3).
pub const NULL_PID: u16 = 0x1fff;

/// adaptation_field_control bit: there is an adaptation field.
const ADAPTATION: u8 = 0x20;
/// adaptation_field_control bit: there is payload.
const PAYLOAD: u8 = 0x10;
/// Adaptation field flag: a PCR follows (2.4.3.4).
const PCR_FLAG: u8 = 0x10;
/// The shortest adaptation field that holds a PCR: the flags and six bytes.
const LENGTH_WITH_PCR: u8 = 7;
/// The adaptation field's length and flags, without the PCR that follows them, in the word that begins at byte 4.
const WITHOUT_PCR: u64 = 0xffff;

/// How much of a packet's content is hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Live: the header and 26 to 32 bytes spread over each TS packet.
    #[default]
    Sampled,
    /// In a file: every byte.
    Full,
}

/// Reduces a TS packet to what the judge needs. The sync byte is the caller's to check.
///
/// The hash covers every byte but the sync byte and the PCR: 2.4.3.3 lets a duplicate differ in the program clock
/// reference fields and in nothing else, so the OPCR counts as content. Where it covers samples they are what follows the
/// header, which is told beside it.
#[inline]
pub fn digest_packet(packet: &[u8; PACKET_SIZE], content: Content) -> TsDigest {
    let [_, h1, h2, control, length, flags, ..] = *packet;
    let (flags, has_pcr) = match control & ADAPTATION != 0 && length > 0 {
        true => (flags, flags & PCR_FLAG != 0 && length >= LENGTH_WITH_PCR),
        false => (0, false),
    };
    let first = word(packet, 4) & if has_pcr { WITHOUT_PCR } else { u64::MAX };
    let hash = hash_content(packet, first, content);
    TsDigest {
        head: u16::from_be_bytes([h1, h2]),
        control,
        adaptation_flags: flags,
        hash,
    }
}

/// The hash of [`digest_packet`] for a packet without an adaptation field.
#[inline]
pub(in crate::engine) fn hash_plain(packet: &[u8; PACKET_SIZE], content: Content) -> u32 {
    hash_content(packet, word(packet, 4), content)
}

/// The content, of which `first` are the bytes from 4 to 12 as far as they count. A hash of samples leaves the header
/// out, which is compared with it.
#[inline(always)]
fn hash_content(packet: &[u8; PACKET_SIZE], first: u64, content: Content) -> u32 {
    match content {
        Content::Sampled => hash::four([first, word(packet, 116), word(packet, 52), word(packet, 180)]),
        Content::Full => {
            let [_, h1, h2, control, ..] = *packet;
            let header = u64::from(u32::from_le_bytes([h1, h2, control, 0]));
            hash::finish(hash_after_first(packet, hash::mix(header, first, 0)))
        }
    }
}

/// Every byte from 12 to the end, on top of `state`: in two strands, so that one multiplication need not wait for the other.
#[inline(never)]
fn hash_after_first(packet: &[u8; PACKET_SIZE], state: u64) -> u64 {
    // 176 bytes: exactly eleven pairs of words, five for each strand and one.
    let (pairs, last) = packet[12..].as_chunks::<32>();
    let (mut even, mut odd) = (state, 0);
    for pair in pairs {
        even = hash::mix(even, word(pair, 0), word(pair, 8));
        odd = hash::mix(odd, word(pair, 16), word(pair, 24));
    }
    let last = last
        .first_chunk::<16>()
        .map_or((0, 0), |last| (word(last, 0), word(last, 8)));
    hash::mix(even, last.0, last.1) ^ hash::pair(odd, 0)
}

/// A packet's PID and program clock reference in periods of 27 MHz (2.4.3.5), where it carries one.
pub fn pcr(packet: &[u8; PACKET_SIZE]) -> Option<(u16, u64)> {
    let [_, h1, h2, control, length, flags, p0, p1, p2, p3, p4, p5, ..] = *packet;
    if control & ADAPTATION == 0 || length < LENGTH_WITH_PCR || flags & PCR_FLAG == 0 {
        return None;
    }
    // 33 bits of base, 6 reserved, 9 of extension.
    let bits = u64::from_be_bytes([0, 0, p0, p1, p2, p3, p4, p5]);
    let (base, extension) = (bits >> 15, bits & 0x1ff);
    Some((u16::from_be_bytes([h1, h2]) & 0x1fff, base * 300 + extension))
}

/// A packet's payload (2.4.3.2, 2.4.3.4): `None` where adaptation_field_control says that there is none, or where the
/// adaptation field leaves no room for the byte at least that it promises.
#[inline]
pub fn payload(packet: &[u8; PACKET_SIZE]) -> Option<&[u8]> {
    let [_, _, _, control, length, ..] = *packet;
    let start = match control & (ADAPTATION | PAYLOAD) {
        PAYLOAD => 4,
        0x30 => 5 + usize::from(length),
        _ => return None,
    };
    packet.get(start..).filter(|payload| !payload.is_empty())
}

/// Eight bytes at a place that every caller names as a constant, so that the bound is checked when it is compiled.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<8>())
        .map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
pub(in crate::engine) mod build;
#[cfg(test)]
mod tests;
