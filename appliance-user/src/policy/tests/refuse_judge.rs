//! What is refused of the keys that say what is judged: where, and why.

use super::refuse::refused_lines;
use crate::policy::parse;

#[test]
fn silence_and_debounce() {
    refused_lines(&[
        (
            "rtp",
            "expected = true",
            1,
            "expected does not say how long a stream may stay away",
        ),
        (
            "rtp",
            "expected = \"yes\"",
            12,
            "expected true or false, found the text \"yes\"",
        ),
        ("rtp", "silence = 2", 11, "expected a duration, found the number 2"),
        ("rtp", "silence = \"99ms\"", 11, "\"99ms\" is out of range"),
        ("rtp", "silence = \"61m\"", 11, "\"61m\" is out of range"),
        ("rtp", "raise_after = \"2h\"", 15, "\"2h\" is out of range"),
        ("rtp", "clear_after = \"-1s\"", 15, "\"-1s\" is not a duration"),
        (
            "rtp",
            "raise-after = \"1s\"",
            1,
            "unknown key \"raise-after\" in [[rule]]",
        ),
    ]);
}

#[test]
fn srt() {
    refused_lines(&[
        ("srt", "srt = { key_length = [] }", 22, "\"key_length\" is empty"),
        (
            "srt",
            "srt = { key_length = 128 }",
            22,
            "expected a list, found the number 128",
        ),
        (
            "srt",
            "srt = { key_length = [16] }",
            23,
            "expected a key length of AES in bits, found the number 16",
        ),
        (
            "srt",
            "srt = { key_length = [\"aes-128\"] }",
            23,
            "found the text \"aes-128\"",
        ),
        (
            "srt",
            "srt = { passphrase_file = 7 }",
            27,
            "expected a path, found the number 7",
        ),
        ("srt", "srt = { passphrase_file = \"\" }", 27, "\"\" is not a path"),
        (
            "srt",
            "srt = { passphrase_file = \"/etc/\" }",
            27,
            "\"/etc/\" is a folder",
        ),
        (
            "srt",
            "srt = { passphrase_file = [\"/p\"] }",
            27,
            "expected a path, found a list",
        ),
        (
            "srt",
            "srt = { passphrase_file = {} }",
            27,
            "passphrase_file names no file",
        ),
        (
            "srt",
            "srt = { passphrase_file = { \"a\" = 1 } }",
            35,
            "expected a path, found the number 1",
        ),
        (
            "srt",
            "srt = { passphrase_file = { \"a[\" = \"/p\" } }",
            29,
            "\"[\" has no closing",
        ),
        (
            "srt",
            "srt = { passphrase = \"secret secret\" }",
            9,
            "unknown key \"passphrase\" in [rule.srt]",
        ),
        (
            "srt",
            "srt = { encryption = \"forbidden\", passphrase_file = \"/p\" }",
            35,
            "passphrase_file has no meaning where encryption is \"forbidden\"",
        ),
        (
            "srt",
            "srt = { encryption = \"forbidden\", key_length = [256] }",
            35,
            "key_length has no meaning where encryption is \"forbidden\"",
        ),
    ]);
}

#[test]
fn more_passphrases_than_a_handshake_may_be_compared_with() {
    let table = |count: usize| {
        let entries: Vec<_> = (0..count).map(|n| format!("\"id{n}\" = \"/p\"")).collect();
        format!("srt = {{ passphrase_file = {{ {} }} }}", entries.join(", "))
    };
    refused_lines(&[("srt", &table(257), 27, "passphrase_file names more than 256 files")]);
    let text = format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"a\"\nprotocol = \"srt\"\nsource = [\"::1\"]\n{}",
        table(256)
    );
    assert_eq!(parse("p.toml", &text).expect("fits").files().count(), 256);
}

#[test]
fn rtmp() {
    refused_lines(&[
        ("rtp", "rtmp = {}", 1, "[rule.rtmp] has no meaning for protocol \"rtp\""),
        ("rtmp", "ts = {}", 1, "[rule.ts] has no meaning for protocol \"rtmp\""),
        ("rtmp", "srt = {}", 1, "[rule.srt] has no meaning for protocol \"rtmp\""),
        ("rtmp", "rtmp = { application = [] }", 24, "\"application\" is empty"),
        (
            "rtmp",
            "rtmp = { application = \"live\" }",
            24,
            "expected a list, found the text \"live\"",
        ),
        ("rtmp", "rtmp = { application = [\"[]\"] }", 25, "the set between"),
        (
            "rtmp",
            "rtmp = { stream_key_file = [\"k\"] }",
            28,
            "expected a path, found a list",
        ),
        (
            "rtmp",
            "rtmp = { stream_key = \"k\" }",
            10,
            "unknown key \"stream_key\" in [rule.rtmp]",
        ),
    ]);
}

#[test]
fn paths_of_a_stream_sent_twice() {
    let one = "{ source = \"192.0.2.7\", destination = \"10.0.1.10\", destination_port = 5000 }";
    let with = |other: &str| format!("rtp = {{ paths = [{one}, {other}] }}");
    // Where the second path begins.
    let begin = with("").find(']').expect("a list") + 1;
    refused_lines(&[
        (
            "rtp",
            "rtp = { paths = {} }",
            17,
            "expected a list of two paths, found a table",
        ),
        (
            "rtp",
            "rtp = { paths = [] }",
            17,
            "a stream is sent on two paths, not on 0",
        ),
        (
            "rtp",
            &format!("rtp = {{ paths = [{one}] }}"),
            17,
            "on two paths, not on 1",
        ),
        (
            "rtp",
            &format!("rtp = {{ paths = [{one}, {one}, {one}] }}"),
            17,
            "on two paths, not on 3",
        ),
        ("rtp", &with("3"), begin, "expected a path, found the number 3"),
        ("rtp", &with(one), begin, "a packet could be of both paths"),
        (
            "rtp",
            &with(&one.replace("192.0.2.7", "192.0.2.0/24")),
            begin,
            "a packet could be of both paths",
        ),
        (
            "rtp",
            &with(&one.replace("192.0.2.7", "192.0.3.7")),
            begin + 11,
            "the path's source is not within the rule's",
        ),
        (
            "rtp",
            &with(&one.replace("192.0.2.7", "192.0.2.0/23")),
            begin + 11,
            "the path's source is not within the rule's",
        ),
        (
            "rtp",
            &with(&one.replace("5000", "0")),
            begin + 70,
            "the number 0 is not between 1 and 65535",
        ),
        (
            "rtp",
            &with("{ source = \"192.0.2.8\", destination_port = 5000 }"),
            begin,
            "\"destination\" is missing in a path",
        ),
        (
            "rtp",
            &with(&one.replace("10.0.1.10", "::1")),
            begin + 38,
            "source and a destination of different families",
        ),
        (
            "rtp",
            &with(&one.replace("destination_port", "destination_prot")),
            begin + 51,
            "unknown key \"destination_prot\" in a path",
        ),
    ]);
}

#[test]
fn paths_stay_within_the_rule() {
    let text = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"a\"\nprotocol = \"rtp\"\nsource = [\"192.0.2.0/24\"]\n\
                destination = [\"10.0.1.0/24\"]\ndestination_port = [5000, 5002]\n[rule.rtp]\npaths = [\n\
                { source = \"192.0.2.7\", destination = \"10.0.2.10\", destination_port = 5000 },\n\
                { source = \"192.0.2.8\", destination = \"10.0.1.10\", destination_port = 5001 },\n]\n";
    let errors = parse("p.toml", text).expect_err("beyond the rule").to_string();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(
        lines,
        [
            "p.toml:11:39: the path's destination is not within the rule's; add it to the rule's destination",
            "p.toml:12:71: the path's destination_port is not within the rule's; add it to the rule's destination_port",
        ]
    );
}

#[test]
fn tr101290() {
    refused_lines(&[
        (
            "rtp",
            "ts = { tr101290 = 2 }",
            19,
            "expected a table, found the number 2",
        ),
        (
            "rtp",
            "ts = { tr101290 = { priority = 4 } }",
            32,
            "the number 4 is not between 0 and 3",
        ),
        (
            "rtp",
            "ts = { tr101290 = { max_incidents = 4 } }",
            21,
            "unknown key \"max_incidents\" in tr101290",
        ),
        (
            "rtp",
            "ts = { tr101290 = { window = \"0s\" } }",
            30,
            "\"0s\" is out of range",
        ),
        (
            "rtp",
            "ts = { tr101290 = { on_exceed = \"drop\" } }",
            33,
            "\"drop\" is not a known value",
        ),
        (
            "rtp",
            "ts = { tr101290 = { hold = \"25h\" } }",
            28,
            "\"25h\" is out of range",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = { pats = \"1s\" } } }",
            36,
            "unknown key \"pats\" in thresholds",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = { pat = \"500us\" } } }",
            42,
            "\"500us\" is not a duration",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = { pat = \"0ms\" } } }",
            42,
            "\"0ms\" is out of range",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = { pcr_accuracy = \"1s\" } } }",
            51,
            "\"1s\" is not a duration",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = { pcr_accuracy = \"39ns\" } } }",
            51,
            "\"39ns\" is out of range",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = { pcr_accuracy = \"500\" } } }",
            51,
            "\"500\" is not a duration",
        ),
        (
            "rtp",
            "ts = { tr101290 = { thresholds = 3 } }",
            34,
            "expected a table, found the number 3",
        ),
    ]);
}

#[test]
fn what_is_in_the_stream() {
    refused_lines(&[
        (
            "rtp",
            "ts = { stream_types = {} }",
            23,
            "\"allowed\" is missing in stream_types",
        ),
        (
            "rtp",
            "ts = { stream_types = { allowed = [] } }",
            35,
            "\"allowed\" is empty",
        ),
        (
            "rtp",
            "ts = { stream_types = { allowed = [256] } }",
            36,
            "the number 256 is not between 0 and 255",
        ),
        (
            "rtp",
            "ts = { stream_types = { allowed = [\"h246\"] } }",
            36,
            "\"h246\" is not a known stream type",
        ),
        (
            "rtp",
            "ts = { stream_types = { allowed = [true] } }",
            36,
            "expected a stream type, found true",
        ),
        ("rtp", "ts = { pids = {} }", 15, "pids names no PID"),
        ("rtp", "ts = { pids = { allowed = [] } }", 27, "\"allowed\" is empty"),
        (
            "rtp",
            "ts = { pids = { allowed = [0, 8192] } }",
            31,
            "the number 8192 is not between 0 and 8191",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [\"0-8192\"] } }",
            28,
            "\"0-8192\" is not a range of PIDs",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [\"512-256\"] } }",
            28,
            "the range \"512-256\" runs backwards",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [\"256\"] } }",
            28,
            "\"256\" is not a range of PIDs",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [\"1-+2\"] } }",
            28,
            "\"1-+2\" is not a range of PIDs",
        ),
        (
            "rtp",
            "ts = { pids = { required = [0.5] } }",
            29,
            "expected a PID or a range of PIDs, found a fraction",
        ),
        (
            "rtp",
            "ts = { pids = { allowed = [\"0-256\"], required = [0, \"250-260\"] } }",
            53,
            "PID 257 is required, but allowed does not list it",
        ),
    ]);
}

#[test]
fn rates_and_cues() {
    refused_lines(&[
        ("rtp", "ts = { bitrate = {} }", 18, "bitrate sets no limit"),
        (
            "rtp",
            "ts = { bitrate = { max = 25 } }",
            26,
            "expected a bit rate, found the number 25",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"25\" } }",
            26,
            "\"25\" is not a bit rate",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"2.5Mbps\" } }",
            26,
            "\"2.5Mbps\" is not a bit rate",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"0bps\" } }",
            26,
            "\"0bps\" is out of range",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"401Gbps\" } }",
            26,
            "\"401Gbps\" is out of range",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"99999999999999999999bps\" } }",
            26,
            "is out of range",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"25Mbps\", min = \"25001kbps\" } }",
            42,
            "min, 25001kbps, is above max, 25Mbps",
        ),
        (
            "rtp",
            "ts = { bitrate = { max = \"1Mbps\", window = \"99ms\" } }",
            44,
            "\"99ms\" is out of range",
        ),
        (
            "rtp",
            "ts = { null_packets = {} }",
            23,
            "\"max_percent\" is missing in null_packets",
        ),
        (
            "rtp",
            "ts = { null_packets = { max_percent = 101 } }",
            39,
            "the number 101 is not between 0 and 100",
        ),
        (
            "rtp",
            "ts = { null_packets = { max_percent = 9, window = \"1ms\" } }",
            51,
            "\"1ms\" is out of range",
        ),
        (
            "rtp",
            "ts = { scte35 = { bad_crc = \"alert\" } }",
            29,
            "expected true or false",
        ),
        (
            "rtp",
            "ts = { scte35 = { min_preroll = 4 } }",
            33,
            "expected a duration, found the number 4",
        ),
        (
            "rtp",
            "ts = { scte35 = { min_preroll = \"0s\" } }",
            33,
            "\"0s\" is out of range",
        ),
        (
            "rtp",
            "ts = { scte35 = { window = \"1s\" } }",
            19,
            "unknown key \"window\" in scte35",
        ),
    ]);
}

#[test]
fn slips_are_told_what_was_meant() {
    let told = |line: &str| {
        let text = format!(
            "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"a\"\nprotocol = \"rtp\"\nsource = [\"::1\"]\n{line}\n"
        );
        parse("p.toml", &text).expect_err(line).to_string()
    };
    for (line, part) in [
        ("ts.stream_types.allowed = [\"h-264\"]", "did you mean \"h264\"?"),
        ("ts.stream_types.allowed = [\"HEVC\"]", "did you mean \"hevc\"?"),
        ("ts.bitrate.max = \"25mbps\"", "did you mean \"25Mbps\"?"),
        ("ts.pids.allowed = [\"512-256\"]", "write \"256-512\""),
        (
            "ts.tr101290.thresholds.pcr_repitition = \"40ms\"",
            "did you mean \"pcr_repetition\"?",
        ),
        ("ts.scte53 = {}", "did you mean \"scte35\"?"),
        ("ts.null_packet = {}", "did you mean \"null_packets\"?"),
        ("stream_key_file = \"k\"", "it belongs to [rule.rtmp]"),
        ("max_percent = 5", "it belongs to null_packets of [rule.ts]"),
        ("expected = true", "write silence beside it, such as silence = \"2s\""),
    ] {
        let told = told(line);
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}
