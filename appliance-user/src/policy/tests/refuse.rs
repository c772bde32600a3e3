//! Policies that are refused: exactly where, and why.

use super::sample::{DESIGN, design_for_srt};
use crate::policy::{MAX_PREFIXES, MAX_RULES, MAX_TEXT, parse, parse_bytes};

/// Line, column and message of every error; nothing if the text is accepted.
fn errors(text: &str) -> Vec<(usize, usize, String)> {
    let Err(errors) = parse("p.toml", text) else {
        return Vec::new();
    };
    errors
        .iter()
        .map(|error| (error.line, error.column, error.message.clone()))
        .collect()
}

/// Checks that the text is refused at these places, each with a message that holds the given part, and nowhere else.
fn refused(text: &str, expected: &[(usize, usize, &str)]) {
    let found = errors(text);
    let places: Vec<_> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
    let expected_places: Vec<_> = expected.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, expected_places, "{found:#?}\n{text}");
    for ((_, _, message), (_, _, part)) in found.iter().zip(expected) {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// A policy whose line 8 (and on) is the given one, in a rule of the given protocol.
fn rule(protocol: &str, line: &str) -> String {
    format!(
        "version = 1\ndefault_action = \"drop\"\n\n[[rule]]\nname = \"a\"\nprotocol = \"{protocol}\"\nsource = [\"192.0.2.0/24\"]\n{line}\n"
    )
}

/// Checks that each line, as line 8 in a rule of its protocol, is refused at its column with a message that holds the given
/// part: protocol, line, column, part.
pub(super) fn refused_lines(table: &[(&str, &str, usize, &str)]) {
    for (protocol, line, column, part) in table {
        let text = rule(protocol, line);
        let found = errors(&text);
        let first = found.first().unwrap_or_else(|| panic!("accepted: {line}"));
        assert_eq!((first.0, first.1), (8, *column), "{line}: {found:?}");
        assert!(first.2.contains(part), "{line}: {part:?} is not in {:?}", first.2);
        let expected = if line.contains('\u{e9}') { 2 } else { 1 };
        assert_eq!(found.len(), expected, "{line}: {found:?}");
    }
}

#[test]
fn the_design_is_refused_at_the_sections_of_other_protocols() {
    // The design shows every section in one rule; on srt two of them have no meaning.
    refused(
        DESIGN,
        &[
            (24, 7, "[rule.rtp] has no meaning for protocol \"srt\""),
            (28, 7, "[rule.rtmp] has no meaning for protocol \"srt\""),
        ],
    );
    assert_eq!(errors(&design_for_srt()), []);
}

#[test]
fn the_top_level() {
    refused(
        "",
        &[
            (1, 1, "\"version\" is missing"),
            (1, 1, "\"default_action\" is missing"),
        ],
    );
    refused(
        "version = 2\ndefault_action = \"pass\"",
        &[(1, 11, "expected version 1"), (2, 18, "\"pass\" is not a known")],
    );
    refused(
        "version = \"1\"\ndefault_action = \"drop\"",
        &[(1, 11, "expected version 1, found the text")],
    );
    refused(
        "version = 1\ndefault_action = true",
        &[(2, 18, "expected a text, found true")],
    );
    // One mistake, one error: the mistyped key is not told as missing too.
    refused(
        "version = 1\ndefault-action = \"drop\"",
        &[(2, 1, "unknown key \"default-action\"")],
    );
    refused(
        "version = 1\ndefault_action = \"drop\"\n[rule]\nname = \"a\"",
        &[(3, 1, "rules are a list")],
    );
    refused(
        "version = 1\ndefault_action = \"drop\"\nrule = [ 3 ]",
        &[(3, 10, "expected a rule, found the number 3")],
    );
    refused(
        "version = 1\ndefault_action = \"drop\"\nenforce = true",
        &[(3, 1, "unknown key \"enforce\"")],
    );
}

#[test]
fn single_lines_of_a_rule() {
    let table: &[(&str, &str, usize, &str)] = &[
        // protocol, line 8, column, part of the message
        ("rtp", "nam = \"b\"", 1, "unknown key \"nam\" in [[rule]]"),
        (
            "rtp",
            "destination = \"10.0.0.1\"",
            15,
            "expected a list, found the text \"10.0.0.1\"",
        ),
        (
            "rtp",
            "destination = [\"10.0.0.1\", 7]",
            28,
            "expected an address or network, found the number 7",
        ),
        (
            "rtp",
            "destination = [\"10.0.0.256\"]",
            16,
            "\"10.0.0.256\" is neither an address nor a network",
        ),
        (
            "rtp",
            "destination = [\"example.com\"]",
            16,
            "neither an address nor a network",
        ),
        (
            "rtp",
            "destination = [\"10.0.0.1/33\"]",
            16,
            "has no valid prefix length",
        ),
        (
            "rtp",
            "destination = [\"10.0.0.0/+8\"]",
            16,
            "has no valid prefix length",
        ),
        ("rtp", "destination = [\"10.0.0.0/\"]", 16, "has no valid prefix length"),
        (
            "rtp",
            "destination = [\"10.0.0.5/24\"]",
            16,
            "has bits set beyond its prefix length",
        ),
        (
            "rtp",
            "destination = [\"2001:db8::1/64\"]",
            16,
            "has bits set beyond its prefix length",
        ),
        (
            "rtp",
            "destination = [\"0.0.0.0\"]",
            16,
            "no packet has the address 0.0.0.0",
        ),
        (
            "rtp",
            "destination = [\"::ffff:10.0.0.1\"]",
            16,
            "IPv4 address in IPv6 dress",
        ),
        (
            "rtp",
            "destination_port = 5000",
            20,
            "expected a list, found the number 5000",
        ),
        (
            "rtp",
            "destination_port = [0]",
            21,
            "the number 0 is not between 1 and 65535",
        ),
        (
            "rtp",
            "destination_port = [65536]",
            21,
            "the number 65536 is not between 1 and 65535",
        ),
        (
            "rtp",
            "destination_port = [-1]",
            21,
            "the number -1 is not between 1 and 65535",
        ),
        (
            "rtp",
            "destination_port = [5000.0]",
            21,
            "expected a port or a range of ports, found a fraction",
        ),
        (
            "rtp",
            "destination_port = [\"5000\"]",
            21,
            "\"5000\" is not a range of ports",
        ),
        (
            "rtp",
            "destination_port = [\"0-10\"]",
            21,
            "\"0-10\" is not a range of ports",
        ),
        (
            "rtp",
            "destination_port = [\"5000-+5010\"]",
            21,
            "is not a range of ports",
        ),
        (
            "rtp",
            "destination_port = [\"6010-6000\"]",
            21,
            "the range \"6010-6000\" runs backwards",
        ),
        ("rtp", "endpoint = [\"7\"]", 13, "\"7\" is not an endpoint id"),
        (
            "rtp",
            "endpoint = [\"0x00112233445566778\"]",
            13,
            "is not an endpoint id",
        ),
        ("rtp", "endpoint = [-1]", 13, "the number -1 is not between"),
        ("rtp", "endpoint = [true]", 13, "expected an endpoint id, found true"),
        (
            "rtp",
            "reorder_window = 50",
            18,
            "expected a duration, found the number 50",
        ),
        ("rtp", "reorder_window = \"50\"", 18, "\"50\" is not a duration"),
        ("rtp", "reorder_window = \"1.5s\"", 18, "\"1.5s\" is not a duration"),
        ("rtp", "reorder_window = \"0s\"", 18, "\"0s\" is out of range"),
        ("rtp", "reorder_window = \"31s\"", 18, "\"31s\" is out of range"),
        (
            "rtp",
            "reorder_window = \"99999999999999999999h\"",
            18,
            "is out of range",
        ),
        (
            "ts-udp",
            "reorder_window = \"50ms\"",
            18,
            "\"ts-udp\" has no sequence numbers",
        ),
        (
            "any",
            "reorder_window = \"50ms\"",
            18,
            "\"any\" has no sequence numbers",
        ),
        (
            "rtmp",
            "reorder_window = \"50ms\"",
            18,
            "\"rtmp\" is put in order by TCP",
        ),
        (
            "rtp",
            "enforce = \"no\"",
            11,
            "expected true or false, found the text \"no\"",
        ),
        ("rtp", "on_failure = \"pas\"", 14, "\"pas\" is not a known value"),
        ("rtp", "rtp = 3", 7, "expected a table, found the number 3"),
        ("rtp", "rtp = { payload_type = [] }", 24, "\"payload_type\" is empty"),
        (
            "rtp",
            "rtp = { payload_type = [128] }",
            25,
            "the number 128 is not between 0 and 127",
        ),
        (
            "rtp",
            "rtp = { max_ssrc = 0 }",
            20,
            "the number 0 is not between 1 and 8",
        ),
        (
            "rtp",
            "rtp = { max_ssrcs = 1 }",
            9,
            "unknown key \"max_ssrcs\" in [rule.rtp]",
        ),
        (
            "srt",
            "rtp = { max_ssrc = 1 }",
            1,
            "[rule.rtp] has no meaning for protocol \"srt\"",
        ),
        (
            "ts-udp",
            "rtp.max_ssrc = 1",
            1,
            "[rule.rtp] has no meaning for protocol \"ts-udp\"",
        ),
        (
            "rtp",
            "srt = { encryption = \"required\" }",
            1,
            "[rule.srt] has no meaning for protocol \"rtp\"",
        ),
        (
            "any",
            "ts = { malformed_ts = \"alert\" }",
            1,
            "[rule.ts] has no meaning for protocol \"any\"",
        ),
        (
            "srt",
            "srt = { encryption = \"require\" }",
            22,
            "\"require\" is not a known value",
        ),
        (
            "srt",
            "srt = { on_unverified = \"pass\" }",
            25,
            "\"pass\" is not a known value",
        ),
        ("srt", "srt = { stream_id = [] }", 21, "\"stream_id\" is empty"),
        ("srt", "srt = { stream_id = [\"live/[a\"] }", 22, "has no closing"),
        ("srt", "ts = { malformed_ts = \"drop\" }", 23, "pointless on srt"),
        ("rist", "ts = { malformed_ts = \"drop\" }", 23, "pointless on rist"),
        (
            "rtp",
            "ts = { continuity = 5 }",
            21,
            "expected a table, found the number 5",
        ),
        (
            "rtp",
            "ts = { continuity = { max_packets = 5 } }",
            23,
            "unknown key \"max_packets\" in continuity",
        ),
        (
            "rtp",
            "ts = { continuity = { max_incidents = -5 } }",
            39,
            "the number -5 is not between",
        ),
        (
            "rtp",
            "ts = { continuity = { window = \"2h\" } }",
            32,
            "\"2h\" is out of range",
        ),
        (
            "rtp",
            "ts = { continuity = { hold = \"0ms\" } }",
            30,
            "\"0ms\" is out of range",
        ),
        (
            "rtp",
            "ts = { continuity = { on_exceed = \"drop\" } }",
            35,
            "\"drop\" is not a known value",
        ),
        (
            "rtp",
            "ts = { continuity = { ignore_pids = [8192] } }",
            38,
            "the number 8192 is not between 0 and 8191",
        ),
        (
            "rtp",
            "ts = { network_loss = { max_packets = 4294967296 } }",
            39,
            "is not between 0 and 4294967295",
        ),
        (
            "rtp",
            "continuity = { window = \"1s\" }",
            1,
            "unknown key \"continuity\" in [[rule]]",
        ),
        // Columns count characters, not bytes.
        (
            "rtp",
            "rtp = { \"\u{e9}\u{e9}\" = 1, max_ssrc = \"\" }",
            9,
            "unknown key \"\u{e9}\u{e9}\"",
        ),
    ];
    refused_lines(table);
}

#[test]
fn columns_count_characters() {
    refused(
        &rule("rtp", "rtp = { \"\u{e9}\u{e9}\" = 1, max_ssrc = \"\" }"),
        &[
            (8, 9, "unknown key"),
            (8, 30, "expected a whole number, found the text \"\""),
        ],
    );
}

#[test]
fn what_a_rule_must_have() {
    let head = "version = 1\ndefault_action = \"drop\"\n";
    refused(
        &format!("{head}\n  [[rule]]\n  destination = []\n"),
        &[
            (4, 3, "\"name\" is missing"),
            (4, 3, "\"protocol\" is missing"),
            (4, 3, "\"source\" is missing"),
        ],
    );
    refused(
        &format!("{head}[[rule]]\nname = \"\"\nprotocol = \"rtm\"\nsource = []\n"),
        &[
            (4, 8, "\"\" is no name"),
            (5, 12, "\"rtm\" is not a known value"),
            (6, 10, "\"source\" is empty"),
        ],
    );
    refused(
        &format!("{head}[[rule]]\nname = \"a\\nb\"\nprotocol = \"RTP\"\nsource = [\"192.0.2.1\"]\n"),
        &[(4, 8, "\"a\\nb\" is no name"), (5, 12, "\"RTP\" is not a known value")],
    );
    let one = "[[rule]]\nname = \"a\"\nprotocol = \"rtp\"\nsource = [\"192.0.2.1\"]\n";
    refused(
        &format!("{head}{one}{one}"),
        &[(8, 8, "the name \"a\" is taken by the rule of line 4")],
    );
}

#[test]
fn all_errors_are_told_in_the_order_of_the_file() {
    let text = "default_action = \"drop\"\nversion = 3\n[[rule]]\nsource = [\"10.0.0.1/8\", \"x\"]\nname = 5\nprotocol = \"rtp\"\n[rule.ts]\nbitrate = 1\n[[rule]]\nname = \"b\"\nprotocol = \"srt\"\nsource = [\"::1\"]\nsilence = 1\n";
    refused(
        text,
        &[
            (2, 11, "expected version 1"),
            (4, 11, "\"10.0.0.1/8\" has bits set"),
            (4, 25, "\"x\" is neither"),
            (5, 8, "expected a text, found the number 5"),
            (8, 11, "expected a table, found the number 1"),
            (13, 11, "expected a duration, found the number 1"),
        ],
    );
}

#[test]
fn broken_syntax_is_told_first_and_alone() {
    refused(
        "version = 1\nversion = 1\n",
        &[(2, 1, "this is not TOML: duplicate key")],
    );
    refused("version = \nnonsense = 1\n", &[(1, 11, "this is not TOML")]);
    refused(
        "a = 01\n[[rule\nb = 1\n",
        &[(1, 5, "this is not TOML"), (2, 7, "expected `]]`")],
    );
}

#[test]
fn nesting_without_end_is_refused() {
    for text in [
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ] {
        assert!(!errors(&text).is_empty());
    }
}

#[test]
fn errors_read_as_file_line_column_and_carry_a_remedy() {
    let told = |text: &str| parse("dir/p.toml", text).unwrap_err().to_string();
    assert_eq!(
        told(&rule("rtp", "destination = [\"10.0.0.5/24\"]")),
        "dir/p.toml:8:16: \"10.0.0.5/24\" has bits set beyond its prefix length; \
         write \"10.0.0.0/24\" for the network or \"10.0.0.5\" for the one host"
    );
    assert_eq!(
        told(&rule("rtp", "destinaton = []\nmax_ssrc = 1")),
        "dir/p.toml:8:1: unknown key \"destinaton\" in [[rule]]; did you mean \"destination\"?\n\
         dir/p.toml:9:1: unknown key \"max_ssrc\" in [[rule]]; it belongs to [rule.rtp]"
    );
    assert_eq!(
        told(&rule("rtp", "on_failure = \"dorp\"")),
        "dir/p.toml:8:14: \"dorp\" is not a known value; did you mean \"drop\"? write one of \"return\", \"drop\", \"pass\""
    );
}

#[test]
fn bytes_that_are_not_text_are_placed() {
    let mut bytes = b"version = 1\nname = \"\xc3\xa9".to_vec();
    bytes.push(0xFF);
    let errors = parse_bytes("p.toml", &bytes).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "p.toml:2:10: the file is not UTF-8 text; save it as UTF-8"
    );
    assert_eq!(
        parse_bytes("p.toml", rule("rtp", "").as_bytes()).unwrap().rules().len(),
        1
    );
}

#[test]
fn sizes_are_bounded() {
    refused(&"#".repeat(MAX_TEXT + 1), &[(1, 1, "longer than")]);
    let cut_within_a_character = parse_bytes("p.toml", &"\u{e9}".repeat(MAX_TEXT).into_bytes()[..=MAX_TEXT]);
    assert!(
        cut_within_a_character
            .unwrap_err()
            .to_string()
            .starts_with("p.toml:1:1: the policy is longer than")
    );
    let head = "version = 1\ndefault_action = \"drop\"\n";
    let rules = |count: usize| {
        (0..count).fold(head.to_owned(), |text, number| {
            text + &format!("[[rule]]\nname = \"r{number}\"\nprotocol = \"rtp\"\nsource = [\"192.0.2.1\"]\n")
        })
    };
    assert_eq!(errors(&rules(MAX_RULES)), []);
    refused(
        &rules(MAX_RULES + 1),
        &[(MAX_RULES * 4 + 3, 1, "more than 16384 rules")],
    );
    let prefixes = |count: usize| {
        let list: Vec<_> = (0..count)
            .map(|n| format!("\"10.{}.{}.0/24\"", n / 256, n % 256))
            .collect();
        format!(
            "{head}[[rule]]\nname = \"a\"\nprotocol = \"rtp\"\nsource = [{}]\n",
            list.join(",")
        )
    };
    assert_eq!(errors(&prefixes(MAX_PREFIXES)), []);
    // Told once, at the rule that goes beyond.
    let more = |name: &str| format!("[[rule]]\nname = {name:?}\nprotocol = \"rtp\"\nsource = [\"192.0.2.1\"]\n");
    let beyond = [(7, 1, "more than 65535 sources and destinations")];
    refused(&(prefixes(MAX_PREFIXES) + &more("b")), &beyond);
    refused(&(prefixes(MAX_PREFIXES) + &more("b") + &more("c")), &beyond);
}
