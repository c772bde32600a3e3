//! The inner 5-tuple: what stickiness, entropy port and per-flow counters go by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Fixed header lengths, RFC 791 and RFC 8200.
const IPV6_HEADER: usize = 40;
const IPV4_MINIMUM: usize = 20;
/// IPv6 extension headers followed at most.
const MAX_EXTENSIONS: usize = 8;

/// A flow's identity, one direction. Ports are 0 for protocols without them and for fragments, which carry them only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// IP protocol number (for IPv6 the last next-header value).
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

impl Tuple {
    /// Reads the tuple of a packet that starts at its IP header; none if it is not whole enough to have one.
    pub fn of(packet: &[u8]) -> Option<Tuple> {
        match packet.first()? >> 4 {
            4 => v4(packet),
            6 => v6(packet),
            _ => None,
        }
    }

    /// The two endpoints in an order that both directions share.
    pub fn canonical(&self) -> Tuple {
        if (self.source, self.source_port) <= (self.destination, self.destination_port) {
            return *self;
        }
        Tuple {
            protocol: self.protocol,
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }

    /// Whether a packet of this flow stays on its own link: no router forwards it, so a load balancer never sees it.
    /// Multicast listener reports, router solicitations and the like.
    pub fn is_link_local(&self) -> bool {
        let link_local = |address: IpAddr| match address {
            // RFC 5771, 4; RFC 3927.
            IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]) || v4.is_link_local() || v4.is_broadcast(),
            // RFC 4291, 2.5.6 and 2.7: scopes 1 and 2.
            IpAddr::V6(v6) => v6.is_unicast_link_local() || matches!(v6.segments(), [0xff01 | 0xff02, ..]),
        };
        link_local(self.source) || link_local(self.destination) || self.source.is_unspecified()
    }

    /// The protocol's name for reports.
    pub fn protocol_name(&self) -> String {
        match self.protocol {
            TCP => "tcp".to_owned(),
            UDP => "udp".to_owned(),
            1 => "icmp".to_owned(),
            58 => "icmpv6".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether GWLB's idle time-out for TCP applies.
    pub const fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn v4(packet: &[u8]) -> Option<Tuple> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if header < IPV4_MINIMUM {
        return None;
    }
    let protocol = *packet.get(9)?;
    let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    let destination: [u8; 4] = *packet.get(16..)?.first_chunk()?;
    // More-fragments flag or a fragment offset.
    let fragment = word(packet, 6)? & 0x3fff != 0;
    let addresses = (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into());
    tuple(protocol, addresses, fragment, packet.get(header..)?)
}

fn v6(packet: &[u8]) -> Option<Tuple> {
    let mut protocol = *packet.get(6)?;
    let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *packet.get(24..)?.first_chunk()?;
    let mut at = IPV6_HEADER;
    let mut fragment = false;
    for _ in 0..MAX_EXTENSIONS {
        // Hop-by-hop, routing and destination options have their length in 8-byte units; the fragment header is 8 bytes.
        let length = match protocol {
            0 | 43 | 60 => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            44 => {
                fragment |= word(packet, at + 2)? & 0xfff9 != 0;
                8
            }
            _ => break,
        };
        protocol = *packet.get(at)?;
        at += length;
    }
    let addresses = (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into());
    tuple(protocol, addresses, fragment, packet.get(at..)?)
}

/// The tuple of a packet with these addresses, sender first; `transport` is what comes after the IP headers.
fn tuple(protocol: u8, addresses: (IpAddr, IpAddr), fragment: bool, transport: &[u8]) -> Option<Tuple> {
    let (source_port, destination_port) = if fragment || !matches!(protocol, TCP | UDP) {
        (0, 0)
    } else {
        (word(transport, 0)?, word(transport, 2)?)
    };
    let (source, destination) = addresses;
    Some(Tuple {
        protocol,
        source,
        source_port,
        destination,
        destination_port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_udp() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x13, 0x88, 0x13, 0x89, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn reads_ipv4_with_and_without_options() {
        let tuple = Tuple::of(&v4_udp()).expect("tuple");
        assert_eq!(
            (tuple.source_port, tuple.destination_port, tuple.protocol),
            (5000, 5001, 17)
        );
        let mut packet = v4_udp();
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 0]);
        assert_eq!(Tuple::of(&packet), Some(tuple));
    }

    #[test]
    fn all_fragments_of_a_datagram_share_a_tuple() {
        let (mut first, mut second) = (v4_udp(), v4_udp());
        first[6] = 0x20;
        second[7] = 1;
        second[20] = 0xff;
        assert_eq!(Tuple::of(&first), Tuple::of(&second));
        assert_eq!(Tuple::of(&first).expect("tuple").source_port, 0);
    }

    #[test]
    fn reads_ipv6_behind_extension_headers() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend([0x13, 0x88, 0x13, 0x89, 0, 8, 0, 0]);
        let tuple = Tuple::of(&packet).expect("tuple");
        assert_eq!(
            (tuple.protocol, tuple.source_port, tuple.destination_port),
            (17, 5000, 5001)
        );
    }

    #[test]
    fn both_directions_have_one_canonical_form() {
        let there = Tuple::of(&v4_udp()).expect("tuple");
        let back = Tuple {
            source: there.destination,
            source_port: there.destination_port,
            destination: there.source,
            destination_port: there.source_port,
            ..there
        };
        assert_eq!(there.canonical(), back.canonical());
    }

    #[test]
    fn what_no_router_forwards_is_known() {
        let tuple = Tuple::of(&v4_udp()).expect("tuple");
        let to = |address: &str| {
            Tuple {
                destination: address.parse().expect("address"),
                ..tuple
            }
            .is_link_local()
        };
        assert!(!to("10.0.0.2") && !to("239.1.1.1") && !to("fd00::1") && !to("ff0e::1"));
        assert!(to("224.0.0.22") && to("169.254.169.254") && to("ff02::16") && to("fe80::1"));
        assert!(
            Tuple {
                source: "::".parse().expect("address"),
                ..tuple
            }
            .is_link_local()
        );
    }

    #[test]
    fn cut_packets_have_no_tuple() {
        let packet = v4_udp();
        assert!((0..24).all(|length| Tuple::of(&packet[..length]).is_none()));
        assert_eq!(Tuple::of(&[0x70; 40]), None);
    }
}
