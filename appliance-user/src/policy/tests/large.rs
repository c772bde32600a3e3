//! Policies of ten thousand rules, in shapes that are hard on a matcher: every packet finds the rule that asking all of them
//! in turn finds.

#[path = "../../../tests/policy_shapes/mod.rs"]
mod shapes;

use proptest::prelude::*;
use tidegate_common::flow::Tuple;

use super::matching::{id, naive_forward, naive_reverse};
use super::sample::{any_rules, any_tuple};
use crate::policy::{DefaultAction, MAX_RULES, Policy, Protocol, Rule, parse};
use shapes::{Shape, packet_of};

const RULES: u32 = 10_000;

/// Compares for one packet, its reply, and the packet as it would be if the ports were turned round.
fn compare(policy: &Policy, packet: &Tuple) {
    let rules = policy.rules();
    for tuple in [*packet, packet.reversed()] {
        assert_eq!(
            policy.match_forward(&tuple),
            id(naive_forward(rules, &tuple)),
            "forward {tuple:?}"
        );
        assert_eq!(
            policy.match_reverse(&tuple),
            id(naive_reverse(rules, &tuple)),
            "reverse {tuple:?}"
        );
    }
}

#[test]
fn ten_thousand_rules_of_every_shape_agree_with_asking_each() {
    for shape in Shape::ALL {
        let policy = parse("p.toml", &shape.text(RULES)).unwrap_or_else(|errors| panic!("{shape:?}: {errors}"));
        assert_eq!(policy.rules().len(), RULES as usize);
        // Both sides of a border between blocks of bits among them.
        for number in [0, 511, 512, 4_321, 9_999] {
            for above in [0, 1, 2] {
                compare(&policy, &packet_of(&policy.rules()[number], above));
            }
        }
    }
}

#[test]
fn the_last_of_rules_that_nearly_fit_is_found() {
    let policy = parse("p.toml", &Shape::NearMisses.text(MAX_RULES as u32)).expect("a sound policy");
    let last = policy.rules().last().expect("rules");
    let found = policy.match_forward(&packet_of(last, 0)).expect("the last takes it");
    assert_eq!(found.0 as usize, MAX_RULES - 1);
    // Every second of three shadows those like it, and that is told of each but the first of its kind.
    assert_eq!(policy.warnings().len(), MAX_RULES - 4);
}

#[test]
fn no_shape_of_rules_that_do_not_shadow_each_other_is_called_shadowed() {
    for shape in [
        Shape::Destinations,
        Shape::Ports,
        Shape::Sources,
        Shape::AnyPort,
        Shape::Endpoints,
    ] {
        let policy = parse("p.toml", &shape.text(RULES)).expect("a sound policy");
        let shadowed = policy
            .warnings()
            .iter()
            .filter(|warning| warning.message.contains("never sees"))
            .count();
        assert_eq!(shadowed, 0, "{shape:?}");
    }
}

/// Rules that overlap a lot, so many times over that they fill several blocks of bits, with others between them.
fn many_rules() -> impl Strategy<Value = Vec<Rule>> {
    (prop::collection::vec(any_rules(), 1..6), 1usize..260).prop_map(|(groups, times)| {
        let shape = |number: usize| parse("p.toml", &Shape::ALL[number % Shape::ALL.len()].text(3)).expect("sound");
        let filling: Vec<Rule> = (0..times).flat_map(|number| shape(number).rules().to_vec()).collect();
        let mut groups = groups.into_iter();
        let mut rules: Vec<Rule> = groups.next().into_iter().flatten().collect();
        let chunk = filling.len() / 4 + 1;
        for between in filling.chunks(chunk) {
            rules.extend(between.iter().cloned());
            rules.extend(groups.next().into_iter().flatten());
        }
        rules
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn many_rules_agree_with_asking_each(rules in many_rules(), tuples in prop::collection::vec(any_tuple(), 1..30)) {
        let policy = Policy::compile(DefaultAction::Drop, rules);
        for tuple in tuples {
            compare(&policy, &tuple);
        }
    }
}
