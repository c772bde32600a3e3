//! The identity of a flow: GWLB endpoint and inner 5-tuple, canonical so that both directions share one key.
//!
//! The endpoint belongs to the key because VPCs behind one load balancer may overlap, and because one packet may cross
//! two endpoints.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An inner packet's addresses as they stand on the wire: from `source` to `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// GWLB endpoint id (GENEVE option class 0x0108 type 1), or `None` where the packet carried none.
    pub endpoint: Option<u64>,
    /// IP protocol number of the inner transport (17 UDP, 6 TCP, ...).
    pub protocol: u8,
    /// Sender; the port is 0 for a transport without ports.
    pub source: SocketAddr,
    /// Receiver; the port is 0 for a transport without ports.
    pub destination: SocketAddr,
}

/// Which way a packet goes relative to its flow's canonical key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the key's lower address to its higher one.
    Forward,
    /// From the key's higher address to its lower one.
    Reverse,
}

impl Direction {
    /// 0 for forward, 1 for reverse: an index into per-direction state.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other way.
    pub const fn flipped(self) -> Self {
        match self {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        }
    }
}

/// The canonical key of a flow: its lower end sorts before its higher one, so both directions of a conversation give the
/// same key.
///
/// Packed into words, because it is compared and hashed for every packet: endpoint id; the lower end's address and the
/// higher one's, two words each, an IPv4 address in the second; ports, protocol, and which of these there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey([u64; FlowKey::WORDS]);

/// Flags in the last word of a key.
const HAS_ENDPOINT: u64 = 1;
const LOW_IS_V6: u64 = 2;
const HIGH_IS_V6: u64 = 4;

/// An IP address as words, which are cheaper to carry about than the bytes of an [`IpAddr`]; it sorts like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    is_v6: bool,
    upper: u64,
    lower: u64,
}

impl Address {
    /// The address.
    #[inline(always)]
    pub const fn new(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Address {
                is_v6: false,
                upper: 0,
                lower: address.to_bits() as u64,
            },
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                Address {
                    is_v6: true,
                    upper: (bits >> 64) as u64,
                    lower: bits as u64,
                }
            }
        }
    }

    /// The address.
    pub const fn ip(self) -> IpAddr {
        if self.is_v6 {
            IpAddr::V6(Ipv6Addr::from_bits((self.upper as u128) << 64 | self.lower as u128))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(self.lower as u32))
        }
    }
}

impl Tuple {
    /// The flow's key and this packet's direction within it. Flow labels and scopes of IPv6 addresses are no part of it.
    pub fn canonical(&self) -> (FlowKey, Direction) {
        FlowKey::of(
            self.endpoint,
            self.protocol,
            (Address::new(self.source.ip()), self.source.port()),
            (Address::new(self.destination.ip()), self.destination.port()),
        )
    }

    /// The tuple of a packet in the opposite direction.
    pub fn reversed(&self) -> Self {
        Tuple {
            source: self.destination,
            destination: self.source,
            ..*self
        }
    }
}

impl FlowKey {
    /// Words of a key.
    pub const WORDS: usize = 6;

    /// The key of a packet's flow and the packet's direction within it.
    #[inline(always)]
    pub fn of(
        endpoint: Option<u64>,
        protocol: u8,
        source: (Address, u16),
        destination: (Address, u16),
    ) -> (FlowKey, Direction) {
        let ((low, low_port), (high, high_port), direction) = if is_sorted(source, destination) {
            (source, destination, Direction::Forward)
        } else {
            (destination, source, Direction::Reverse)
        };
        let (endpoint, has_endpoint) = match endpoint {
            Some(id) => (id, HAS_ENDPOINT),
            None => (0, 0),
        };
        let flags = has_endpoint | (low.is_v6 as u64 * LOW_IS_V6) | (high.is_v6 as u64 * HIGH_IS_V6);
        let last = (low_port as u64) << 48 | (high_port as u64) << 32 | (protocol as u64) << 8 | flags;
        let key = FlowKey([endpoint, low.upper, low.lower, high.upper, high.lower, last]);
        (key, direction)
    }

    /// Whether both are the same key, without a call.
    #[inline(always)]
    pub const fn is(&self, other: &FlowKey) -> bool {
        let [a, b, c, d, e, f] = self.0;
        let [g, h, i, j, k, l] = other.0;
        (a ^ g) | (b ^ h) | (c ^ i) | (d ^ j) | (e ^ k) | (f ^ l) == 0
    }

    /// The key's words: all there is to hash and to compare.
    #[inline(always)]
    pub const fn words(&self) -> &[u64; FlowKey::WORDS] {
        &self.0
    }

    /// IP protocol number of the flow's transport.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.0[5] >> 8) as u8
    }

    /// Whether its lower end has an IPv6 address; in a packet's flow then both have.
    #[inline(always)]
    pub const fn is_v6(&self) -> bool {
        self.0[5] & LOW_IS_V6 != 0
    }

    /// The tuple of a packet that goes `direction` in this flow.
    pub const fn tuple(&self, direction: Direction) -> Tuple {
        let [endpoint, low_upper, low_lower, high_upper, high_lower, last] = self.0;
        let low = Address {
            is_v6: last & LOW_IS_V6 != 0,
            upper: low_upper,
            lower: low_lower,
        };
        let high = Address {
            is_v6: last & HIGH_IS_V6 != 0,
            upper: high_upper,
            lower: high_lower,
        };
        let low = SocketAddr::new(low.ip(), (last >> 48) as u16);
        let high = SocketAddr::new(high.ip(), (last >> 32) as u16);
        let (source, destination) = match direction {
            Direction::Forward => (low, high),
            Direction::Reverse => (high, low),
        };
        Tuple {
            endpoint: if last & HAS_ENDPOINT != 0 { Some(endpoint) } else { None },
            protocol: self.protocol(),
            source,
            destination,
        }
    }
}

/// Whether one end does not sort behind another.
#[inline(always)]
fn is_sorted(one: (Address, u16), other: (Address, u16)) -> bool {
    if one.0.is_v6 | other.0.is_v6 {
        one <= other
    } else {
        // IPv4, address and port, is one word.
        (one.0.lower << 16 | u64::from(one.1)) <= (other.0.lower << 16 | u64::from(other.1))
    }
}

impl Default for Tuple {
    fn default() -> Self {
        let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Tuple {
            endpoint: None,
            protocol: 0,
            source: unspecified,
            destination: unspecified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Addresses that often share a part, so that every field decides about the order at times.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..3, any::<bool>())
                .prop_map(|(low, high)| IpAddr::V4(Ipv4Addr::from_bits(low | u32::from(high) << 31))),
            (0u128..3, any::<bool>())
                .prop_map(|(low, high)| IpAddr::V6(Ipv6Addr::from_bits(low | u128::from(high) << 127))),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
    }

    fn tuple() -> impl Strategy<Value = Tuple> {
        let end = || (address(), 0u16..3).prop_map(|(address, port)| SocketAddr::new(address, port));
        (proptest::option::of(0u64..2), 0u8..3, end(), end()).prop_map(|(endpoint, protocol, source, destination)| {
            Tuple {
                endpoint,
                protocol,
                source,
                destination,
            }
        })
    }

    proptest! {
        #[test]
        fn a_key_is_as_good_as_its_tuple(one in tuple(), other in tuple()) {
            let (key, direction) = one.canonical();
            prop_assert_eq!(key.tuple(direction), one);
            prop_assert_eq!(key.tuple(direction.flipped()), one.reversed());
            prop_assert_eq!(direction == Direction::Forward, one.source <= one.destination);
            let same_flow = one == other || one == other.reversed();
            prop_assert_eq!(key == other.canonical().0, same_flow);
        }
    }

    #[test]
    fn both_directions_share_a_key() {
        let there = Tuple {
            endpoint: Some(7),
            protocol: 17,
            source: SocketAddr::from(([10, 0, 0, 2], 5004)),
            destination: SocketAddr::from(([10, 0, 0, 1], 5000)),
        };
        let (key, direction) = there.canonical();
        let (back_key, back_direction) = there.reversed().canonical();
        assert_eq!(key, back_key);
        assert_eq!(direction, back_direction.flipped());
        assert_eq!(key.tuple(direction), there);
        assert_eq!(key.tuple(back_direction), there.reversed());
    }

    #[test]
    fn endpoints_keep_overlapping_networks_apart() {
        let one = Tuple {
            endpoint: Some(1),
            ..Tuple::default()
        };
        let two = Tuple {
            endpoint: Some(2),
            ..Tuple::default()
        };
        assert_ne!(one.canonical().0, two.canonical().0);
    }
}
