//! Which rule takes a packet, in a time that hardly depends on how many rules there are and what they look like.
//!
//! A rule is a conjunction: transport, endpoint, source, destination and port must all fit. Each of these is an [`Axis`]: the
//! points where the set of fitting rules changes, each with that set as a bitmap in the order of the file. A look-up is a
//! binary search on each axis, and then the first bit that all five bitmaps have in common. (Bit vectors by field are Lakshman
//! and Stiliadis' scheme, the summary that skips empty blocks is Baboescu and Varghese's.)
//!
//! No rule is ever asked by itself, so no shape of policy is slow: of 16,384 rules 32 blocks of 512 bits are intersected at
//! most, of 10,000 it is 20.

mod axis;
mod bits;

use std::net::IpAddr;

use ipnet::IpNet;
use tidegate_common::flow::Tuple;

use super::MAX_RULES;
use super::rule::Rule;
use axis::{Axis, Fit, apart};
use bits::{Bitmaps, Builder, RuleSet};

const _: () = assert!(MAX_RULES <= bits::MAX_INDEXED);

/// The rules of a policy by everything that a packet is matched on.
#[derive(Clone, Debug)]
pub(super) struct Index {
    transport: Axis<u8>,
    endpoint: Axis<u64>,
    source: Addresses,
    /// A rule that lists no destination takes any.
    destination: Addresses,
    /// Ports that a rule lists, or any.
    own_port: Axis<u16>,
    /// Those and their companions.
    port: Axis<u16>,
    /// Ports that replies come from. Rules that take no replies are not on it.
    reply_port: Axis<u16>,
    bitmaps: Bitmaps,
}

/// The first rule that takes a packet in the rules' own direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its number.
    pub(super) rule: u32,
    /// The first rule, this or a later one, that takes the packet's port otherwise than as a companion.
    pub(super) own: Option<u32>,
}

impl Index {
    /// Indexes rules, at most [`MAX_RULES`] of them.
    pub(super) fn build<'r>(rules: impl Iterator<Item = &'r Rule> + Clone) -> Index {
        let mut builder = Builder::new(rules.clone().count());
        let numbered = || (0u32..).zip(rules.clone());
        let mut ports =
            |fit: fn(&Rule) -> Fit<u16>| Axis::build(&mut builder, numbered().map(|(id, rule)| (id, fit(rule))));
        let own_port = ports(|rule| or_anything(rule.ports.ranges().to_vec()));
        let port = ports(|rule| or_anything(rule.ports_with_companions()));
        let reply_port = ports(reply_ports);
        Index {
            transport: Axis::build(&mut builder, numbered().map(|(id, rule)| (id, transports(rule)))),
            endpoint: Axis::build(&mut builder, numbered().map(|(id, rule)| (id, endpoints(rule)))),
            source: Addresses::build(&mut builder, numbered, |rule| Some(&rule.sources)),
            destination: Addresses::build(&mut builder, numbered, |rule| {
                Some(&rule.destinations).filter(|listed| !listed.is_empty())
            }),
            own_port,
            port,
            reply_port,
            bitmaps: builder.finish(),
        }
    }

    /// The first rule that takes a packet in the rules' own direction.
    pub(super) fn forward(&self, tuple: &Tuple) -> Option<Found> {
        let port = tuple.destination.port();
        let mut sets = [
            self.port.at(port),
            self.source.at(tuple.source.ip()),
            self.destination.at(tuple.destination.ip()),
            self.transport.at(tuple.protocol),
            self.endpoint_of(tuple),
        ];
        let rule = self.bitmaps.first_common(&sets, 0)?;
        let own_port = self.own_port.at(port);
        if self.bitmaps.contains(own_port, rule) {
            return Some(Found { rule, own: Some(rule) });
        }
        let [first, ..] = &mut sets;
        *first = own_port;
        // Who takes the port as its own takes it at all, so none comes before.
        let own = self.bitmaps.first_common(&sets, rule + 1);
        Some(Found { rule, own })
    }

    /// The first rule that a packet may be a reply for.
    pub(super) fn reverse(&self, reply: &Tuple) -> Option<u32> {
        let sets = [
            self.reply_port.at(reply.source.port()),
            self.source.at(reply.destination.ip()),
            self.destination.at(reply.source.ip()),
            self.transport.at(reply.protocol),
            self.endpoint_of(reply),
        ];
        self.bitmaps.first_common(&sets, 0)
    }

    /// Whether any rule lists a source, whatever its destination.
    pub(super) fn lists_source(&self, source: IpAddr) -> bool {
        !self.bitmaps.is_empty(self.source.at(source))
    }

    /// Rules before this one that may take all that it lists: they take the corners of it. All that do are among them.
    pub(super) fn takers_of_corners(&self, number: u32, rule: &Rule) -> impl Iterator<Item = u32> {
        let transport = match rule.protocol.ip_transport() {
            Some(protocol) => self.transport.at(protocol),
            None => self.transport.anything(),
        };
        let mut sets = vec![transport];
        let ports = corners(rule.ports.ranges());
        sets.extend(ports.iter().map(|port| self.own_port.at(*port)));
        if ports.is_empty() {
            sets.push(self.own_port.anything());
        }
        sets.extend(
            [rule.endpoints.first(), rule.endpoints.last()]
                .into_iter()
                .flatten()
                .map(|id| self.endpoint.at(*id)),
        );
        if rule.endpoints.is_empty() {
            sets.push(self.endpoint.anything());
        }
        sets.extend(self.source.corners(&rule.sources));
        sets.extend(self.destination.corners(&rule.destinations));
        if rule.destinations.is_empty() {
            sets.push(self.destination.v4.anything());
        }
        let mut from = 0;
        std::iter::from_fn(move || {
            let taker = self.bitmaps.first_common(&sets, from).filter(|taker| *taker < number)?;
            from = taker + 1;
            Some(taker)
        })
    }

    fn endpoint_of(&self, tuple: &Tuple) -> RuleSet {
        match tuple.endpoint {
            Some(id) => self.endpoint.at(id),
            None => self.endpoint.anything(),
        }
    }
}

/// An axis for each address family.
#[derive(Clone, Debug)]
struct Addresses {
    v4: Axis<u32>,
    v6: Axis<u128>,
}

impl Addresses {
    /// The axes of the prefixes that rules list; `None` for a rule that takes any address.
    fn build<'r, R: Iterator<Item = (u32, &'r Rule)>>(
        builder: &mut Builder,
        rules: impl Fn() -> R,
        listed: fn(&Rule) -> Option<&Vec<IpNet>>,
    ) -> Self {
        fn fit<K>(listed: Option<&Vec<IpNet>>, range: fn(&IpNet) -> Option<(K, K)>) -> Fit<K> {
            listed.map_or(Fit::Anything, |prefixes| {
                Fit::Within(prefixes.iter().filter_map(range).collect())
            })
        }
        Addresses {
            v4: Axis::build(builder, rules().map(|(id, rule)| (id, fit(listed(rule), range_v4)))),
            v6: Axis::build(builder, rules().map(|(id, rule)| (id, fit(listed(rule), range_v6)))),
        }
    }

    fn at(&self, address: IpAddr) -> RuleSet {
        match address {
            IpAddr::V4(address) => self.v4.at(address.to_bits()),
            IpAddr::V6(address) => self.v6.at(address.to_bits()),
        }
    }

    /// The rules at the first and last address of these prefixes' first and last.
    fn corners(&self, prefixes: &[IpNet]) -> impl Iterator<Item = RuleSet> {
        let outermost = [prefixes.iter().min(), prefixes.iter().max()];
        let addresses = outermost
            .into_iter()
            .flatten()
            .flat_map(|prefix| [prefix.network(), prefix.broadcast()]);
        addresses.map(|address| self.at(address))
    }
}

fn range_v4(prefix: &IpNet) -> Option<(u32, u32)> {
    match prefix {
        IpNet::V4(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        IpNet::V6(_) => None,
    }
}

fn range_v6(prefix: &IpNet) -> Option<(u128, u128)> {
    match prefix {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
    }
}

fn or_anything(ranges: Vec<(u16, u16)>) -> Fit<u16> {
    if ranges.is_empty() {
        Fit::Anything
    } else {
        Fit::Within(ranges)
    }
}

fn transports(rule: &Rule) -> Fit<u8> {
    match rule.protocol.ip_transport() {
        Some(protocol) => Fit::Within(vec![(protocol, protocol)]),
        None => Fit::Anything,
    }
}

fn endpoints(rule: &Rule) -> Fit<u64> {
    match &rule.endpoints[..] {
        [] => Fit::Anything,
        ids => Fit::Within(ids.iter().map(|id| (*id, *id)).collect()),
    }
}

/// Where a rule's replies come from: [`Index::destination`] takes anywhere for a rule that lists no receivers, which here is
/// right for those only whose protocol needs replies.
fn reply_ports(rule: &Rule) -> Fit<u16> {
    let answered = !rule.destinations.is_empty() || rule.replies_from_anywhere();
    match rule.protocol.reply_offset().filter(|_| answered) {
        None => Fit::Within(Vec::new()),
        Some(_) if rule.ports.is_empty() => Fit::Anything,
        Some(offset) => Fit::Within(rule.ports.shifted(offset).collect()),
    }
}

/// The ends of the first and last of sorted ranges.
fn corners(ranges: &[(u16, u16)]) -> Vec<u16> {
    let outermost = [ranges.first(), ranges.last()];
    outermost
        .into_iter()
        .flatten()
        .flat_map(|(low, high)| [*low, *high])
        .collect()
}

/// Sorted ranges of each family that hold the addresses of these prefixes, for asking whether others lie within.
#[derive(Clone, Debug)]
pub(super) struct Union {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Union {
    /// The union of prefixes.
    pub(super) fn of(prefixes: &[IpNet]) -> Self {
        Union {
            v4: joined(prefixes.iter().filter_map(range_v4).collect()),
            v6: joined(prefixes.iter().filter_map(range_v6).collect()),
        }
    }

    /// Whether every address of the prefixes is in it.
    pub(super) fn holds_all(&self, prefixes: &[IpNet]) -> bool {
        let within_v4 = |prefix| range_v4(prefix).is_none_or(|range| holds(&self.v4, range));
        let within_v6 = |prefix| range_v6(prefix).is_none_or(|range| holds(&self.v6, range));
        prefixes.iter().all(|prefix| within_v4(prefix) && within_v6(prefix))
    }
}

/// Ranges that neither overlap nor touch.
fn joined<K: axis::Point>(ranges: Vec<(K, K)>) -> Vec<(K, K)> {
    let mut ranges = apart(ranges);
    ranges.dedup_by(|next, kept| {
        let touches = kept.1.next() == Some(next.0);
        if touches {
            kept.1 = next.1;
        }
        touches
    });
    ranges
}

fn holds<K: Ord>(ranges: &[(K, K)], (low, high): (K, K)) -> bool {
    let begun = ranges.partition_point(|(start, _)| *start <= low);
    begun
        .checked_sub(1)
        .and_then(|at| ranges.get(at))
        .is_some_and(|(_, end)| high <= *end)
}
