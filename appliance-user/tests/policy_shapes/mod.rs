//! Policies of any size in shapes that are hard on a matcher, and packets that their rules take or nearly take. Whoever
//! includes this file has the library's names in scope, by whatever path they are reached there.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Protocol, Rule, Tuple};

/// What the rules of a policy have in common, and what not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One source, another destination each.
    Destinations,
    /// One source and destination, another port each.
    Ports,
    /// Another source each, one destination.
    Sources,
    /// One source, another destination each, any port.
    AnyPort,
    /// Sources within each other at every length from 8 to 32, a hundred ports among them.
    Nested,
    /// The same in IPv6, at every length.
    Nested6,
    /// Neighbouring ports, so that the companions of each rule are listed by others.
    Companions,
    /// Another endpoint each.
    Endpoints,
    /// For one packet each rule fits in all but one thing, in turn source, destination and port; the last fits.
    NearMisses,
}

impl Shape {
    /// Every shape.
    pub(crate) const ALL: [Shape; 9] = [
        Shape::Destinations,
        Shape::Ports,
        Shape::Sources,
        Shape::AnyPort,
        Shape::Nested,
        Shape::Nested6,
        Shape::Companions,
        Shape::Endpoints,
        Shape::NearMisses,
    ];

    /// A policy of so many rules, as it is written.
    pub(crate) fn text(self, rules: u32) -> String {
        let mut text = "version = 1\ndefault_action = \"drop\"\n".to_owned();
        for number in 0..rules {
            let (protocol, keys) = self.rule(number, number + 1 == rules);
            write!(
                text,
                "[[rule]]\nname = \"r{number}\"\nprotocol = \"{protocol}\"\n{keys}\n"
            )
            .expect("a string takes everything");
        }
        text
    }

    fn rule(self, number: u32, is_last: bool) -> (&'static str, String) {
        let v4 = |base: u32, offset: u32| Ipv4Addr::from_bits(base + offset);
        let (ten, receivers) = (0x0a00_0000, 0xac10_0000);
        let one_source = "source = [\"10.0.0.0/8\"]";
        let one_port = "destination_port = [5000]";
        match self {
            Shape::Destinations => {
                let to = v4(receivers, number);
                ("rtp", format!("{one_source}\ndestination = [\"{to}\"]\n{one_port}"))
            }
            Shape::Ports => {
                let port = 1000 + number * 3;
                (
                    "srt",
                    format!("{one_source}\ndestination = [\"172.16.0.1\"]\ndestination_port = [{port}]"),
                )
            }
            Shape::Sources => {
                let from = v4(ten, number * 7);
                (
                    "rtp",
                    format!("source = [\"{from}\"]\ndestination = [\"172.16.0.1\"]\n{one_port}"),
                )
            }
            Shape::AnyPort => {
                let to = v4(receivers, number);
                ("any", format!("{one_source}\ndestination = [\"{to}\"]"))
            }
            Shape::Nested => {
                let length = 32 - number % 25;
                let from = v4(ten, (number / 25) << 8 & (u32::MAX << (32 - length)));
                let port = 5000 + number % 100 * 2;
                let keys = format!(
                    "source = [\"{from}/{length}\"]\ndestination = [\"172.16.0.0/12\"]\ndestination_port = [{port}]"
                );
                ("rist", keys)
            }
            Shape::Nested6 => {
                let length = 128 - number % 128;
                let low = u128::from(number / 128) << 32 | 0x55;
                let from = Ipv6Addr::from_bits((0x2001_0db8 << 96 | low) & (u128::MAX << (128 - length)));
                let port = 5000 + number % 300;
                let keys = format!(
                    "source = [\"{from}/{length}\"]\ndestination = [\"2001:db8:9::/48\"]\ndestination_port = [{port}]"
                );
                ("srt", keys)
            }
            Shape::Companions => {
                let port = 1000 + number % 30_000 * 2;
                (
                    "rtp-fec",
                    format!("{one_source}\ndestination = [\"172.16.0.1\"]\ndestination_port = [{port}]"),
                )
            }
            Shape::Endpoints => {
                let id = 1 + u64::from(number) * 0x1_0000_0001;
                (
                    "srt",
                    format!("{one_source}\ndestination = [\"172.16.0.1\"]\nendpoint = [{id}]"),
                )
            }
            Shape::NearMisses => {
                let miss = |turn| !is_last && number % 3 == turn;
                let from = if miss(0) { "10.1.0.0/16" } else { "10.0.0.0/16" };
                let to = if miss(1) { "172.17.0.0/16" } else { "172.16.0.0/16" };
                let port = if miss(2) { "\"6000-6010\"" } else { "\"5000-5010\"" };
                let keys = format!("source = [\"{from}\"]\ndestination = [\"{to}\"]\ndestination_port = [{port}]");
                ("ts-udp", keys)
            }
        }
    }
}

/// A packet to the first port that a rule lists and so many above it, from its first source to its first destination.
pub(crate) fn packet_of(rule: &Rule, above: u16) -> Tuple {
    let from = rule
        .sources
        .first()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |prefix| prefix.broadcast());
    let elsewhere = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    let to = rule.destinations.first().map_or(elsewhere, |prefix| prefix.network());
    let port = rule.ports.ranges().first().map_or(7000, |(low, _)| *low);
    Tuple {
        endpoint: rule.endpoints.first().copied(),
        protocol: if rule.protocol == Protocol::Rtmp { 6 } else { 17 },
        source: SocketAddr::new(from, 40_000),
        destination: SocketAddr::new(to, port.saturating_add(above)),
    }
}
