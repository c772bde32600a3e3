//! IPv4 header without its options (RFC 791 3.1).

use core::net::Ipv4Addr;

use super::checksum;

/// The fixed 20 bytes. Options follow them; their length is part of [`Ipv4::header_length`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4([u8; Self::LEN]);

/// What a header without options is built from; the checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Bytes of header and payload.
    pub total_length: u16,
    /// Identification, shared by all fragments of a packet.
    pub identification: u16,
    /// Three flag bits (reserved, DF, MF) and the fragment offset in units of 8 bytes.
    pub flags_and_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
}

impl Ipv4 {
    /// Bytes of the fixed part.
    pub const LEN: usize = 20;

    /// A view of a header's fixed bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Ipv4(bytes)
    }

    /// A header without options, type of service 0, with a right checksum.
    pub fn build(fields: &Fields) -> Self {
        let [l0, l1] = fields.total_length.to_be_bytes();
        let [i0, i1] = fields.identification.to_be_bytes();
        let [f0, f1] = fields.flags_and_offset.to_be_bytes();
        let [s0, s1, s2, s3] = fields.source.octets();
        let [d0, d1, d2, d3] = fields.destination.octets();
        let mut bytes = [
            0x45,
            0,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            fields.ttl,
            fields.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        [bytes[10], bytes[11]] = checksum::internet(&bytes).to_be_bytes();
        Ipv4(bytes)
    }

    /// The fixed part as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// IP version; 4 in a right header.
    #[inline(always)]
    pub const fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Bytes of the header with its options: 0 to 60. Less than [`Ipv4::LEN`] is impossible.
    #[inline(always)]
    pub const fn header_length(self) -> usize {
        (self.0[0] & 0x0f) as usize * 4
    }

    /// Bytes of header and payload as the sender claims.
    #[inline(always)]
    pub const fn total_length(self) -> usize {
        u16::from_be_bytes([self.0[2], self.0[3]]) as usize
    }

    /// Identification, shared by all fragments of a packet.
    #[inline(always)]
    pub const fn identification(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Whether another fragment follows (MF).
    #[inline(always)]
    pub const fn more_fragments(self) -> bool {
        self.0[6] & 0x20 != 0
    }

    /// Where this fragment's payload belongs, in units of 8 bytes; 0 for a first or only one.
    #[inline(always)]
    pub const fn fragment_offset(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x1fff
    }

    /// Time to live.
    #[inline(always)]
    pub const fn ttl(self) -> u8 {
        self.0[8]
    }

    /// Protocol number of the payload.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Header checksum.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        u16::from_be_bytes([self.0[10], self.0[11]])
    }

    /// Sender.
    #[inline(always)]
    pub const fn source(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[12], self.0[13], self.0[14], self.0[15])
    }

    /// Receiver.
    #[inline(always)]
    pub const fn destination(self) -> Ipv4Addr {
        Ipv4Addr::new(self.0[16], self.0[17], self.0[18], self.0[19])
    }
}

/// Whether an address can belong to one host: neither multicast, reserved, broadcast (224.0.0.0/3) nor "this network"
/// (0.0.0.0/8).
#[inline(always)]
pub const fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header captured by others: the worked example of the Wikipedia article on the IPv4 header checksum.
    #[test]
    fn fixture() {
        let bytes = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
            0x00, 0xc7,
        ];
        let view = Ipv4::new(bytes);
        assert_eq!(
            (view.version(), view.header_length(), view.total_length()),
            (4, 20, 115)
        );
        assert_eq!((view.more_fragments(), view.fragment_offset()), (false, 0));
        assert_eq!((view.ttl(), view.protocol(), view.checksum()), (64, 17, 0xb861));
        assert_eq!(view.source(), Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(view.destination(), Ipv4Addr::new(192, 168, 0, 199));
        assert_eq!(checksum::internet(&bytes), 0);
    }

    #[test]
    fn unicast_is_neither_group_nor_nobody() {
        for (address, unicast) in [
            ([10, 0, 0, 1], true),
            ([223, 255, 255, 255], true),
            ([224, 0, 0, 1], false),
            ([239, 1, 2, 3], false),
            ([255, 255, 255, 255], false),
            ([0, 0, 0, 0], false),
        ] {
            assert_eq!(is_unicast(Ipv4Addr::from(address)), unicast, "{address:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            (total_length, identification, flags_and_offset) in any::<(u16, u16, u16)>(),
            (ttl, protocol, source, destination) in any::<(u8, u8, [u8; 4], [u8; 4])>(),
        ) {
            let fields = Fields {
                total_length, identification, flags_and_offset, ttl, protocol,
                source: source.into(), destination: destination.into(),
            };
            let view = Ipv4::build(&fields);
            prop_assert_eq!(checksum::internet(&view.bytes()), 0);
            prop_assert_eq!((view.version(), view.header_length()), (4, 20));
            prop_assert_eq!(view.total_length(), usize::from(total_length));
            prop_assert_eq!(view.identification(), identification);
            prop_assert_eq!(view.more_fragments(), flags_and_offset & 0x2000 != 0);
            prop_assert_eq!(view.fragment_offset(), flags_and_offset % 0x2000);
            prop_assert_eq!((view.ttl(), view.protocol()), (ttl, protocol));
            prop_assert_eq!((view.source(), view.destination()), (fields.source, fields.destination));
        }
    }
}
