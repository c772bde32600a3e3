//! What is fixed for a whole load: addresses, the multiplex's timing, which checks are made.

use crate::layout::{HEAD_WORDS, MAX_TS_PACKETS, RTP_MEDIA, SRT_MEDIA, TS_PACKET};

/// Datagrams of a group at most: 80 ms of a stream of 25,000 datagrams a second. Bounds the map.
pub const MAX_GROUP: u32 = 2048;
/// Streams at most. Bounds the collector's map; as many inner source addresses as a prefix of 16 bits has.
pub const MAX_STREAMS: u32 = 65_536;

/// RTP with payload type 33 (RFC 3551 table 5).
pub const RTP: u32 = 0;
/// SRT data packets.
pub const SRT: u32 = 1;

/// What is fixed for a whole load. All zeroes means that nothing is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Plan {
    /// All headers as they are on the wire, with zeroes where streams and datagrams differ; words in the machine's byte order.
    /// For the collector: as they come back.
    pub head: [u64; HEAD_WORDS],
    /// Stream time of one datagram in periods of the transport's clock (RTP 90 kHz, SRT 1 us), in 1/2^32.
    pub stamp_step: u64,
    /// Sum of the inner IPv4 header's half-words without checksum and source address.
    pub inner_sum: u32,
    /// The first stream's inner source address.
    pub source: u32,
    /// The prefix of sources that are not listed; as many bits as [`Plan::unlisted_bits`] follow.
    pub unlisted: u32,
    /// Bits of an unlisted source that differ, 1 to 31.
    pub unlisted_bits: u32,
    /// Streams, 1 to [`MAX_STREAMS`].
    pub streams: u32,
    /// Datagrams in a group, 1 to [`MAX_GROUP`].
    pub group: u32,
    /// TS packets in a datagram, 1 to 7.
    pub packets: u32,
    /// Stream time of one TS packet in periods of 27 MHz.
    pub ticks: u32,
    /// [`RTP`] or [`SRT`].
    pub protocol: u32,
    /// Whether the media is hashed too: 0 or 1.
    pub whole: u32,
    /// The running number with which streams began, if the collector saw them begin.
    pub first: u32,
    /// Whether it did: 0 or 1.
    pub from_start: u32,
}

impl Plan {
    /// Where the first TS packet is.
    #[inline(always)]
    pub fn media(&self) -> usize {
        if self.protocol == SRT { SRT_MEDIA } else { RTP_MEDIA }
    }

    /// Bytes of a frame.
    #[inline(always)]
    pub fn frame_len(&self) -> usize {
        let packets = self.packets as usize;
        self.media()
            + TS_PACKET
                * if packets > MAX_TS_PACKETS {
                    MAX_TS_PACKETS
                } else {
                    packets
                }
    }
}
