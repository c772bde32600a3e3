//! UDP header (RFC 768).

/// Ports, length and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp([u8; Self::LEN]);

impl Udp {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// A view of a header's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Udp(bytes)
    }

    /// A header from its fields. `length` counts header and payload; checksum 0 means none (over IPv4).
    pub const fn build(source_port: u16, destination_port: u16, length: u16, checksum: u16) -> Self {
        let [s0, s1] = source_port.to_be_bytes();
        let [d0, d1] = destination_port.to_be_bytes();
        let [l0, l1] = length.to_be_bytes();
        let [c0, c1] = checksum.to_be_bytes();
        Udp([s0, s1, d0, d1, l0, l1, c0, c1])
    }

    /// The header as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// Source port.
    #[inline(always)]
    pub const fn source_port(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Destination port.
    #[inline(always)]
    pub const fn destination_port(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Bytes of header and payload as the sender claims.
    #[inline(always)]
    pub const fn length(self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The checksum field.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes in any::<[u8; 8]>()) {
            let view = Udp::new(bytes);
            let built = Udp::build(view.source_port(), view.destination_port(), view.length(), view.checksum());
            prop_assert_eq!(built.bytes(), bytes);
        }
    }

    #[test]
    fn fixture() {
        let view = Udp::new([0x13, 0x8c, 0x17, 0xc1, 0x00, 0x1c, 0xab, 0xcd]);
        assert_eq!((view.source_port(), view.destination_port()), (5004, 6081));
        assert_eq!((view.length(), view.checksum()), (28, 0xabcd));
    }
}
