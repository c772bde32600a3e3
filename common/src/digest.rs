//! What the judge needs of one packet, and no more: plain data, so that the kernel can make it too.
//!
//! A digest is made when a packet is forwarded and judged later, in sequence order; the packet itself never waits.

/// TS packets in one datagram that a digest can hold. RTP (RFC 2250), SRT live mode and plain UDP carry 7 in an
/// Ethernet MTU.
pub const MAX_TS_PACKETS: usize = 7;

/// One 188-byte TS packet (ISO/IEC 13818-1 2.4.3.2), reduced to its header fields and a hash of its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TsDigest {
    /// Header bytes 1 and 2, big-endian: transport_error_indicator, payload_unit_start_indicator, transport_priority, PID.
    pub head: u16,
    /// Header byte 3: transport_scrambling_control, adaptation_field_control, continuity_counter.
    pub control: u8,
    /// The adaptation field's flag byte (2.4.3.4), 0 where there is none.
    pub adaptation_flags: u8,
    /// Hash of the packet with the PCR left out (2.4.3.3), for telling a legal duplicate from a conflict.
    pub hash: u32,
}

impl TsDigest {
    /// PID, 13 bits.
    pub const fn pid(self) -> u16 {
        self.head & 0x1fff
    }

    /// transport_error_indicator.
    pub const fn transport_error(self) -> bool {
        self.head & 0x8000 != 0
    }

    /// payload_unit_start_indicator.
    pub const fn payload_unit_start(self) -> bool {
        self.head & 0x4000 != 0
    }

    /// transport_scrambling_control, 2 bits; 0 is clear.
    pub const fn scrambling(self) -> u8 {
        self.control >> 6
    }

    /// Whether adaptation_field_control says that there is payload (01 or 11).
    pub const fn has_payload(self) -> bool {
        self.control & 0x10 != 0
    }

    /// continuity_counter, 4 bits.
    pub const fn continuity_counter(self) -> u8 {
        self.control & 0x0f
    }

    /// discontinuity_indicator of the adaptation field.
    pub const fn discontinuity(self) -> bool {
        self.adaptation_flags & 0x80 != 0
    }
}

/// One datagram of a media stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PacketDigest {
    /// RTP sequence number (16 bits) or SRT packet sequence number (31 bits); unused where the transport has none.
    pub sequence: u32,
    /// Hash of the UDP payload that must be equal in every copy of a sequence number (for SRT without the
    /// retransmission flag and time stamp, for RIST without the SSRC's lowest bit).
    pub hash: u32,
    /// The sender marked this copy as a retransmission (SRT's R flag, RIST's SSRC bit).
    pub retransmitted: bool,
    /// The TS could be seen (it is in the clear); otherwise `ts` says nothing.
    pub ts_visible: bool,
    /// TS packets in `ts`.
    pub ts_count: u8,
    /// One bit for each of the `ts_count` packets whose sync byte is not 0x47; their other fields mean nothing.
    pub bad_sync: u8,
    /// The TS packets, in order.
    pub ts: [TsDigest; MAX_TS_PACKETS],
}

const _: () = assert!(size_of::<TsDigest>() == 8);
const _: () = assert!(size_of::<PacketDigest>() == 68);
