//! ICMP and ICMPv6, as far as their errors quote other packets (RFC 792, RFC 4443).

/// The eight bytes before a quoted packet: type, code, checksum and four bytes of the message's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp([u8; Self::LEN]);

impl Icmp {
    /// Bytes before the quoted packet.
    pub const LEN: usize = 8;

    /// A view of a message's first bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Icmp(bytes)
    }

    /// A message's first bytes from its fields; the last four are 0.
    pub const fn build(kind: u8, code: u8, checksum: u16) -> Self {
        let [c0, c1] = checksum.to_be_bytes();
        Icmp([kind, code, c0, c1, 0, 0, 0, 0])
    }

    /// The bytes as they stand on the wire.
    pub const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// Type.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        self.0[0]
    }

    /// Code.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        self.0[1]
    }

    /// Whether this is an IPv4 error about another packet: destination unreachable, time exceeded, parameter problem. Not
    /// source quench, which is deprecated (RFC 6633), and not redirect, which belongs to one link only.
    #[inline(always)]
    pub const fn is_error(self) -> bool {
        matches!(self.kind(), 3 | 11 | 12)
    }

    /// Whether this is an IPv6 error about another packet: destination unreachable, packet too big, time exceeded,
    /// parameter problem (RFC 4443 3).
    #[inline(always)]
    pub const fn is_v6_error(self) -> bool {
        matches!(self.kind(), 1..=4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_others() {
        for (kind, v4, v6) in [
            (0, false, false),
            (1, false, true),
            (3, true, true),
            (5, false, false),
            (8, false, false),
        ] {
            let view = Icmp::new(Icmp::build(kind, 1, 2).bytes());
            assert_eq!((view.kind(), view.code()), (kind, 1));
            assert_eq!((view.is_error(), view.is_v6_error()), (v4, v6), "type {kind}");
        }
        assert!(Icmp::build(11, 0, 0).is_error() && Icmp::build(12, 0, 0).is_error());
        assert!(!Icmp::build(128, 0, 0).is_v6_error());
    }
}
