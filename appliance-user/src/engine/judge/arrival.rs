//! A packet as the judge takes it, and as it waits: its digest, when it came, and what is worth keeping of its bytes.

use tidegate_common::digest::{PacketDigest, TsDigest};

use crate::engine::media::mpegts::PACKET_SIZE;
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

/// A TS packet of a file.
#[derive(Clone, Copy, Debug)]
pub struct FilePacket<'a> {
    /// When, by the file's own clock.
    pub at: Timestamp,
    /// Its digest; means nothing where the sync byte is wrong.
    pub header: TsDigest,
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
