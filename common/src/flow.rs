//! The identity of a flow: GWLB endpoint and inner 5-tuple, canonical so that both directions share one key.
//!
//! The endpoint belongs to the key because VPCs behind one load balancer may overlap, and because one packet may cross
//! two endpoints.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

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

/// The canonical key of a flow: `low` sorts before `high`, so both directions of a conversation give the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    endpoint: Option<u64>,
    protocol: u8,
    low: SocketAddr,
    high: SocketAddr,
}

impl Tuple {
    /// The flow's key and this packet's direction within it.
    pub fn canonical(&self) -> (FlowKey, Direction) {
        let (low, high, direction) = if self.source <= self.destination {
            (self.source, self.destination, Direction::Forward)
        } else {
            (self.destination, self.source, Direction::Reverse)
        };
        (
            FlowKey {
                endpoint: self.endpoint,
                protocol: self.protocol,
                low,
                high,
            },
            direction,
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
    /// IP protocol number of the flow's transport.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The tuple of a packet that goes `direction` in this flow.
    pub fn tuple(&self, direction: Direction) -> Tuple {
        let (source, destination) = match direction {
            Direction::Forward => (self.low, self.high),
            Direction::Reverse => (self.high, self.low),
        };
        Tuple {
            endpoint: self.endpoint,
            protocol: self.protocol,
            source,
            destination,
        }
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
