//! MPEG transport stream packets (ISO/IEC 13818-1 2.4.3): what the judge needs of each, and nothing of its content.

pub mod descriptor;
pub mod pes;
pub mod psi;
pub mod section;
pub mod si;
pub mod stream_type;

use thiserror::Error;
use tidegate_common::digest::{MAX_TS_PACKETS, PacketDigest, TsDigest};

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
    /// Live: the headers and 26 to 32 bytes spread over each TS packet.
    #[default]
    Sampled,
    /// In a file: every byte.
    Full,
}

/// Why a datagram is not one to seven whole TS packets (RFC 2250 2, and what a digest can hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// Its length is zero or no multiple of 188; whole packets before the odd bytes were digested.
    #[error("the length is not a whole number of TS packets")]
    WrongLength,
    /// More than seven TS packets: the TS counts as not visible, rather than judged in part.
    #[error("more than {MAX_TS_PACKETS} TS packets in one datagram")]
    TooMany,
}

/// Reduces a TS packet to what the judge needs. The sync byte is the caller's to check.
///
/// The hash covers every byte but the sync byte and the PCR: 2.4.3.3 lets a duplicate differ in the program clock
/// reference fields and in nothing else, so the OPCR counts as content.
#[inline]
pub fn digest_packet(packet: &[u8; PACKET_SIZE], content: Content) -> TsDigest {
    let [_, h1, h2, control, length, flags, ..] = *packet;
    let (flags, has_pcr) = match control & ADAPTATION != 0 && length > 0 {
        true => (flags, flags & PCR_FLAG != 0 && length >= LENGTH_WITH_PCR),
        false => (0, false),
    };
    let first = word(packet, 4) & if has_pcr { WITHOUT_PCR } else { u64::MAX };
    let header = u64::from(u32::from_le_bytes([h1, h2, control, 0]));
    let hash = match content {
        Content::Sampled => {
            hash::mix(header, first, word(packet, 52)) ^ hash::pair(word(packet, 116), word(packet, 180))
        }
        Content::Full => hash_after_first(packet, hash::mix(header, first, 0)),
    };
    TsDigest {
        head: u16::from_be_bytes([h1, h2]),
        control,
        adaptation_flags: flags,
        hash: hash::finish(hash),
    }
}

/// Every byte from 12 to the end, on top of `state`: in two strands, so that one multiplication need not wait for the other.
#[inline]
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

/// Digests the TS packets of a datagram's payload into `digest`: packets, bad sync bytes, visibility and the payload's
/// own hash, which must be equal in every copy of a sequence number. Sequence and retransmission flag are the caller's.
///
/// # Errors
/// [`ShapeError`] for a payload that is not one to seven whole packets; `digest` is filled as far as its documentation
/// says.
pub fn digest_datagram(payload: &[u8], content: Content, digest: &mut PacketDigest) -> Result<(), ShapeError> {
    let (packets, odd) = payload.as_chunks::<PACKET_SIZE>();
    digest.ts_count = packets.len().min(MAX_TS_PACKETS) as u8;
    digest.ts_visible = !packets.is_empty() && packets.len() <= MAX_TS_PACKETS;
    let length = payload.len() as u64;
    let state = match content {
        Content::Sampled => digest_packets(packets, Content::Sampled, length, digest),
        Content::Full => digest_packets(packets, Content::Full, length, digest),
    };
    if odd.is_empty() && digest.ts_visible {
        digest.hash = hash::finish(state);
        return Ok(());
    }
    digest.hash = hash_payload(payload, content);
    Err(if packets.len() > MAX_TS_PACKETS {
        ShapeError::TooMany
    } else {
        ShapeError::WrongLength
    })
}

/// Digests as many packets as a digest holds; the hash of all of them on top of `state`. Inlined, so that each kind of
/// content has a loop of its own.
#[inline(always)]
fn digest_packets(packets: &[[u8; PACKET_SIZE]], content: Content, mut state: u64, digest: &mut PacketDigest) -> u64 {
    let (mut bad_sync, mut bit) = (0, 1_u8);
    let mut slots = digest.ts.iter_mut();
    for packet in packets {
        let Some(slot) = slots.next() else { break };
        let of_packet = digest_packet(packet, content);
        *slot = of_packet;
        bad_sync |= if packet[0] == SYNC_BYTE { 0 } else { bit };
        bit <<= 1;
        // A copy is equal in its PCR too, which the packet's own hash leaves out.
        state = hash::mix(state, of_packet.hash.into(), word(packet, 4) ^ u64::from(packet[0]));
    }
    digest.bad_sync = bad_sync;
    state
}

/// Hash of a payload in which no TS is to be seen.
pub fn hash_payload(payload: &[u8], content: Content) -> u32 {
    match content {
        Content::Sampled => hash::sampled(payload),
        Content::Full => hash::all(payload),
    }
}

/// Whether a payload is TS packets beyond reasonable doubt: whole packets most of which have their sync byte (so that one
/// damaged packet does not hide the stream), or at least two perfect ones before odd bytes.
pub fn looks_like_ts(payload: &[u8]) -> bool {
    let (packets, odd) = payload.as_chunks::<PACKET_SIZE>();
    let mut good = 0;
    let mut has_most = |packet: &[u8; PACKET_SIZE]| {
        good += usize::from(packet[0] == SYNC_BYTE);
        good * 2 > packets.len()
    };
    if odd.is_empty() {
        packets.iter().any(&mut has_most)
    } else {
        packets.len() >= 2 && packets.iter().all(|packet| packet[0] == SYNC_BYTE)
    }
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
