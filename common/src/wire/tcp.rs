//! TCP header, as far as a walker needs it (RFC 9293 3.1).

/// Flag of a segment that opens a connection.
pub const SYN: u8 = 0x02;
/// Flag of a segment whose acknowledgement number counts.
pub const ACK: u8 = 0x10;
/// Flag of a segment whose urgent pointer counts.
pub const URG: u8 = 0x20;

/// The fixed part: ports, sequence numbers, data offset, flags, window, checksum, urgent pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp([u8; Self::LEN]);

impl Tcp {
    /// Bytes of the fixed part.
    pub const LEN: usize = 20;

    /// A view of a header's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Tcp(bytes)
    }

    /// A header from the fields that matter here; the others are 0. `data_offset` counts 32-bit words, 4 bits.
    pub const fn build(source_port: u16, destination_port: u16, data_offset: u8, flags: u8) -> Self {
        let [s0, s1] = source_port.to_be_bytes();
        let [d0, d1] = destination_port.to_be_bytes();
        Tcp([
            s0,
            s1,
            d0,
            d1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            data_offset << 4,
            flags,
            0,
            0,
            0,
            0,
            0,
            0,
        ])
    }

    /// The same header with other sequence and acknowledgement numbers.
    pub const fn with_numbers(self, sequence: u32, acknowledgement: u32) -> Self {
        let mut bytes = self.0;
        let [s0, s1, s2, s3] = sequence.to_be_bytes();
        let [a0, a1, a2, a3] = acknowledgement.to_be_bytes();
        bytes[4] = s0;
        bytes[5] = s1;
        bytes[6] = s2;
        bytes[7] = s3;
        bytes[8] = a0;
        bytes[9] = a1;
        bytes[10] = a2;
        bytes[11] = a3;
        Tcp(bytes)
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

    /// Sequence number of the first payload byte, or of SYN where that is set.
    #[inline(always)]
    pub const fn sequence(self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// The next sequence number that the sender of this segment expects; meaningful with [`ACK`].
    #[inline(always)]
    pub const fn acknowledgement(self) -> u32 {
        u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// Bytes of the header with its options, as data offset says: 0 to 60. Less than [`Tcp::LEN`] is impossible.
    #[inline(always)]
    pub const fn header_length(self) -> usize {
        (self.0[12] >> 4) as usize * 4
    }

    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN.
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        self.0[13]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(source in any::<u16>(), destination in any::<u16>(), words in 0u8..16, flags in any::<u8>(), numbers in any::<(u32, u32)>()) {
            let built = Tcp::build(source, destination, words, flags).with_numbers(numbers.0, numbers.1);
            let view = Tcp::new(built.bytes());
            prop_assert_eq!((view.sequence(), view.acknowledgement()), numbers);
            prop_assert_eq!((view.source_port(), view.destination_port()), (source, destination));
            prop_assert_eq!((view.header_length(), view.flags()), (usize::from(words) * 4, flags));
        }
    }

    #[test]
    fn fixture() {
        let view = Tcp::new([
            0xc0, 0x01, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x12, 0xff, 0xff, 0x12, 0x34, 0, 0,
        ]);
        assert_eq!((view.source_port(), view.destination_port()), (49153, 80));
        assert_eq!((view.header_length(), view.flags()), (32, SYN | ACK));
        assert_eq!((view.sequence(), view.acknowledgement()), (1, 2));
    }
}
