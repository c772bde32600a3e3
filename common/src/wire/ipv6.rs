//! IPv6 header and the parts of its extension headers that a walker needs (RFC 8200 3 and 4).

use core::net::Ipv6Addr;

use super::protocol;

/// The fixed 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6([u8; Self::LEN]);

/// What a header is built from; traffic class and flow label are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Bytes behind the fixed header, extension headers included.
    pub payload_length: u16,
    /// What follows: an extension header or the upper layer.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Sender.
    pub source: Ipv6Addr,
    /// Receiver.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    /// Bytes of the fixed header.
    pub const LEN: usize = 40;

    /// A view of a header's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Ipv6(bytes)
    }

    /// A header from its fields.
    pub fn build(fields: &Fields) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&fields.payload_length.to_be_bytes());
        bytes[6] = fields.next_header;
        bytes[7] = fields.hop_limit;
        bytes[8..24].copy_from_slice(&fields.source.octets());
        bytes[24..40].copy_from_slice(&fields.destination.octets());
        Ipv6(bytes)
    }

    /// The header as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// IP version; 6 in a right header.
    #[inline(always)]
    pub const fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Bytes behind the fixed header as the sender claims.
    #[inline(always)]
    pub const fn payload_length(self) -> usize {
        u16::from_be_bytes([self.0[4], self.0[5]]) as usize
    }

    /// What follows the fixed header.
    #[inline(always)]
    pub const fn next_header(self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline(always)]
    pub const fn hop_limit(self) -> u8 {
        self.0[7]
    }

    /// Sender.
    #[inline(always)]
    pub const fn source(self) -> Ipv6Addr {
        let [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            i,
            j,
            k,
            l,
            m,
            n,
            o,
            p,
            ..,
        ] = self.0;
        Ipv6Addr::from_octets([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// Receiver.
    #[inline(always)]
    pub const fn destination(self) -> Ipv6Addr {
        let [.., a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        Ipv6Addr::from_octets([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

/// Whether a next header value announces an extension header that can be skipped, rather than the upper layer. ESP is not
/// one: what lies behind it cannot be seen.
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
    )
}

/// The first eight bytes of an extension header, which every one of them has, and all of a fragment header (RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension([u8; Self::LEN]);

impl Extension {
    /// The least that an extension header is long.
    pub const LEN: usize = 8;

    /// A view of an extension header's first bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Extension(bytes)
    }

    /// A fragment header from its fields; `offset` in units of 8 bytes.
    pub const fn build_fragment(next_header: u8, offset: u16, more: bool, identification: u32) -> Self {
        let [o0, o1] = (offset << 3 | more as u16).to_be_bytes();
        let [i0, i1, i2, i3] = identification.to_be_bytes();
        Extension([next_header, 0, o0, o1, i0, i1, i2, i3])
    }

    /// The bytes as they stand on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// What follows this header.
    #[inline(always)]
    pub const fn next_header(self) -> u8 {
        self.0[0]
    }

    /// Bytes of the whole extension header, given the value that announced it: 8-byte units without the first, but 4-byte
    /// units without the first two for the authentication header (RFC 4302 2.2), and always 8 for a fragment header.
    #[inline(always)]
    pub const fn length(self, announced_as: u8) -> usize {
        let units = self.0[1] as usize;
        match announced_as {
            protocol::FRAGMENT => Self::LEN,
            protocol::AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        }
    }

    /// A fragment header's offset in units of 8 bytes.
    #[inline(always)]
    pub const fn fragment_offset(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]]) >> 3
    }

    /// A fragment header's M flag.
    #[inline(always)]
    pub const fn more_fragments(self) -> bool {
        self.0[3] & 1 != 0
    }

    /// A fragment header's identification.
    #[inline(always)]
    pub const fn identification(self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fixture() {
        let mut bytes = [0u8; 40];
        bytes[..8].copy_from_slice(&[0x60, 0x0a, 0xbc, 0xde, 0x05, 0x30, 0x11, 0x3f]);
        bytes[8..10].copy_from_slice(&[0x20, 0x01]);
        bytes[23] = 1;
        bytes[24..26].copy_from_slice(&[0x20, 0x02]);
        bytes[39] = 2;
        let view = Ipv6::new(bytes);
        assert_eq!(
            (
                view.version(),
                view.payload_length(),
                view.next_header(),
                view.hop_limit()
            ),
            (6, 1328, 17, 63)
        );
        assert_eq!(view.source(), "2001::1".parse::<Ipv6Addr>().expect("an address"));
        assert_eq!(view.destination(), "2002::2".parse::<Ipv6Addr>().expect("an address"));
    }

    #[test]
    fn extension_lengths_follow_their_rfcs() {
        let header = Extension::new([17, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header.length(protocol::HOP_BY_HOP), 24);
        assert_eq!(header.length(protocol::AUTHENTICATION), 16);
        assert_eq!(header.length(protocol::FRAGMENT), 8);
    }

    proptest! {
        #[test]
        fn round_trip(
            (payload_length, next_header, hop_limit) in any::<(u16, u8, u8)>(),
            (source, destination) in any::<([u8; 16], [u8; 16])>(),
        ) {
            let fields = Fields {
                payload_length, next_header, hop_limit, source: source.into(), destination: destination.into(),
            };
            let view = Ipv6::new(Ipv6::build(&fields).bytes());
            prop_assert_eq!(view.version(), 6);
            prop_assert_eq!(view.payload_length(), usize::from(payload_length));
            prop_assert_eq!((view.next_header(), view.hop_limit()), (next_header, hop_limit));
            prop_assert_eq!((view.source(), view.destination()), (fields.source, fields.destination));
        }

        #[test]
        fn fragment_round_trip(next in any::<u8>(), offset in 0u16..0x2000, more in any::<bool>(), id in any::<u32>()) {
            let view = Extension::new(Extension::build_fragment(next, offset, more, id).bytes());
            prop_assert_eq!((view.next_header(), view.fragment_offset()), (next, offset));
            prop_assert_eq!((view.more_fragments(), view.identification()), (more, id));
        }
    }
}
