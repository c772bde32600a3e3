//! Policies that are accepted, and what they come to mean.

use std::time::Duration;

use proptest::prelude::*;

use super::sample::{DESIGN, design_for_srt};
use crate::policy::rule::{
    BitrateLimit, CLEAR_AFTER, ContinuityLimit, Encryption, LossLimit, MalformedTs, NullPacketsLimit, OnExceed,
    OnUnverified, Path, PidsLimit, RAISE_AFTER, RtmpRule, RtpRule, Scte35Rule, SrtRule, StreamTypesLimit,
    Tr101290Limit, Tr101290Thresholds, TsRule,
};
use crate::policy::set::{PayloadTypes, PidSet, StreamTypes};
use crate::policy::{DefaultAction, FailureAction, Policy, Protocol, parse, schema};

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
    assert_eq!((rule.expected, rule.silence), (true, Some(Duration::from_secs(2))));
    assert_eq!((rule.raise_after, rule.clear_after), (RAISE_AFTER, CLEAR_AFTER));
    let tr101290 = &rule.ts.tr101290;
    assert_eq!(
        (tr101290.priority, tr101290.max_violations, tr101290.window),
        (2, 0, Duration::from_secs(1))
    );
    assert_eq!(tr101290.thresholds, Tr101290Thresholds::default());
    let types = rule
        .ts
        .stream_types
        .as_ref()
        .map(|limit| limit.allowed.iter().collect::<Vec<_>>());
    assert_eq!(types, Some(vec![0x0F, 0x1B]));
    let bitrate = rule
        .ts
        .bitrate
        .as_ref()
        .map(|limit| (limit.min, limit.max, limit.window, limit.on_exceed));
    assert_eq!(
        bitrate,
        Some((None, Some(25_000_000), Duration::from_secs(1), OnExceed::Alert))
    );
    let files: Vec<_> = policy.files().map(|file| file.path().to_owned()).collect();
    assert_eq!(files, [std::path::Path::new("/etc/tidegate/ch1")]);
}

#[test]
fn the_sections_of_other_protocols() {
    let without = |words: &[&str]| super::sample::design_without(words);
    let for_rtp = without(&["[rule.srt]", "[rule.rtmp]"]).replace("\"srt\"", "\"rtp\"");
    assert_eq!(
        accepted(&for_rtp).rules()[0].rtp.payload_types,
        Some(PayloadTypes::from_iter([33]))
    );
    let for_rtmp = without(&["[rule.srt]", "[rule.rtp]", "[rule.ts]", "reorder_window"]).replace("\"srt\"", "\"rtmp\"");
    let policy = accepted(&for_rtmp);
    assert!(policy.rules()[0].rtmp.admits_application(b"live") && policy.lacks_secrets());
}

/// What the shortest rule can say of what is judged: every key of it, none at its default.
const JUDGED: &str = r#"
destination_port = [5000, 6000]
silence = "250ms"
raise_after = "0s"
clear_after = "1m"
[rule.rtp]
paths = [
    { source = "192.0.2.7", destination = "10.0.1.10", destination_port = 5000 },
    { source = "192.0.2.0/25", destination = "10.0.2.0/24", destination_port = 5000 },
]
[rule.ts.tr101290]
priority = 3
max_violations = 4
window = "20s"
on_exceed = "block"
hold = "1m"
[rule.ts.tr101290.thresholds]
pat = "100ms"
pmt = "101ms"
pid = "102ms"
pcr_repetition = "40ms"
pcr_discontinuity = "50ms"
pcr_accuracy = "400ns"
pts = "104ms"
nit = "105ms"
sdt = "106ms"
eit = "107ms"
tdt = "108ms"
section_gap = "30ms"
unreferenced_pid = "109ms"
[rule.ts]
stream_types = { allowed = ["hevc", 0x06, 255], on_exceed = "block", hold = "3s" }
pids = { allowed = [0, "256-511", "0x1000-0x1001"], required = [0, "256-257"], on_exceed = "block", hold = "4s" }
bitrate = { min = "999bps", max = "1Gbps", window = "5s", on_exceed = "block", hold = "5s" }
null_packets = { max_percent = 60, window = "11s", on_exceed = "block", hold = "6s" }
scte35 = { bad_crc = false, unannounced = false, min_preroll = "4s", on_exceed = "block", hold = "7s" }
"#;

#[test]
fn every_key_of_the_judge_has_its_effect() {
    let policy = accepted(&format!("{SHORTEST}{JUDGED}"));
    assert_eq!(policy.warnings(), []);
    let [rule] = policy.rules() else { panic!("one rule") };
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    assert_eq!((rule.expected, rule.silence), (false, Some(ms(250))));
    assert_eq!((rule.raise_after, rule.clear_after), (Duration::ZERO, s(60)));
    let path = |source: &str, destination: &str| Path {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        port: 5000,
    };
    assert_eq!(
        rule.rtp.paths,
        Some([
            path("192.0.2.7/32", "10.0.1.10/32"),
            path("192.0.2.0/25", "10.0.2.0/24")
        ])
    );
    let on_exceed = OnExceed::Block;
    let thresholds = Tr101290Thresholds {
        pat: ms(100),
        pmt: ms(101),
        pid: ms(102),
        pcr_repetition: ms(40),
        pcr_discontinuity: ms(50),
        pcr_accuracy: Duration::from_nanos(400),
        pts: ms(104),
        nit: ms(105),
        sdt: ms(106),
        eit: ms(107),
        tdt: ms(108),
        section_gap: ms(30),
        unreferenced_pid: ms(109),
    };
    let expected = TsRule {
        tr101290: Tr101290Limit {
            priority: 3,
            max_violations: 4,
            window: s(20),
            on_exceed,
            hold: s(60),
            thresholds,
        },
        stream_types: Some(StreamTypesLimit {
            allowed: StreamTypes::from_iter([0x24, 0x06, 0xFF]),
            on_exceed,
            hold: s(3),
        }),
        pids: Some(PidsLimit {
            // Null packets are always allowed.
            allowed: Some((256..512).chain([0, 0x1000, 0x1001, 0x1FFF]).collect()),
            required: PidSet::from_iter([0, 256, 257]),
            on_exceed,
            hold: s(4),
        }),
        bitrate: Some(BitrateLimit {
            min: Some(999),
            max: Some(1_000_000_000),
            window: s(5),
            on_exceed,
            hold: s(5),
        }),
        null_packets: Some(NullPacketsLimit {
            max_percent: 60,
            window: s(11),
            on_exceed,
            hold: s(6),
        }),
        scte35: Scte35Rule {
            bad_crc: false,
            unannounced: false,
            min_preroll: Some(s(4)),
            on_exceed,
            hold: s(7),
        },
        ..TsRule::default()
    };
    assert_eq!(*rule.ts, expected);
    let text = policy.describe().to_string();
    for part in [
        "  silence           more than 250ms: alert\n",
        "  findings          told after 0ms, told to be over after 1m\n",
        "  path              192.0.2.7/32 to 10.0.1.10/32 port 5000\n",
        "  tr101290          more than 4 violations of priorities 1 to 3 within 20s: block for 1m\n",
        "  thresholds        pat 100ms, pmt 101ms, pid 102ms, pcr_repetition 40ms, pcr_discontinuity 50ms, pcr_accuracy 400ns, ",
        "section_gap 30ms, unreferenced_pid 109ms\n",
        "  stream_types      others than 0x06 (private-pes), 0x24 (h265), 0xff: block for 3s\n",
        "  pids              others than 0, 256-511, 4096-4097, 8191, absence of any of 0, 256-257: block for 4s\n",
        "  bitrate           less than 999bps or more than 1Gbps over 5s: block for 5s\n",
        "  null_packets      more than 60% over 11s: block for 6s\n",
        "  scte35            pre-roll below 4s: block for 7s\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
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
        *rule.ts,
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
    assert_eq!((rule.expected, rule.silence), (false, None));
    assert_eq!((rule.raise_after, rule.clear_after), (seconds(2), seconds(10)));
    assert_eq!(rule.rtmp, RtmpRule::default());
    assert!(rule.rtmp.admits_stream_key(b"any"));
    let tr101290 = &rule.ts.tr101290;
    assert_eq!(
        (tr101290.priority, tr101290.max_violations, tr101290.window),
        (2, 0, seconds(10))
    );
    assert_eq!((tr101290.on_exceed, tr101290.hold), (OnExceed::Alert, seconds(10)));
    assert_eq!(
        (rule.ts.scte35.on_exceed, rule.ts.scte35.min_preroll),
        (OnExceed::Alert, None)
    );
    assert!(rule.ts.scte35.bad_crc && rule.ts.scte35.unannounced);
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
    let whole = prop::sample::select(vec![design_for_srt(), format!("{SHORTEST}{JUDGED}")]);
    (whole, prop::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
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

const README: &str = include_str!("../../../../README.md");

#[test]
fn the_example_of_the_readme_is_valid() {
    let examples: Vec<_> = README
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        assert_eq!(accepted(example).warnings(), [], "{example}");
    }
}

#[test]
fn the_readme_names_every_key() {
    for section in schema::ALL {
        for key in section.keys {
            let named = README.contains(&format!("`{key}`")) || README.contains(&format!(".{key}`"));
            let in_example = README.contains(&format!("\n{key} = ")) || README.contains(&format!("[rule.{key}]"));
            assert!(named || in_example || *key == "rule", "{key} of {}", section.title);
        }
    }
}
