//! TS packets as a datagram carries them: its shape, its hash, and runs of packets that only go on.
//!
//! A datagram in order is judged straight from its bytes; only one that has to wait is reduced to a
//! [`PacketDigest`]. Both see the same things, so it never matters which way a packet went.

use thiserror::Error;
use tidegate_common::digest::{MAX_TS_PACKETS, PacketDigest};

use super::{Content, NULL_PID, PACKET_SIZE, SYNC_BYTE, digest_packet, word};
use crate::engine::media::hash;

/// Where the sampled words of a TS packet begin: with its header, with what follows that (a PCR, where there is one), in its
/// middle, and at its end.
const SAMPLED: [usize; 4] = [0, 4, PACKET_SIZE / 2 - 2, PACKET_SIZE - 8];

/// Why a datagram is not one to seven whole TS packets (RFC 2250 2, and what a digest can hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// Its length is zero or no multiple of 188; whole packets before the odd bytes are judged.
    #[error("the length is not a whole number of TS packets")]
    WrongLength,
    /// More than seven TS packets: the TS counts as not visible, rather than judged in part.
    #[error("more than {MAX_TS_PACKETS} TS packets in one datagram")]
    TooMany,
}

/// The TS packets that can be judged of a payload that is TS: one to seven, whatever odd bytes follow; else none.
#[inline]
pub fn visible(payload: &[u8]) -> &[[u8; PACKET_SIZE]] {
    let packets = payload.as_chunks().0;
    if packets.len() <= MAX_TS_PACKETS { packets } else { &[] }
}

/// Whether a payload is one to seven whole TS packets.
///
/// # Errors
/// [`ShapeError`] where it is not.
pub fn shape(payload: &[u8]) -> Result<(), ShapeError> {
    let (packets, odd) = payload.as_chunks::<PACKET_SIZE>();
    match packets.len() {
        0 => Err(ShapeError::WrongLength),
        1..=MAX_TS_PACKETS if odd.is_empty() => Ok(()),
        1..=MAX_TS_PACKETS => Err(ShapeError::WrongLength),
        _ => Err(ShapeError::TooMany),
    }
}

/// Whether a datagram of TS is not what a sender of sound TS sends: its shape, a sync byte or a transport error.
pub fn is_malformed(payload: &[u8]) -> bool {
    let bad = |[sync, head, ..]: &[u8; PACKET_SIZE]| *sync != SYNC_BYTE || head & 0x80 != 0;
    let packets = payload.as_chunks::<PACKET_SIZE>().0;
    shape(payload).is_err() || packets.iter().take(MAX_TS_PACKETS).any(bad)
}

/// Hash of a payload with these [`visible`] TS packets, which is equal in every copy of a sequence number.
///
/// Live ([`Content::Sampled`]) the length and 28 bytes of each TS packet count: its first twelve, a PCR included, eight in its
/// middle and its last eight. Two payloads that differ nowhere but between those have the same hash, so the later one is taken
/// for a copy of the earlier. A payload that is not one to seven whole packets is sampled as any other ([`hash_payload`]). In
/// a file every byte counts.
#[inline(always)]
pub fn hash_datagram(payload: &[u8], ts: &[[u8; PACKET_SIZE]], content: Content) -> u32 {
    // Nearly every datagram is this long, and is read without a loop.
    match ts.as_array::<MAX_TS_PACKETS>() {
        Some(seven) if payload.len() == MAX_TS_PACKETS * PACKET_SIZE && content == Content::Sampled => {
            hash_samples(seven)
        }
        _ => hash_any_datagram(payload, ts, content),
    }
}

#[inline(never)]
fn hash_any_datagram(payload: &[u8], ts: &[[u8; PACKET_SIZE]], content: Content) -> u32 {
    if content == Content::Full || ts.is_empty() || ts.as_flattened().len() != payload.len() {
        return hash_payload(payload, content);
    }
    hash_samples(ts)
}

#[inline(always)]
fn hash_samples(ts: &[[u8; PACKET_SIZE]]) -> u32 {
    // In two strands, so that one's multiplication need not wait for the other's.
    let (one, other) = ts.split_at(ts.len().div_ceil(2));
    let (begin, end) = hash::STRANDS;
    hash::join(
        one.iter().fold(begin ^ ts.len() as u64, hash_sample),
        other.iter().fold(end, hash_sample),
    )
}

#[inline(always)]
fn hash_sample(state: u64, packet: &[u8; PACKET_SIZE]) -> u64 {
    let [header, next, middle, end] = SAMPLED.map(|place| word(packet, place));
    // A header is never zero where its sync byte is right, and seldom equal to what the packet ends with.
    hash::chain(state, next, middle, header ^ end)
}

/// Hash of a payload in which no TS is to be seen.
#[inline(never)]
pub fn hash_payload(payload: &[u8], content: Content) -> u32 {
    match content {
        Content::Sampled => hash::sampled(payload),
        Content::Full => hash::all(payload),
    }
}

/// Digests the TS packets of a datagram's payload into `digest`: packets, bad sync bytes, visibility and the payload's
/// own hash, which must be equal in every copy of a sequence number. Sequence and retransmission flag are the caller's.
///
/// # Errors
/// [`ShapeError`] for a payload that is not one to seven whole packets; `digest` is filled as far as its documentation
/// says.
pub fn digest_datagram(payload: &[u8], content: Content, digest: &mut PacketDigest) -> Result<(), ShapeError> {
    let packets = payload.as_chunks::<PACKET_SIZE>().0;
    digest.ts_count = packets.len().min(MAX_TS_PACKETS) as u8;
    digest.ts_visible = !packets.is_empty() && packets.len() <= MAX_TS_PACKETS;
    digest.hash = hash_datagram(payload, visible(payload), content);
    digest.bad_sync = 0;
    for (place, (packet, slot)) in packets.iter().zip(&mut digest.ts).enumerate() {
        *slot = digest_packet(packet, content);
        digest.bad_sync |= u8::from(packet[0] != SYNC_BYTE) << place;
    }
    shape(payload)
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

/// Whether a datagram has a TS packet with its sync byte among the first seven.
pub fn has_sync(payload: &[u8]) -> bool {
    let packets = payload.as_chunks::<PACKET_SIZE>().0;
    packets.iter().take(MAX_TS_PACKETS).any(|packet| packet[0] == SYNC_BYTE)
}

/// A TS packet's four header bytes as one word that tells at one glance whether a packet only goes on from another: the
/// continuity_counter is highest, so that counting one up is an addition that wraps as the counter does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Header(u32);

impl Header {
    /// Everything but transport_priority, PID and continuity_counter.
    const SHAPE: u32 = Self::new([0xff, 0xc0, 0x00, 0xf0]).0;
    /// A sync byte, no error, no start, in the clear, payload alone.
    const PLAIN: u32 = Self::new([SYNC_BYTE, 0, 0, 0x10]).0;
    const PID: u32 = Self::new([0, 0x1f, 0xff, 0]).0;
    const ONE_UP: u32 = Self::new([0, 0, 0, 1]).0;

    const fn new(bytes: [u8; 4]) -> Self {
        Header(u32::from_le_bytes(bytes).rotate_left(4))
    }

    #[inline]
    pub(in crate::engine) fn of(packet: &[u8; PACKET_SIZE]) -> Self {
        let [sync, head, pid, control, ..] = *packet;
        Self::new([sync, head, pid, control])
    }

    /// Whether it is a plain null packet's, of which nothing else matters.
    #[inline]
    pub(in crate::engine) fn is_plain_null(self) -> bool {
        self.0 & (Self::SHAPE | Self::PID) == Self::PLAIN | Self::PID
    }

    /// The header of a plain packet so many packets on from this plain one: the same, but counted up.
    #[inline]
    pub(in crate::engine) fn after(self, packets: usize) -> Self {
        // The counter wraps at 16, and so does what is added to it.
        Header(self.0.wrapping_add((packets as u32).wrapping_mul(Self::ONE_UP)))
    }

    /// The header of the plain packet that this one's goes on from.
    pub(in crate::engine) fn before(self) -> Self {
        Header(self.0.wrapping_sub(Self::ONE_UP))
    }

    /// The header of a plain packet with this PID and counter, the priority as in `head`.
    pub(in crate::engine) fn plain(head: u16, counter: u8) -> Self {
        let [high, low] = head.to_be_bytes();
        Self::new([SYNC_BYTE, high & 0x3f, low, 0x10 | counter & 0x0f])
    }

    /// PID, 13 bits.
    #[inline]
    pub(in crate::engine) fn pid(self) -> u16 {
        self.head() & NULL_PID
    }

    /// Header bytes 1 and 2, as [`tidegate_common::digest::TsDigest::head`].
    #[inline]
    pub(in crate::engine) fn head(self) -> u16 {
        let [_, high, low, _] = self.0.rotate_right(4).to_le_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Header byte 3.
    #[inline]
    pub(in crate::engine) fn control(self) -> u8 {
        self.0.rotate_right(4).to_le_bytes()[3]
    }
}
