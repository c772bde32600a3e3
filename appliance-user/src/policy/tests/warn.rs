//! Warnings: what is accepted but probably not meant.

use proptest::prelude::*;

use super::sample::{any_rules, any_tuple, design_for_srt};
use crate::policy::diagnostic::{At, Collector};
use crate::policy::index::Index;
use crate::policy::rule::PortRole;
use crate::policy::{DefaultAction, Policy, parse, review};

const HEAD: &str = "version = 1\ndefault_action = \"drop\"\n";

/// A rule of five lines and more, its sources in line 4.
fn rule(name: &str, protocol: &str, source: &str, more: &str) -> String {
    format!("[[rule]]\nname = {name:?}\nprotocol = {protocol:?}\nsource = [{source}]\n{more}\n")
}

/// Checks that the text is accepted with these warnings and no others.
fn warned(text: &str, expected: &[(usize, usize, &str)]) {
    let policy = parse("p.toml", text).unwrap_or_else(|errors| panic!("refused:\n{errors}"));
    let places: Vec<_> = policy.warnings().iter().map(|w| (w.line, w.column)).collect();
    let expected_places: Vec<_> = expected.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, expected_places, "{:#?}\n{text}", policy.warnings());
    for (warning, (_, _, part)) in policy.warnings().iter().zip(expected) {
        assert!(warning.to_string().contains(part), "{part:?} is not in {warning}");
    }
}

#[test]
fn the_design_itself_has_two() {
    warned(
        &design_for_srt(),
        &[
            (
                4,
                1,
                "the IPv6 sources of rule \"contribution\" never match: it has no IPv6 destination",
            ),
            (
                27,
                32,
                "at most 3 fit into 1s; set max_incidents to 2 at most, or window to 2500ms at least",
            ),
        ],
    );
}

#[test]
fn limits_beyond_reach() {
    let with = |limit: &str| {
        format!(
            "{HEAD}{}",
            rule("a", "rtp", "\"192.0.2.1\"", &format!("ts = {{ {limit} }}"))
        )
    };
    warned(&with("continuity = { max_incidents = 2, window = \"1s\" }"), &[]);
    warned(
        &with("continuity = { max_incidents = 3, window = \"1s\" }"),
        &[(7, 39, "can never be exceeded")],
    );
    warned(
        &with("continuity = { max_incidents = 1, window = \"499ms\" }"),
        &[(7, 39, "at most 1 fit into 499ms")],
    );
    warned(&with("continuity = { max_incidents = 1, window = \"500ms\" }"), &[]);
    warned(&with("continuity = { max_incidents = 20 }"), &[]);
    warned(
        &with("continuity = { max_incidents = 21 }"),
        &[(7, 39, "at most 21 fit into 10s")],
    );
    warned(
        &with("continuity = { max_incidents = 4294967295 }"),
        &[(7, 39, "can never be exceeded")],
    );
    let bare = format!(
        "{HEAD}{}",
        rule("a", "ts-udp", "\"192.0.2.1\"", "ts = { network_loss = {} }")
    );
    warned(&bare, &[(7, 8, "ts-udp has no sequence numbers")]);
}

#[test]
fn what_the_judge_could_never_find() {
    let with = |protocol: &str, line: &str| {
        let more = format!("destination = [\"10.0.0.1\"]\n{line}");
        format!("{HEAD}{}", rule("a", protocol, "\"192.0.2.1\"", &more))
    };
    let table: &[(&str, &str, usize, &str)] = &[
        ("rtp", "ts = { null_packets = { max_percent = 99 } }", 0, ""),
        (
            "rtp",
            "ts = { null_packets = { max_percent = 100 } }",
            39,
            "can never be exceeded",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [256] } }",
            27,
            "leaves out PID 0, the PAT",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [\"0-256\"], required = [256, 8191] } }",
            0,
            "",
        ),
        (
            "rtp",
            "ts = { scte35 = { bad_crc = false, unannounced = false } }",
            0,
            "",
        ),
        (
            "rtp",
            "ts = { scte35 = { bad_crc = false, unannounced = false, on_exceed = \"block\" } }",
            69,
            "can never come to pass",
        ),
        ("rtp", "ts = { scte35 = { on_exceed = \"block\" } }", 0, ""),
        (
            "srt",
            "srt = { encryption = \"required\" }",
            22,
            "nothing is seen of the encrypted transport stream",
        ),
        (
            "srt",
            "srt = { encryption = \"required\", passphrase_file = \"/p\" }",
            0,
            "",
        ),
        ("srt", "srt = { encryption = \"optional\" }", 0, ""),
        (
            "srt",
            "srt = { stream_id = [\"live/*\"], passphrase_file = { \"vod/1\" = \"/p\", \"v*\" = \"/q\" } }",
            53,
            "stream_id does not admit \"vod/1\", so its passphrase is never used",
        ),
        (
            "srt",
            "srt = { stream_id = [\"live/*\"], passphrase_file = { \"live/1\" = \"/p\" } }",
            0,
            "",
        ),
    ];
    for (protocol, line, column, part) in table {
        match column {
            0 => warned(&with(protocol, line), &[]),
            _ => warned(&with(protocol, line), &[(8, *column, part)]),
        }
    }
}

#[test]
fn thresholds_looser_than_the_standard() {
    let with = |limit: &str| {
        format!(
            "{HEAD}{}",
            rule("a", "rtp", "\"192.0.2.1\"", &format!("ts.tr101290 = {limit}"))
        )
    };
    warned(
        &with("{ thresholds = { pat = \"500ms\", pcr_repetition = \"40ms\" } }"),
        &[],
    );
    warned(
        &with("{ thresholds = { pat = \"501ms\" } }"),
        &[(7, 38, "pat is looser than the 500ms of TR 101 290")],
    );
    warned(
        &with("{ thresholds = { pcr_accuracy = \"1us\" } }"),
        &[(7, 47, "pcr_accuracy is looser than the 500ns")],
    );
    // The gap between sections is bounded from below.
    warned(&with("{ priority = 3, thresholds = { section_gap = \"26ms\" } }"), &[]);
    warned(
        &with("{ priority = 3, thresholds = { section_gap = \"24ms\" } }"),
        &[(7, 60, "section_gap is looser than the 25ms")],
    );
    warned(
        &with("{ thresholds = { nit = \"1s\" } }"),
        &[(
            7,
            38,
            "nit is of priority 3, which this limit with its priority = 2 does not count",
        )],
    );
    warned(
        &with("{ priority = 1, thresholds = { pts = \"600ms\" } }"),
        &[(7, 52, "pts is of priority 2")],
    );
}

#[test]
fn prefixes_that_repeat() {
    let with = |list: &str| format!("{HEAD}{}", rule("a", "rtp", list, ""));
    warned(
        &with(r#""10.0.0.1", "10.0.0.1""#),
        &[(6, 23, "10.0.0.1/32 stands in this list already, at line 6")],
    );
    warned(
        &with(r#""10.0.0.1", "10.0.0.0/8", "::1""#),
        &[(6, 11, "10.0.0.1/32 is covered by 10.0.0.0/8")],
    );
    warned(&with(r#""10.0.0.0/9", "10.128.0.0/9""#), &[]);
}

#[test]
fn a_policy_without_rules() {
    warned(HEAD, &[(1, 1, "the policy has no rule")]);
}

#[test]
fn replies_from_anywhere_open_the_kernel() {
    let with = |protocol: &str, source: &str, more: &str| format!("{HEAD}{}", rule("a", protocol, source, more));
    warned(
        &with("srt", "\"192.0.2.1\"", ""),
        &[(3, 1, "the kernel must admit 0.0.0.0/0 for the replies")],
    );
    warned(
        &with("any", "\"192.0.2.1\", \"::1\"", ""),
        &[(3, 1, "must admit 0.0.0.0/0 and ::/0")],
    );
    warned(&with("srt", "\"0.0.0.0/0\"", ""), &[]);
    warned(&with("rtp", "\"192.0.2.1\"", ""), &[]);
    warned(&with("srt", "\"192.0.2.1\"", "destination = [\"10.0.0.1\"]"), &[]);
    warned(
        &with("rtmp", "\"192.0.2.1\"", ""),
        &[(3, 1, "for the replies of protocol \"rtmp\"")],
    );
}

#[test]
fn shadowed_rules() {
    let pair = |first: (&str, &str, &str), second: (&str, &str, &str)| {
        let (protocol, source, more) = first;
        let one = rule("a", protocol, source, more);
        let (protocol, source, more) = second;
        format!("{HEAD}{one}{}", rule("b", protocol, source, more))
    };
    let shadowed: &[(usize, usize, &str)] = &[(
        8,
        1,
        "rule \"b\" never sees what it lists: rule \"a\" of line 3 takes all of it",
    )];
    let inside = ("ts-udp", "\"10.1.0.0/16\"", "destination_port = [5001]");
    warned(&pair(("rtp", "\"10.0.0.0/8\"", ""), inside), shadowed);
    warned(
        &pair(("rtp", "\"10.0.0.0/8\"", "destination_port = [\"5000-5010\"]"), inside),
        shadowed,
    );
    warned(
        &pair(("rtp", "\"10.1.0.0/17\", \"10.1.128.0/17\"", ""), inside),
        shadowed,
    );
    // A companion port yields, another port, endpoint, transport or network is another one.
    warned(
        &pair(("rtp", "\"10.0.0.0/8\"", "destination_port = [5000]"), inside),
        &[],
    );
    warned(&pair(("rtp", "\"10.0.0.0/8\"", "endpoint = [1]"), inside), &[]);
    warned(
        &pair(("rtp", "\"10.0.0.0/8\"", "destination = [\"10.0.0.1\"]"), inside),
        &[],
    );
    warned(&pair(("rtp", "\"10.1.0.0/17\"", ""), inside), &[]);
    warned(&pair(inside, ("rtp", "\"10.0.0.0/8\"", "")), &[]);
    let rtmp = ("rtmp", "\"10.1.0.0/16\"", "destination = [\"10.0.0.1\"]");
    warned(&pair(("rtp", "\"10.0.0.0/8\"", ""), rtmp), &[]);
    warned(
        &pair(rtmp, ("rtp", "\"10.1.2.0/24\"", "destination = [\"10.0.0.1\"]")),
        &[],
    );
    warned(&pair(rtmp, rtmp), shadowed);
    let any = ("any", "\"10.1.0.0/16\"", "destination = [\"10.0.0.1\"]");
    warned(&pair(("rtp", "\"10.0.0.0/8\"", ""), any), &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A rule that is called shadowed takes no packet but on the companions of its ports.
    #[test]
    fn shadowed_rules_take_nothing(rules in any_rules(), tuples in prop::collection::vec(any_tuple(), 1..30)) {
        // One line for each rule, so that a warning's line tells whose it is.
        let text = "\n".repeat(rules.len());
        let placed: Vec<_> =
            rules.iter().cloned().enumerate().map(|(at, value)| At { span: at..at, value }).collect();
        let mut out = Collector::new("p.toml", &text);
        review::warn(&placed, &Index::build(rules.iter()), &mut out);
        let never = |w: &&crate::policy::Diagnostic| w.message.contains("never sees what it lists");
        let shadowed: Vec<usize> = out.into_warnings().iter().filter(never).map(|w| w.line - 1).collect();
        let policy = Policy::compile(DefaultAction::Drop, rules);
        for tuple in tuples {
            let Some(id) = policy.match_forward(&tuple) else { continue };
            let rule = policy.rule(id).unwrap();
            let listed = rule.port_role(tuple.destination.port()) == Some(PortRole::Media);
            prop_assert!(!listed || !shadowed.contains(&(id.0 as usize)), "{:?} by {:?}", tuple, id);
        }
    }
}
