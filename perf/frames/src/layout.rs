//! Where things are in a frame, in bytes from its start.

/// Bytes of a TS packet (ISO/IEC 13818-1 2.4.3.2).
pub const TS_PACKET: usize = 188;
/// TS packets in a datagram at most: what fits 1,500 bytes (RFC 2250 2, and every SRT sender).
pub const MAX_TS_PACKETS: usize = 7;

/// The outer IPv4 header.
pub const OUTER_IP: usize = 14;
/// The outer UDP header.
pub const OUTER_UDP: usize = 34;
/// The GENEVE header.
pub const GENEVE: usize = 42;
/// Its options: endpoint id 12 bytes, attachment id 12, flow cookie 8.
pub const OPTIONS: usize = 50;
/// The flow cookie's value.
pub const COOKIE: usize = 78;
/// The inner IPv4 header, which follows the options.
pub const INNER_IP: usize = 82;
/// Its checksum.
pub const INNER_CHECKSUM: usize = 92;
/// Its source address.
pub const INNER_SOURCE: usize = 94;
/// The inner UDP header.
pub const INNER_UDP: usize = 102;
/// The RTP or SRT header.
pub const TRANSPORT: usize = 110;
/// Bytes of an RTP header without contributing sources (RFC 3550 5.1).
pub const RTP_HEADER: usize = 12;
/// Bytes of an SRT data packet's header.
pub const SRT_HEADER: usize = 16;
/// The first TS packet behind RTP.
pub const RTP_MEDIA: usize = TRANSPORT + RTP_HEADER;
/// The first TS packet behind SRT.
pub const SRT_MEDIA: usize = TRANSPORT + SRT_HEADER;
/// Words of 8 bytes that hold all headers of either kind.
pub const HEAD_WORDS: usize = 16;
/// Bytes of them.
pub const HEAD: usize = HEAD_WORDS * 8;

/// Bytes of the marker, the last ones of the frame: payload of the last TS packet, which is video, for a decoder to read.
/// With one TS packet in a datagram it lies in the stuffing of a table's packet at times.
pub const MARKER: usize = 24;

/// What a measurement needs, in the machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Marker {
    /// CLOCK_MONOTONIC when the frame was made, nanoseconds.
    pub time: u64,
    /// The stream's number; [`UNLISTED`] is set in that of a frame whose source is not listed.
    pub stream: u32,
    /// The datagram's running number in its stream.
    pub number: u32,
    /// [`UNCHECKED`], or a hash of the media.
    pub check: u64,
}

/// Set in [`Marker::stream`] when the source is not listed.
pub const UNLISTED: u32 = 1 << 31;
/// In [`Marker::check`] when the media was not hashed: a pattern that other bytes hardly have.
pub const UNCHECKED: u64 = 0x7469_6465_6c6f_6164;

/// Bytes of a TS packet rounded up to words, for hashing and for the packets that are written whole.
pub const TS_WORDS: usize = TS_PACKET.div_ceil(8);
/// Where the hash of the media begins.
pub const HASH_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes one TS packet (or, of the last, what is in front of the marker), padded with zeroes, into a hash of the media. Sums of
/// products do not wait for each other; what is altered in one word cannot stay unseen, for the factors are odd.
#[inline(always)]
pub fn hash_packet(hash: u64, words: &[u64; TS_WORDS]) -> u64 {
    let mut sum = 0u64;
    let mut factor = HASH_SEED;
    for word in words {
        sum = sum.wrapping_add((*word ^ (*word >> 29)).wrapping_mul(factor));
        factor = factor.wrapping_add(0x5851_f42d_4c95_7f2e);
    }
    (hash.rotate_left(23) ^ sum).wrapping_mul(HASH_SEED)
}
