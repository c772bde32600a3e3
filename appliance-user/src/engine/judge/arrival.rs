//! A packet as the judge takes it, and as it waits: its digest, when it came, and what is worth keeping of its bytes.

use tidegate_common::digest::PacketDigest;

use crate::engine::media::mpegts::{self, Content, PACKET_SIZE};
use crate::engine::time::Timestamp;

/// The TS packets of one datagram, as far as they are at hand. A packet that comes in order has all of them; of one that had
/// to wait only those were kept that say more than their digest: tables, clocks, starts of PES packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TsBytes<'a> {
    /// Bit n: the datagram's packet n is here.
    which: u8,
    packets: &'a [[u8; PACKET_SIZE]],
}

impl<'a> TsBytes<'a> {
    /// Every whole TS packet of a cleartext payload.
    pub fn all(payload: &'a [u8]) -> Self {
        TsBytes {
            which: u8::MAX,
            packets: payload.as_chunks().0,
        }
    }

    /// The datagram's packet at a place from 0 to 7, if it is here.
    #[inline]
    pub fn packet(&self, place: usize) -> Option<&'a [u8; PACKET_SIZE]> {
        let bit = 1_u8.checked_shl(place as u32).filter(|bit| self.which & bit != 0)?;
        self.packets.get((self.which & (bit - 1)).count_ones() as usize)
    }

    /// Those that are here, in their order.
    pub fn packets(&self) -> &'a [[u8; PACKET_SIZE]] {
        self.packets
    }
}

/// A datagram of media as its transport hands it to the judge.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// RTP sequence number (16 bits) or SRT packet sequence number (31 bits); unused where the transport has none.
    pub sequence: u32,
    /// The sender marked this copy as a retransmission (SRT's R flag, RIST's SSRC bit).
    pub retransmitted: bool,
    /// The payload in the clear; empty where it could not be seen.
    pub payload: &'a [u8],
    /// The TS packets of the payload ([`mpegts::visible`]); none where no TS is to be seen.
    pub ts: &'a [[u8; PACKET_SIZE]],
    /// Hash of what must be equal in every copy of a sequence number, where that is not the payload: what was sent may have
    /// been enciphered.
    pub hash: Option<u32>,
    /// How much of the content is compared.
    pub content: Content,
}

impl<'a> Packet<'a> {
    /// What must be equal in every copy of its sequence number.
    #[inline(always)]
    pub(super) fn hash(&self) -> u32 {
        match self.hash {
            Some(hash) => hash,
            None => mpegts::hash_datagram(self.payload, self.ts, self.content),
        }
    }

    /// What is kept of it while it waits.
    pub fn digest(&self) -> PacketDigest {
        let mut digest = PacketDigest::default();
        if !self.ts.is_empty() {
            // A wrong shape shows in what was digested.
            let _ = mpegts::digest_datagram(self.payload, self.content, &mut digest);
        }
        PacketDigest {
            sequence: self.sequence,
            retransmitted: self.retransmitted,
            hash: self.hash(),
            ..digest
        }
    }

    /// Its TS packets, for those that want more than a digest.
    pub fn bytes(&self) -> TsBytes<'a> {
        TsBytes::all(self.payload)
    }
}

/// A TS packet of a file.
#[derive(Clone, Copy, Debug)]
pub struct FilePacket<'a> {
    /// When, by the file's own clock.
    pub at: Timestamp,
    /// All of it.
    pub bytes: &'a [u8; PACKET_SIZE],
}

/// A packet that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    /// When.
    pub(super) at: Timestamp,
    pub(super) digest: &'a PacketDigest,
    pub(super) bytes: TsBytes<'a>,
}

/// A packet that came and waits for others.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) at: Timestamp,
    pub(super) digest: PacketDigest,
    which: u8,
    kept: Box<[[u8; PACKET_SIZE]]>,
}

impl Waiting {
    /// Keeps the digest, and of the bytes those packets whose bit is set.
    pub(super) fn new(packet: &Arrival<'_>, keep: u8) -> Self {
        let (mut which, mut kept) = (0, Vec::new());
        for place in 0..u8::BITS as usize {
            let bit = 1 << place;
            if let Some(bytes) = packet.bytes.packet(place).filter(|_| keep & bit != 0) {
                which |= bit;
                kept.push(*bytes);
            }
        }
        Waiting {
            at: packet.at,
            digest: *packet.digest,
            which,
            kept: kept.into_boxed_slice(),
        }
    }

    /// Bytes that it holds beside itself.
    pub(super) fn kept_bytes(&self) -> usize {
        size_of_val::<[_]>(&self.kept)
    }

    /// The packet, as if it came now.
    pub(super) fn arrival(&self) -> Arrival<'_> {
        Arrival {
            at: self.at,
            digest: &self.digest,
            bytes: TsBytes {
                which: self.which,
                packets: &self.kept,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_at_its_old_place() {
        let payload: Vec<u8> = (0..7_u8).flat_map(|n| [n; PACKET_SIZE]).collect();
        let digest = PacketDigest::default();
        let packet = Arrival {
            at: Timestamp::default(),
            digest: &digest,
            bytes: TsBytes::all(&payload),
        };
        let waiting = Waiting::new(&packet, 0b100_1010);
        assert_eq!(waiting.kept_bytes(), 3 * PACKET_SIZE);
        let again = waiting.arrival();
        for place in 0..8 {
            let kept = [1, 3, 6].contains(&place);
            let bytes = again.bytes.packet(place).map(|bytes| usize::from(bytes[0]));
            assert_eq!(bytes, kept.then_some(place));
            assert_eq!(packet.bytes.packet(place).is_some(), place < 7);
        }
    }

    #[test]
    fn a_payload_without_whole_packets_has_none() {
        assert!(TsBytes::all(&[0x47; 187]).packet(0).is_none());
        assert!(TsBytes::default().packet(0).is_none());
    }
}
