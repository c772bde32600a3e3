//! Policies that are accepted, and what they come to mean.

use std::time::Duration;

use proptest::prelude::*;

use super::sample::{DESIGN, design_for_srt};
use crate::policy::rule::{
    ContinuityLimit, Encryption, LossLimit, MalformedTs, OnExceed, OnUnverified, RtpRule, SrtRule, TsRule,
};
use crate::policy::set::{PayloadTypes, PidSet};
use crate::policy::{DefaultAction, FailureAction, Policy, Protocol, parse};

fn accepted(text: &str) -> Policy {
    parse("p.toml", text).unwrap_or_else(|errors| panic!("refused:\n{errors}"))
}

const SHORTEST: &str = "version = 1\ndefault_action = \"return\"\n\n[[rule]]\nname = \"a\"\nprotocol = \"rtp\"\nsource = [\"192.0.2.0/24\"]\n";

#[test]
fn the_design_as_far_as_this_release_goes() {
    let policy = accepted(&design_for_srt());
    assert_eq!(policy.default_action(), DefaultAction::Drop);
    let [rule] = policy.rules() else { panic!("one rule") };
    assert_eq!((rule.name.as_str(), rule.protocol), ("contribution", Protocol::Srt));
    let texts = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&rule.sources), ["203.0.113.0/24", "2001:db8::/32"]);
    assert_eq!(texts(&rule.destinations), ["10.0.1.10/32"]);
    assert_eq!(rule.ports.ranges(), [(5000, 5000), (6000, 6010)]);
    assert!(rule.endpoints.is_empty());
    assert_eq!(
        (rule.reorder_window, rule.enforce, rule.on_failure),
        (None, true, Some(FailureAction::Return))
    );
    assert!(rule.srt.admits_stream_id(b"#!::r=live/ch1,m=publish"));
    assert!(!rule.srt.admits_stream_id(b"#!::r=vod/ch1") && !rule.srt.admits_stream_id(b""));
    assert_eq!(
        (rule.srt.encryption, rule.srt.on_unverified),
        (Encryption::Required, OnUnverified::Return)
    );
    let continuity = &rule.ts.continuity;
    assert_eq!(
        (continuity.max_incidents, continuity.window),
        (5, Duration::from_secs(1))
    );
    assert_eq!(
        (continuity.on_exceed, continuity.hold),
        (OnExceed::Alert, Duration::from_secs(10))
    );
    assert!(continuity.ignore_pids.is_empty());
    assert_eq!(
        (rule.ts.network_loss.max_packets, rule.ts.network_loss.window),
        (100, Duration::from_secs(1))
    );
    assert_eq!(rule.ts.malformed_ts, MalformedTs::Alert);
}

#[test]
fn what_is_left_out_takes_its_default_and_only_alerts() {
    let policy = accepted(SHORTEST);
    let [rule] = policy.rules() else { panic!("one rule") };
    assert!(rule.destinations.is_empty() && rule.ports.is_empty() && rule.endpoints.is_empty());
    assert_eq!((rule.reorder_window, rule.enforce, rule.on_failure), (None, true, None));
    let seconds = Duration::from_secs;
    let ignore_pids = PidSet::default();
    let on_exceed = OnExceed::Alert;
    let continuity = ContinuityLimit {
        max_incidents: 0,
        window: seconds(10),
        on_exceed,
        hold: seconds(10),
        ignore_pids,
    };
    let network_loss = LossLimit {
        max_packets: 100,
        window: seconds(1),
        on_exceed,
        hold: seconds(10),
    };
    assert_eq!(
        rule.ts,
        TsRule {
            continuity,
            network_loss,
            malformed_ts: MalformedTs::Alert,
            ..TsRule::default()
        }
    );
    assert_eq!(
        rule.rtp,
        RtpRule {
            payload_types: None,
            max_ssrc: 1,
            paths: None
        }
    );
    let (encryption, on_unverified) = (Encryption::Optional, OnUnverified::Return);
    assert_eq!(
        rule.srt,
        SrtRule {
            stream_ids: None,
            encryption,
            on_unverified,
            ..SrtRule::default()
        }
    );
    assert!(rule.srt.admits_stream_id(b"") && rule.srt.admits_stream_id(b"anything"));
    assert_eq!(policy.warnings(), []);
}

#[test]
fn every_key_has_its_effect() {
    let policy = accepted(&format!(
        r#"{SHORTEST}
destination = ["10.0.0.7", "2001:db8::7"]
destination_port = [5004, "6000-6001", 6002]
endpoint = [18446744073709551615, 0x10, "0xfedcba9876543210", 7, 16]
reorder_window = "250ms"
enforce = false
on_failure = "pass"
rtp = {{ payload_type = [33, 96], max_ssrc = 2 }}
[rule.ts]
malformed_ts = "drop"
[rule.ts.continuity]
max_incidents = 3
window = "1m"
on_exceed = "block"
hold = "1h"
ignore_pids = [0, 0x1FFF]
[rule.ts.network_loss]
max_packets = 7
window = "500ms"
on_exceed = "block"
hold = "30s"
"#
    ));
    let [rule] = policy.rules() else { panic!("one rule") };
    assert_eq!(rule.ports.ranges(), [(5004, 5004), (6000, 6002)]);
    assert_eq!(rule.endpoints, [7, 16, 0xfedc_ba98_7654_3210, u64::MAX]);
    assert_eq!(rule.reorder_window, Some(Duration::from_millis(250)));
    assert_eq!((rule.enforce, rule.on_failure), (false, Some(FailureAction::Pass)));
    assert_eq!(
        rule.rtp,
        RtpRule {
            payload_types: Some(PayloadTypes::from_iter([33, 96])),
            max_ssrc: 2,
            paths: None
        }
    );
    assert_eq!(rule.ts.malformed_ts, MalformedTs::Drop);
    let on_exceed = OnExceed::Block;
    let ignore_pids = PidSet::from_iter([0, 0x1FFF]);
    let (window, hold) = (Duration::from_secs(60), Duration::from_secs(3600));
    assert_eq!(
        rule.ts.continuity,
        ContinuityLimit {
            max_incidents: 3,
            window,
            on_exceed,
            hold,
            ignore_pids
        }
    );
    let (window, hold) = (Duration::from_millis(500), Duration::from_secs(30));
    assert_eq!(
        rule.ts.network_loss,
        LossLimit {
            max_packets: 7,
            window,
            on_exceed,
            hold
        }
    );
}

#[test]
fn every_word_of_every_choice() {
    let with = |protocol: &str, line: &str| {
        let policy = accepted(&format!("{}{line}\n", SHORTEST.replace("rtp", protocol)));
        policy.rules().first().cloned().unwrap()
    };
    for protocol in Protocol::ALL {
        assert_eq!(with(protocol.name(), "").protocol, protocol);
    }
    for (word, action) in [
        ("return", FailureAction::Return),
        ("drop", FailureAction::Drop),
        ("pass", FailureAction::Pass),
    ] {
        assert_eq!(with("rtp", &format!("on_failure = {word:?}")).on_failure, Some(action));
    }
    for (word, encryption) in [
        ("required", Encryption::Required),
        ("optional", Encryption::Optional),
        ("forbidden", Encryption::Forbidden),
    ] {
        assert_eq!(
            with("srt", &format!("srt.encryption = {word:?}")).srt.encryption,
            encryption
        );
    }
    for (word, action) in [("return", OnUnverified::Return), ("drop", OnUnverified::Drop)] {
        assert_eq!(
            with("srt", &format!("srt.on_unverified = {word:?}")).srt.on_unverified,
            action
        );
    }
    for (word, action) in [("alert", MalformedTs::Alert), ("drop", MalformedTs::Drop)] {
        assert_eq!(
            with("ts-udp", &format!("ts.malformed_ts = {word:?}")).ts.malformed_ts,
            action
        );
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_text() {
    let policy = accepted(&format!("\u{feff}{}", SHORTEST.replace('\n', "\r\n")));
    assert_eq!(policy.rules().len(), 1);
}

#[test]
fn the_description_tells_the_limits_that_hold() {
    let text = accepted(&design_for_srt()).describe().to_string();
    for part in [
        "what no rule admits: drop\n",
        "rule 1 \"contribution\"\n",
        "  source            203.0.113.0/24, 2001:db8::/32\n",
        "  destination_port  5000, 6000-6010\n",
        "  replies           from the destinations, the destination ports\n",
        "  reorder_window    auto: the negotiated latency, 1s while it is not known\n",
        "  stream_id         \"#!::r=live/*\"\n",
        "  encryption        required\n",
        "  continuity        more than 5 incidents within 1s: alert\n",
        "  network_loss      more than 100 packets within 1s: alert\n",
        "  malformed_ts      alert\n",
        "the kernel admits 3 prefixes",
        "  10.0.1.10/32       return\n",
        "warnings:\n  p.toml:",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let text = accepted(SHORTEST).describe().to_string();
    for part in [
        "  destination       any\n",
        "  replies           none, for no destination is listed\n",
        "  on_failure        as --on-failure says\n",
        "  reorder_window    auto: 50ms\n",
        "  max_ssrc          1\n",
        "  continuity        more than 0 incidents within 10s: alert\n",
        "  192.0.2.0/24       as --on-failure says\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(!text.contains("warnings"), "{text}");
}

/// The design's policy with pieces cut out, doubled or replaced: close enough to a policy to reach every reader.
fn mangled() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "[[rule]]",
        "0",
        "-1",
        "1e9",
        "\"10.0.0.1/8\"",
        "é",
        "\u{0}",
        "source",
        "'",
    ]);
    let edit = (0..DESIGN.len(), 0usize..40, prop::option::of(token));
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text = design_for_srt();
        for (at, length, token) in edits {
            let clamp = |at: usize| {
                (0..=at.min(text.len()))
                    .rev()
                    .find(|at| text.is_char_boundary(*at))
                    .unwrap_or(0)
            };
            let (from, to) = (clamp(at), clamp(at + length));
            text.replace_range(from..to, token.unwrap_or_default());
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse("p.toml", &text);
        let _ = crate::policy::parse_bytes("p.toml", &bytes);
    }

    #[test]
    fn a_mangled_policy_is_accepted_or_refused_at_places_within_it(text in mangled()) {
        match parse("p.toml", &text) {
            Ok(policy) => prop_assert!(!policy.describe().to_string().is_empty()),
            Err(errors) => {
                let lines: Vec<_> = text.split('\n').collect();
                prop_assert!(errors.iter().count() > 0);
                for error in errors.iter() {
                    let line = lines.get(error.line - 1);
                    prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{error}\n{text}");
                    prop_assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
}
