//! The compiled matcher against one that asks every rule in turn, and the cases that the documentation promises.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use tidegate_common::flow::Tuple;

use super::sample::{any_rules, any_tuple, plain_rule, tuple};
use crate::policy::rule::{Companion, PortRole};
use crate::policy::set::PortSet;
use crate::policy::{DefaultAction, Policy, Protocol, Rule, RuleId};

/// Whether the first `length` bits agree; on the addresses' bits, not by ipnet.
fn in_prefix(net: &IpNet, address: IpAddr) -> bool {
    let (net_bits, bits, width) = match (net.addr(), address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (u128::from(net.to_bits()), u128::from(address.to_bits()), 32),
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    (0..u32::from(net.prefix_len())).all(|bit| net_bits >> (width - 1 - bit) & 1 == bits >> (width - 1 - bit) & 1)
}

fn in_any(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| in_prefix(net, address))
}

fn lists_port(rule: &Rule, port: i32) -> bool {
    rule.ports
        .ranges()
        .iter()
        .any(|(low, high)| (i32::from(*low)..=i32::from(*high)).contains(&port))
}

fn common(rule: &Rule, tuple: &Tuple) -> bool {
    let transport = if rule.protocol == Protocol::Rtmp { 6 } else { 17 };
    (rule.protocol == Protocol::Any || tuple.protocol == transport)
        && (rule.endpoints.is_empty() || tuple.endpoint.is_some_and(|id| rule.endpoints.contains(&id)))
}

fn addressed(rule: &Rule, tuple: &Tuple) -> bool {
    common(rule, tuple)
        && in_any(&rule.sources, tuple.source.ip())
        && (rule.destinations.is_empty() || in_any(&rule.destinations, tuple.destination.ip()))
}

fn lists(rule: &Rule, tuple: &Tuple) -> bool {
    addressed(rule, tuple) && lists_port(rule, i32::from(tuple.destination.port()))
}

fn accompanies(rule: &Rule, tuple: &Tuple) -> bool {
    let offsets: &[i32] = match rule.protocol {
        Protocol::Rtp | Protocol::Rist => &[1],
        Protocol::RtpFec => &[1, 2, 4],
        _ => &[],
    };
    let port = i32::from(tuple.destination.port());
    addressed(rule, tuple) && offsets.iter().any(|offset| lists_port(rule, port - offset))
}

pub(super) fn naive_forward(rules: &[Rule], tuple: &Tuple) -> Option<usize> {
    for (at, rule) in rules.iter().enumerate() {
        if lists(rule, tuple) || (rule.ports.is_empty() && addressed(rule, tuple)) {
            return Some(at);
        }
        if accompanies(rule, tuple) {
            for (later_at, later) in rules.iter().enumerate().skip(at + 1) {
                if lists(later, tuple) {
                    return Some(later_at);
                }
                if later.ports.is_empty() && addressed(later, tuple) {
                    break;
                }
            }
            return Some(at);
        }
    }
    None
}

pub(super) fn naive_reverse(rules: &[Rule], reply: &Tuple) -> Option<usize> {
    rules.iter().position(|rule| {
        let offset = match rule.protocol {
            Protocol::Srt | Protocol::Rtmp | Protocol::Any => 0,
            Protocol::Rtp | Protocol::RtpFec | Protocol::Rist => 1,
            Protocol::TsUdp => return false,
        };
        let anywhere = matches!(
            rule.protocol,
            Protocol::Srt | Protocol::Any | Protocol::Rist | Protocol::Rtmp
        );
        let from_receiver = match rule.destinations.is_empty() {
            true => anywhere,
            false => in_any(&rule.destinations, reply.source.ip()),
        };
        common(rule, reply)
            && from_receiver
            && in_any(&rule.sources, reply.destination.ip())
            && (rule.ports.is_empty() || lists_port(rule, i32::from(reply.source.port()) - offset))
    })
}

pub(super) fn id(at: Option<usize>) -> Option<RuleId> {
    at.map(|at| RuleId(u32::try_from(at).unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_asking_every_rule(rules in any_rules(), tuples in prop::collection::vec(any_tuple(), 1..20)) {
        let policy = Policy::compile(DefaultAction::Drop, rules.clone());
        for tuple in tuples {
            prop_assert_eq!(policy.match_forward(&tuple), id(naive_forward(&rules, &tuple)), "forward {:?}", tuple);
            prop_assert_eq!(policy.match_reverse(&tuple), id(naive_reverse(&rules, &tuple)), "reverse {:?}", tuple);
            let listed = rules.iter().any(|rule| in_any(&rule.sources, tuple.source.ip()));
            prop_assert_eq!(policy.source_listed(tuple.source.ip()), listed);
        }
    }
}

fn rule(protocol: Protocol, ports: &[(u16, u16)]) -> Rule {
    Rule {
        destinations: vec!["10.0.0.0/8".parse().unwrap()],
        ports: PortSet::new(ports.iter().copied()),
        ..plain_rule(protocol, vec!["192.0.2.0/24".parse().unwrap()])
    }
}

fn policy(rules: &[Rule]) -> Policy {
    Policy::compile(DefaultAction::Drop, rules.to_vec())
}

/// Which destination ports from 4999 to 5005 the rules take over UDP, and which of them.
fn forward_ports(policy: &Policy) -> Vec<(u16, u32)> {
    let taken = |port| {
        let packet = tuple(17, "192.0.2.1:40000", &format!("10.0.0.1:{port}"));
        policy.match_forward(&packet).map(|rule| (port, rule.0))
    };
    (4999..=5005).filter_map(taken).collect()
}

/// Which source ports from 4999 to 5005 the rules take replies from.
fn reply_ports(policy: &Policy) -> Vec<u16> {
    let taken = |port: &u16| {
        let reply = tuple(17, &format!("10.0.0.1:{port}"), "192.0.2.1:40000");
        policy.match_reverse(&reply).is_some()
    };
    (4999..=5005).filter(taken).collect()
}

#[test]
fn companions_and_replies_of_each_protocol() {
    let table: [(Protocol, &[u16], &[u16]); 6] = [
        (Protocol::Rtp, &[5000, 5001], &[5001]),
        (Protocol::RtpFec, &[5000, 5001, 5002, 5004], &[5001]),
        (Protocol::Rist, &[5000, 5001], &[5001]),
        (Protocol::Srt, &[5000], &[5000]),
        (Protocol::TsUdp, &[5000], &[]),
        (Protocol::Any, &[5000], &[5000]),
    ];
    for (protocol, forward, replies) in table {
        let policy = policy(&[rule(protocol, &[(5000, 5000)])]);
        let taken: Vec<u16> = forward_ports(&policy).into_iter().map(|(port, _)| port).collect();
        assert_eq!(taken, forward, "{protocol:?}");
        assert_eq!(reply_ports(&policy), replies, "{protocol:?}");
    }
}

#[test]
fn a_companion_yields_to_a_later_rule_that_lists_the_port_but_not_to_one_that_lists_none() {
    let neighbours = policy(&[
        rule(Protocol::RtpFec, &[(5000, 5000)]),
        rule(Protocol::Srt, &[(5002, 5002)]),
    ]);
    assert_eq!(forward_ports(&neighbours), [(5000, 0), (5001, 0), (5002, 1), (5004, 0)]);
    let catch_all = policy(&[rule(Protocol::Rist, &[(5000, 5000)]), rule(Protocol::Any, &[])]);
    assert_eq!(
        forward_ports(&catch_all)[..4],
        [(4999, 1), (5000, 0), (5001, 0), (5002, 1)]
    );
    let between = policy(&[
        rule(Protocol::Rist, &[(5000, 5000)]),
        rule(Protocol::Any, &[]),
        rule(Protocol::Srt, &[(5001, 5001)]),
    ]);
    assert_eq!(
        forward_ports(&between)[..4],
        [(4999, 1), (5000, 0), (5001, 0), (5002, 1)]
    );
}

#[test]
fn ports_have_roles() {
    let companion = |kind, media| Some(PortRole::Companion { kind, media });
    let fec = rule(Protocol::RtpFec, &[(5000, 5000), (5010, 5010)]);
    assert_eq!(fec.port_role(5000), Some(PortRole::Media));
    assert_eq!(fec.port_role(5001), companion(Companion::Rtcp, 5000));
    assert_eq!(fec.port_role(5002), companion(Companion::FecColumn, 5000));
    assert_eq!(fec.port_role(5014), companion(Companion::FecRow, 5010));
    assert_eq!(fec.port_role(5003), None);
    assert_eq!(fec.port_role(0), None);
    assert_eq!(rule(Protocol::Srt, &[]).port_role(7), Some(PortRole::Media));
    // The last port has no companion above it, and nothing wraps around.
    let last = rule(Protocol::Rist, &[(65535, 65535)]);
    assert_eq!(
        (last.port_role(65535), last.port_role(0)),
        (Some(PortRole::Media), None)
    );
}

#[test]
fn transports_and_endpoints_are_kept_apart() {
    let bound = Rule {
        endpoints: vec![1, 7],
        ..rule(Protocol::Srt, &[(5000, 5000)])
    };
    let any = rule(Protocol::Any, &[]);
    let policy = policy(&[bound, any]);
    let packet = tuple(17, "192.0.2.1:40000", "10.0.0.1:5000");
    let at = |endpoint, protocol| {
        policy
            .match_forward(&Tuple {
                endpoint,
                protocol,
                ..packet
            })
            .map(|rule| rule.0)
    };
    assert_eq!(at(Some(7), 17), Some(0));
    assert_eq!(at(Some(8), 17), Some(1));
    assert_eq!(at(None, 17), Some(1));
    assert_eq!(at(Some(7), 6), Some(1));
    assert_eq!(at(Some(7), 1), Some(1));
}

#[test]
fn replies_without_a_listed_destination_come_only_where_they_are_needed() {
    let reply = tuple(17, "198.51.100.1:5000", "192.0.2.1:40000");
    let report = tuple(17, "198.51.100.1:5001", "192.0.2.1:40000");
    for (protocol, packet, taken) in [
        (Protocol::Srt, reply, true),
        (Protocol::Rist, report, true),
        (Protocol::Any, reply, true),
        (Protocol::Rtp, report, false),
        (Protocol::RtpFec, report, false),
        (Protocol::TsUdp, reply, false),
    ] {
        let open = Rule {
            destinations: Vec::new(),
            ..rule(protocol, &[(5000, 5000)])
        };
        assert_eq!(policy(&[open]).match_reverse(&packet).is_some(), taken, "{protocol:?}");
    }
}

#[test]
fn observing_all_admits_everything_under_no_rule() {
    let policy = Policy::observe_all();
    let packet = tuple(17, "192.0.2.1:40000", "10.0.0.1:5000");
    assert!(policy.observes_all());
    assert_eq!(policy.default_action(), DefaultAction::Return);
    assert_eq!(
        (policy.match_forward(&packet), policy.match_reverse(&packet)),
        (None, None)
    );
    assert!(policy.rules().is_empty() && policy.kernel_prefixes().is_empty() && policy.warnings().is_empty());
}

#[test]
fn a_policy_may_be_shared_between_workers() {
    fn shared<T: Send + Sync>() {}
    shared::<Policy>();
}
