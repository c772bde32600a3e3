//! Ethernet II header and 802.1Q tag (IEEE 802.3 3.1.1, IEEE 802.1Q 9.6).

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Destination, source and EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet([u8; Self::LEN]);

impl Ethernet {
    /// Bytes of the header.
    pub const LEN: usize = 14;

    /// A view of a header's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Ethernet(bytes)
    }

    /// A header from its fields.
    pub const fn build(destination: [u8; 6], source: [u8; 6], ether_type: u16) -> Self {
        let [d0, d1, d2, d3, d4, d5] = destination;
        let [s0, s1, s2, s3, s4, s5] = source;
        let [t0, t1] = ether_type.to_be_bytes();
        Ethernet([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1])
    }

    /// The header as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// Destination MAC address.
    #[inline(always)]
    pub const fn destination(self) -> [u8; 6] {
        let [d0, d1, d2, d3, d4, d5, ..] = self.0;
        [d0, d1, d2, d3, d4, d5]
    }

    /// Source MAC address.
    #[inline(always)]
    pub const fn source(self) -> [u8; 6] {
        let [_, _, _, _, _, _, s0, s1, s2, s3, s4, s5, ..] = self.0;
        [s0, s1, s2, s3, s4, s5]
    }

    /// EtherType of what follows.
    #[inline(always)]
    pub const fn ether_type(self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    /// Whether the destination is a group address, multicast or broadcast: the I/G bit (IEEE 802.3 3.2.3).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Whether an EtherType announces a VLAN tag.
#[inline(always)]
pub const fn is_vlan(ether_type: u16) -> bool {
    ether_type == VLAN || ether_type == SERVICE_VLAN
}

/// What follows a VLAN tag's EtherType: tag control information and the next EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag([u8; Self::LEN]);

impl VlanTag {
    /// Bytes of a tag behind the EtherType that announced it.
    pub const LEN: usize = 4;

    /// A view of a tag's bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        VlanTag(bytes)
    }

    /// A tag from its fields: `tci` is priority (3 bits), DEI (1 bit) and VLAN id (12 bits).
    pub const fn build(tci: u16, ether_type: u16) -> Self {
        let [c0, c1] = tci.to_be_bytes();
        let [t0, t1] = ether_type.to_be_bytes();
        VlanTag([c0, c1, t0, t1])
    }

    /// The tag as it stands on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// VLAN id, 12 bits; 0 is a priority tag without a VLAN.
    #[inline(always)]
    pub const fn id(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]]) & 0x0fff
    }

    /// EtherType of what follows.
    #[inline(always)]
    pub const fn ether_type(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn group_bit() {
        assert!(Ethernet::build([0xff; 6], [0; 6], IPV4).is_group());
        assert!(Ethernet::build([0x01, 0, 0x5e, 0, 0, 1], [0; 6], IPV4).is_group());
        assert!(!Ethernet::build([0x02, 0xff, 0xff, 0xff, 0xff, 0xff], [0; 6], IPV4).is_group());
    }

    proptest! {
        #[test]
        fn round_trip(bytes in any::<[u8; 14]>(), tag in any::<[u8; 4]>()) {
            let view = Ethernet::new(bytes);
            prop_assert_eq!(Ethernet::build(view.destination(), view.source(), view.ether_type()).bytes(), bytes);
            let tag_view = VlanTag::new(tag);
            let tci = u16::from_be_bytes([tag[0], tag[1]]);
            prop_assert_eq!(VlanTag::build(tci, tag_view.ether_type()).bytes(), tag);
            prop_assert_eq!(tag_view.id(), tci % 4096);
        }
    }
}
