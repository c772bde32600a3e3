//! The kernel's prefixes: never less than the rules admit, and always the strictest action.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::sample::{ADDRESSES, any_rules, any_tuple, plain_rule};
use crate::policy::{DefaultAction, FailureAction, KernelPrefix, Policy, Protocol, Rule};

/// What the kernel does with a source: the longest prefix that holds it, as its tries look it up.
fn looked_up(prefixes: &[KernelPrefix], source: IpAddr, default: FailureAction) -> Option<FailureAction> {
    let longest = prefixes
        .iter()
        .filter(|entry| entry.prefix.contains(&source))
        .max_by_key(|e| e.prefix.prefix_len());
    longest.map(|entry| entry.wish.resolve(default))
}

fn strictness(action: FailureAction) -> u8 {
    match action {
        FailureAction::Return => 0,
        FailureAction::Pass => 1,
        FailureAction::Drop => 2,
    }
}

/// Whether a rule needs packets from this address: from its senders, or from its receivers where they answer.
fn concerns(rule: &Rule, address: IpAddr) -> bool {
    let has_source_like = rule
        .sources
        .iter()
        .any(|source| source.addr().is_ipv4() == address.is_ipv4());
    let answers = rule.protocol != Protocol::TsUdp;
    let needs = matches!(
        rule.protocol,
        Protocol::Srt | Protocol::Rist | Protocol::Rtmp | Protocol::Any
    );
    let open = rule.destinations.is_empty() && needs;
    rule.sources.iter().any(|source| source.contains(&address))
        || has_source_like && answers && (open || rule.destinations.iter().any(|to| to.contains(&address)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_strictest_action_of_every_rule_concerned_wins(
        rules in any_rules(),
        default in prop::sample::select(vec![FailureAction::Return, FailureAction::Drop, FailureAction::Pass]),
    ) {
        let prefixes = Policy::compile(DefaultAction::Drop, rules.clone()).kernel_prefixes();
        for address in ADDRESSES {
            let address: IpAddr = address.parse().unwrap();
            let wishes = rules.iter().filter(|rule| concerns(rule, address)).map(|rule| rule.on_failure.unwrap_or(default));
            let strictest = wishes.max_by_key(|action| strictness(*action));
            prop_assert_eq!(looked_up(&prefixes, address, default), strictest, "{}", address);
        }
        let mut unique: Vec<IpNet> = prefixes.iter().map(|entry| entry.prefix).collect();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), prefixes.len());
    }

    /// What a rule takes, in either direction, the kernel lets through to the worker.
    #[test]
    fn the_kernel_admits_what_the_rules_take(rules in any_rules(), tuples in prop::collection::vec(any_tuple(), 1..20)) {
        let policy = Policy::compile(DefaultAction::Drop, rules);
        let prefixes = policy.kernel_prefixes();
        // A packet's two addresses are of one family.
        for tuple in tuples.into_iter().filter(|tuple| tuple.source.is_ipv4() == tuple.destination.is_ipv4()) {
            let taken = policy.match_forward(&tuple).is_some() || policy.match_reverse(&tuple).is_some();
            let admitted = looked_up(&prefixes, tuple.source.ip(), FailureAction::Return).is_some();
            prop_assert!(admitted || !taken, "{:?}", tuple);
        }
    }
}

#[test]
fn a_rule_within_a_stricter_one_is_as_strict() {
    let rule = |source: &str, on_failure| Rule {
        on_failure,
        ..plain_rule(Protocol::TsUdp, vec![source.parse().unwrap()])
    };
    let rules = vec![
        rule("10.1.0.0/16", Some(FailureAction::Return)),
        rule("10.0.0.0/8", Some(FailureAction::Drop)),
        rule("10.1.2.0/24", None),
        rule("192.0.2.0/24", None),
        rule("192.0.2.7/32", Some(FailureAction::Pass)),
    ];
    let prefixes = Policy::compile(DefaultAction::Drop, rules).kernel_prefixes();
    let at = |address: &str, default| looked_up(&prefixes, address.parse().unwrap(), default);
    for default in [FailureAction::Return, FailureAction::Drop, FailureAction::Pass] {
        assert_eq!(at("10.1.2.3", default), Some(FailureAction::Drop));
        assert_eq!(at("10.1.3.3", default), Some(FailureAction::Drop));
        assert_eq!(at("192.0.2.8", default), Some(default));
        assert_eq!(at("198.51.100.1", default), None);
    }
    assert_eq!(at("192.0.2.7", FailureAction::Return), Some(FailureAction::Pass));
    assert_eq!(at("192.0.2.7", FailureAction::Drop), Some(FailureAction::Drop));
}

#[test]
fn receivers_are_admitted_where_the_protocol_answers() {
    let prefixes = |protocol, destinations: &[&str]| {
        let rule = Rule {
            destinations: destinations.iter().map(|text| text.parse().unwrap()).collect(),
            ..plain_rule(protocol, vec!["192.0.2.0/24".parse().unwrap()])
        };
        let entries = Policy::compile(DefaultAction::Drop, vec![rule]).kernel_prefixes();
        entries
            .into_iter()
            .map(|entry| entry.prefix.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        prefixes(Protocol::Srt, &["10.0.0.1/32", "fd00::1/128"]),
        ["10.0.0.1/32", "192.0.2.0/24"]
    );
    assert_eq!(prefixes(Protocol::TsUdp, &["10.0.0.1/32"]), ["192.0.2.0/24"]);
    assert_eq!(
        prefixes(Protocol::Rtp, &["10.0.0.1/32"]),
        ["10.0.0.1/32", "192.0.2.0/24"]
    );
    assert_eq!(prefixes(Protocol::Rtp, &[]), ["192.0.2.0/24"]);
    assert_eq!(prefixes(Protocol::Srt, &[]), ["0.0.0.0/0", "192.0.2.0/24"]);
}
