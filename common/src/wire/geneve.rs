//! GENEVE header and options (RFC 8926 3.4, 3.5), and the three options of the AWS Gateway Load Balancer.

/// UDP port assigned to GENEVE (RFC 8926 3.3).
pub const PORT: u16 = 6081;
/// Option class of Amazon (IANA "Geneve Option Class").
pub const CLASS_AWS: u16 = 0x0108;

/// The fixed eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geneve([u8; Self::LEN]);

impl Geneve {
    /// Bytes of the fixed header.
    pub const LEN: usize = 8;

    /// A view of a header's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Geneve(bytes)
    }

    /// A header of version 0 from its fields. `option_words` counts the options in 4-byte units (6 bits); `vni` has 24 bits.
    pub const fn build(option_words: u8, control: bool, critical: bool, protocol: u16, vni: u32) -> Self {
        let flags = (control as u8) << 7 | (critical as u8) << 6;
        let [p0, p1] = protocol.to_be_bytes();
        let [_, v0, v1, v2] = vni.to_be_bytes();
        Geneve([option_words & 0x3f, flags, p0, p1, v0, v1, v2, 0])
    }

    /// The header as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// Version; 0 is the only one.
    #[inline(always)]
    pub const fn version(self) -> u8 {
        self.0[0] >> 6
    }

    /// Bytes of all options: 0 to 252.
    #[inline(always)]
    pub const fn options_length(self) -> usize {
        (self.0[0] & 0x3f) as usize * 4
    }

    /// O: a control packet, whose payload must not be forwarded.
    #[inline(always)]
    pub const fn is_control(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// C: at least one option is critical, so the options must be looked at.
    #[inline(always)]
    pub const fn has_critical(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    /// EtherType of the payload.
    #[inline(always)]
    pub const fn protocol(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Virtual network identifier, 24 bits.
    #[inline(always)]
    pub const fn vni(self) -> u32 {
        u32::from_be_bytes([0, self.0[4], self.0[5], self.0[6]])
    }
}

/// An option's own header: class, type, length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader([u8; Self::LEN]);

impl OptionHeader {
    /// Bytes before an option's data.
    pub const LEN: usize = 4;

    /// A view of an option header's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        OptionHeader(bytes)
    }

    /// An option header from its fields; `data_words` counts the data in 4-byte units (5 bits).
    pub const fn build(class: u16, kind: u8, data_words: u8) -> Self {
        let [c0, c1] = class.to_be_bytes();
        OptionHeader([c0, c1, kind, data_words & 0x1f])
    }

    /// The option header as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// Who defines the type.
    #[inline(always)]
    pub const fn class(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Type, critical bit included.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        self.0[2]
    }

    /// Whether a receiver that does not know this option must drop the packet: the type's highest bit.
    #[inline(always)]
    pub const fn is_critical(self) -> bool {
        self.0[2] & 0x80 != 0
    }

    /// Bytes of data: 0 to 124.
    #[inline(always)]
    pub const fn data_length(self) -> usize {
        (self.0[3] & 0x1f) as usize * 4
    }

    /// Which of the AWS options this is; `None` for any other class, type or length.
    #[inline(always)]
    pub const fn aws(self) -> Option<AwsOption> {
        match (self.class(), self.kind(), self.data_length()) {
            (CLASS_AWS, 1, 8) => Some(AwsOption::Endpoint),
            (CLASS_AWS, 2, 8) => Some(AwsOption::Attachment),
            (CLASS_AWS, 3, 4) => Some(AwsOption::Cookie),
            _ => None,
        }
    }
}

/// The options that a Gateway Load Balancer puts on every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsOption {
    /// Type 1, 8 bytes: id of the load balancer endpoint the packet came through.
    Endpoint,
    /// Type 2, 8 bytes: id of the attachment.
    Attachment,
    /// Type 3, 4 bytes: the flow's cookie.
    Cookie,
}

/// All options of a packet in the one form in which the load balancer sends them, recognised without looking at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwsOptions([u8; Self::LEN]);

impl AwsOptions {
    /// Bytes of the three options.
    pub const LEN: usize = 32;

    /// A view of the options' bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        AwsOptions(bytes)
    }

    /// The endpoint's id; `None` where these are other options, or the same ones in another order.
    #[inline(always)]
    pub const fn endpoint(self) -> Option<u64> {
        let [
            a0,
            a1,
            a2,
            a3,
            e0,
            e1,
            e2,
            e3,
            e4,
            e5,
            e6,
            e7,
            b0,
            b1,
            b2,
            b3,
            ..,
            c0,
            c1,
            c2,
            c3,
            _,
            _,
            _,
            _,
        ] = self.0;
        let headers = [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]];
        let [first, second, third] = headers;
        let known = u32::from_be_bytes(first) == AwsOptions::HEADERS[0]
            && u32::from_be_bytes(second) == AwsOptions::HEADERS[1]
            && u32::from_be_bytes(third) == AwsOptions::HEADERS[2];
        if known {
            Some(u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]))
        } else {
            None
        }
    }

    /// Class, type and length of endpoint, attachment and cookie.
    const HEADERS: [u32; 3] = [0x0108_0102, 0x0108_0202, 0x0108_0301];
}

/// The three options as the load balancer sends them: 32 bytes.
pub fn aws_options(endpoint: u64, attachment: u64, cookie: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0..4].copy_from_slice(&OptionHeader::build(CLASS_AWS, 1, 2).bytes());
    bytes[4..12].copy_from_slice(&endpoint.to_be_bytes());
    bytes[12..16].copy_from_slice(&OptionHeader::build(CLASS_AWS, 2, 2).bytes());
    bytes[16..24].copy_from_slice(&attachment.to_be_bytes());
    bytes[24..28].copy_from_slice(&OptionHeader::build(CLASS_AWS, 3, 1).bytes());
    bytes[28..32].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fixture() {
        let view = Geneve::new([0x08, 0x40, 0x86, 0xdd, 0x01, 0x02, 0x03, 0x00]);
        assert_eq!((view.version(), view.options_length()), (0, 32));
        assert_eq!((view.is_control(), view.has_critical()), (false, true));
        assert_eq!((view.protocol(), view.vni()), (0x86dd, 0x010203));
        assert_eq!(Geneve::new([0x40, 0x80, 0, 0, 0, 0, 0, 0]).version(), 1);
        assert!(Geneve::new([0x40, 0x80, 0, 0, 0, 0, 0, 0]).is_control());
    }

    #[test]
    fn aws_options_are_recognised_by_class_type_and_length() {
        let bytes = aws_options(0x0102_0304_0506_0708, 9, 10);
        assert_eq!(AwsOptions::new(bytes).endpoint(), Some(0x0102_0304_0506_0708));
        for place in [0, 1, 2, 3, 12, 13, 14, 15, 24, 25, 26, 27] {
            let mut other = bytes;
            other[place] ^= 1;
            assert_eq!(AwsOptions::new(other).endpoint(), None, "byte {place}");
        }
        assert_eq!(bytes[..12], [0x01, 0x08, 0x01, 0x02, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[24..], [0x01, 0x08, 0x03, 0x01, 0, 0, 0, 10]);
        for (header, aws) in [
            ((CLASS_AWS, 1, 2), Some(AwsOption::Endpoint)),
            ((CLASS_AWS, 2, 2), Some(AwsOption::Attachment)),
            ((CLASS_AWS, 3, 1), Some(AwsOption::Cookie)),
            ((CLASS_AWS, 3, 2), None),
            ((CLASS_AWS, 4, 1), None),
            ((CLASS_AWS, 0x81, 2), None),
            ((0x0107, 1, 2), None),
        ] {
            assert_eq!(
                OptionHeader::build(header.0, header.1, header.2).aws(),
                aws,
                "{header:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn round_trip(words in 0u8..64, control in any::<bool>(), critical in any::<bool>(), kind in any::<u16>(), vni in 0u32..1 << 24) {
            let view = Geneve::new(Geneve::build(words, control, critical, kind, vni).bytes());
            prop_assert_eq!((view.version(), view.options_length()), (0, usize::from(words) * 4));
            prop_assert_eq!((view.is_control(), view.has_critical()), (control, critical));
            prop_assert_eq!((view.protocol(), view.vni()), (kind, vni));
        }

        #[test]
        fn option_round_trip(class in any::<u16>(), kind in any::<u8>(), words in 0u8..32) {
            let view = OptionHeader::new(OptionHeader::build(class, kind, words).bytes());
            prop_assert_eq!((view.class(), view.kind(), view.data_length()), (class, kind, usize::from(words) * 4));
            prop_assert_eq!(view.is_critical(), kind >= 0x80);
        }
    }
}
