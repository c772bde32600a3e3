//! What happens to streams in the field, as captures, and what comes of it under a rule that blocks: told, charged to the
//! right party, and never a sound stream blocked. One test for each scenario; those that need no rule stand in
//! `inspect_scenarios.rs`, companions on another worker in `datapath/companions.rs` and beside the engine's groups.
#![cfg(feature = "appliance")]

mod inspect_support;
mod lossy_lab;
mod ts_lab;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use inspect_support::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use ts_lab::{Encoder, Wire};

/// A limit that blocks for more than so many incidents.
fn blocks_after(incidents: u32) -> String {
    format!(
        "[rule.ts]\ncontinuity = {{ max_incidents = {incidents}, window = \"10s\", on_exceed = \"block\", hold = \"2s\" }}\n"
    )
}

/// Whatever can be wrong with a transport stream or its way blocks it, the first time.
fn blocks_for_everything() -> String {
    let more = ["network_loss = { max_packets = 0", "tr101290 = { priority = 2"]
        .map(|limit| format!("{limit}, on_exceed = \"block\", hold = \"2s\" }}\n"));
    blocks_after(0) + &more.concat()
}

/// Five seconds of a sound stream.
fn five_seconds() -> (Wire, Encoder) {
    let (mut wire, mut encoder) = (Wire::new(), Encoder::new());
    wire.send(&mut encoder, 5000);
    (wire, encoder)
}

/// What came of a capture.
struct Outcome {
    told: Told,
    report: Value,
    stream: Value,
    /// Changes of state, conditions and blocks that were withheld, in order.
    events: Vec<String>,
}

impl Outcome {
    fn of(wire: &Wire, keys: &str) -> Outcome {
        let (told, events) = wire.events_by(keys);
        let report = told.report();
        assert_eq!(streams(&report), 1, "{report:#}");
        let words = events.iter().filter_map(|event| {
            let word = |key: &str| event[key].as_str().unwrap_or_default();
            Some(match word("event") {
                "state-changed" => format!("{}>{} {}", word("from"), word("to"), word("cause")),
                "condition-raised" => format!("+{}", word("condition")),
                "condition-cleared" => format!("-{}", word("condition")),
                "block-withheld" => format!("!{}", word("condition")),
                "block-prolonged" => format!("..{}", word("condition")),
                _ => return None,
            })
        });
        Outcome {
            stream: report["streams"][0].clone(),
            report,
            events: words.collect(),
            told,
        }
    }

    fn transport(&self) -> [u64; 6] {
        ["lost", "reordered", "duplicated", "retransmitted", "late", "resets"]
            .map(|figure| number(&self.stream, &format!("/transport/{figure}")))
    }

    fn continuity(&self) -> [u64; 3] {
        ["source", "network", "unknown"].map(|fault| number(&self.stream, &format!("/ts/continuity_errors/{fault}")))
    }

    fn returned(&self) -> u64 {
        number(&self.report, "/packets/returned")
    }

    fn assert_sound(&self) {
        assert_eq!(
            (self.transport()[0], self.continuity()),
            (0, [0; 3]),
            "{:#}",
            self.stream
        );
        self.assert_untouched();
        assert_eq!(self.stream["worst_state"], "healthy");
        assert_eq!(self.stream["findings"], json!({}));
        assert_eq!(self.told.code, Some(0));
    }

    /// Every packet was returned and no limit was exceeded.
    fn assert_untouched(&self) {
        assert_eq!(
            self.returned(),
            number(&self.report, "/packets/seen"),
            "{:#}",
            self.report
        );
        assert_eq!(self.events, [] as [&str; 0]);
    }
}

#[test]
fn a_sound_stream_exceeds_no_limit() {
    let (wire, _) = five_seconds();
    let outcome = Outcome::of(&wire, &blocks_for_everything());
    outcome.assert_sound();
    assert_eq!(outcome.transport(), [0; 6]);
    assert_eq!(
        number(&outcome.stream, "/ts/pids/7/pid"),
        u64::from(ts_lab::PMT_PID),
        "eight PIDs"
    );
}

#[test]
fn a_source_switch_on_eight_pids_is_one_incident_and_blocks_nothing() {
    let (mut wire, mut first) = five_seconds();
    // An encoder that runs in step with the first takes over, as behind a seamless switcher.
    let mut second = first.spare();
    second.epoch = first.epoch;
    let switched = [Encoder::new().frames(125), second.clone().frames(125)].concat();
    wire.send(&mut second, 5000);
    assert_eq!(
        lossy_lab::continuity_errors(switched.as_flattened()),
        8,
        "dvb-conformance"
    );
    let outcome = Outcome::of(&wire, &blocks_after(1));
    assert_eq!((outcome.continuity(), outcome.transport()), ([8, 0, 0], [0; 6]));
    let pids = outcome.stream["ts"]["pids"].as_array().unwrap().iter();
    assert_eq!(pids.filter(|pid| pid["continuity_errors"] == 1).count(), 8, "each once");
    outcome.assert_untouched();
    assert_eq!(
        (outcome.told.code, &outcome.stream["worst_state"]),
        (Some(1), &json!("healthy"))
    );
    // It is an incident: where none is borne, it blocks.
    let outcome = Outcome::of(&wire, &blocks_after(0));
    assert_eq!(outcome.events[..2], ["+continuity", "healthy>blocked continuity"]);
    assert!(outcome.returned() < wire.len());

    // A rescue feed has a clock of its own. That its PCR jumps is told.
    let (mut wire, mut rescue) = (five_seconds().0, first.spare());
    wire.send(&mut rescue, 5000);
    let outcome = Outcome::of(&wire, &blocks_after(1));
    assert_eq!(outcome.continuity(), [8, 0, 0]);
    assert_eq!(number(&outcome.stream, "/tr101290/2.3.b"), 1);
    assert_eq!(outcome.events, ["+tr101290", "healthy>degraded tr101290"]);
    assert_eq!(outcome.returned(), wire.len());
    // Back to the first five seconds later: a second incident.
    first.frames(125);
    wire.send(&mut first, 1000);
    let outcome = Outcome::of(&wire, &blocks_after(1));
    assert_eq!(number(&outcome.stream, "/ts/continuity_errors/source"), 16);
    assert!(
        outcome.events.contains(&"degraded>blocked continuity".to_owned()),
        "{:?}",
        outcome.events
    );
}

#[test]
fn a_restarted_encoder_begins_anew_in_health() {
    for jump in [35_000, 1000, -1000_i32] {
        let (mut wire, _) = five_seconds();
        let mut restarted = Encoder::new();
        restarted.epoch = 123;
        restarted.packet();
        wire.sequence = (i32::from(wire.sequence) + jump) as u16;
        wire.send(&mut restarted, 5000);
        let outcome = Outcome::of(&wire, &blocks_for_everything());
        outcome.assert_sound();
        assert_eq!(outcome.transport(), [0, 0, 0, 0, 0, 1], "{jump}");
        assert_eq!(number(&outcome.stream, "/ts/packets"), 7000, "{jump}");
    }
}

#[test]
fn a_new_ssrc_after_silence_begins_anew_in_health() {
    let (mut wire, _) = five_seconds();
    let mut other = Encoder::new();
    other.epoch = 123;
    wire.now_us += 1_200_000;
    wire.sequence += 100;
    wire.ssrc = 8;
    wire.send(&mut other, 5000);
    let outcome = Outcome::of(&wire, &blocks_for_everything());
    outcome.assert_sound();
    assert_eq!(outcome.transport(), [0, 0, 0, 0, 0, 1]);
    // The newcomer's first packet was on probation (RFC 3550 A.1).
    assert_eq!(
        (
            number(&outcome.stream, "/ssrc"),
            number(&outcome.stream, "/packets"),
            number(&outcome.stream, "/ts/packets")
        ),
        (8, 1000, 7 * 999)
    );
}

#[test]
fn a_new_ssrc_without_silence_is_a_conflict_for_a_second_and_blocks_nothing() {
    let (mut wire, _) = five_seconds();
    let mut other = Encoder::new();
    other.epoch = 123;
    wire.sequence = 40_000;
    wire.ssrc = 8;
    wire.send(&mut other, 5000);
    let outcome = Outcome::of(&wire, &blocks_for_everything());
    outcome.assert_untouched();
    assert_eq!((outcome.told.code, number(&outcome.stream, "/ssrc")), (Some(1), 8));
    let conflicts = number(&outcome.stream, "/findings/ssrc-conflict");
    assert!((98..=100).contains(&conflicts), "a second of 100 packets: {conflicts}");
    assert_eq!(
        (outcome.transport(), outcome.continuity()),
        ([0, 0, 0, 0, 0, 1], [0; 3])
    );
    // The second of both was judged by the first alone, which did not send.
    assert_eq!(number(&outcome.stream, "/ts/packets"), 7 * (1000 - conflicts - 1));
}

#[test]
fn outages_of_one_and_of_five_seconds_are_losses_and_no_continuity_error() {
    let tolerant = "network_loss = { max_packets = 10000, window = \"10s\" }\n\
                    tr101290 = { priority = 2, on_exceed = \"block\" }\n";
    for (seconds, told) in [
        (1, &[][..]),
        (
            5,
            &[
                "+silence",
                "healthy>degraded silence",
                "-silence",
                "degraded>healthy clear",
            ],
        ),
    ] {
        let (mut wire, mut encoder) = five_seconds();
        wire.lose(&mut encoder, seconds * 1000);
        wire.send(&mut encoder, 12_000);
        let rule = format!("silence = \"2s\"\n{}{tolerant}", blocks_after(0));
        let outcome = Outcome::of(&wire, &rule);
        assert_eq!(outcome.transport(), [seconds * 100, 0, 0, 0, 0, 1], "{seconds} s");
        assert_eq!(outcome.continuity(), [0; 3], "{seconds} s");
        assert_eq!(outcome.events, told, "{seconds} s");
        assert_eq!(
            (outcome.returned(), outcome.told.code),
            (wire.len(), Some(1)),
            "{seconds} s"
        );
    }
}

#[test]
fn one_spoofed_packet_a_thousand_ahead_is_a_finding_and_costs_nothing() {
    let (mut wire, mut encoder) = five_seconds();
    wire.forge(1000);
    wire.send(&mut encoder, 12_000);
    let outcome = Outcome::of(&wire, &blocks_for_everything());
    assert_eq!(outcome.stream["findings"], json!({"out-of-window": 1}));
    assert_eq!((outcome.transport(), outcome.continuity()), ([0; 6], [0; 3]));
    assert_eq!(
        number(&outcome.stream, "/ts/packets"),
        7 * 1700,
        "the spoofed one is judged nowhere"
    );
    outcome.assert_untouched();
    assert_eq!(outcome.told.code, Some(1));
}

#[test]
fn six_spoofed_packets_within_the_window_are_findings_and_block_nothing() {
    let (mut wire, mut encoder) = five_seconds();
    for _ in 0..6 {
        wire.forge(3);
        wire.send(&mut encoder, 500);
    }
    wire.send(&mut encoder, 5000);
    let outcome = Outcome::of(&wire, &blocks_for_everything());
    assert_eq!(outcome.stream["findings"], json!({"sequence-conflict": 6}));
    assert_eq!(outcome.transport()[0], 0);
    assert!(
        outcome.continuity()[0] > 6,
        "what was forged was judged: {:?}",
        outcome.continuity()
    );
    assert_eq!(outcome.stream["worst_state"], "degraded");
    assert!(
        !outcome.events.iter().any(|event| event.contains("blocked")),
        "{:?}",
        outcome.events
    );
    assert_eq!((outcome.returned(), outcome.told.code), (wire.len(), Some(1)));

    // The same errors without anybody's forgery block.
    let (mut wire, mut encoder) = five_seconds();
    wire.send_edited(&mut encoder, 3000, |ms, mut packets| {
        packets
            .iter_mut()
            .filter(|_| ms % 500 == 0)
            .for_each(|packet| packet[3] ^= 5);
        packets
    });
    let outcome = Outcome::of(&wire, &blocks_for_everything());
    assert!(
        outcome.events.iter().any(|event| event.contains("blocked")),
        "{:?}",
        outcome.events
    );
}

#[test]
fn spoofed_packets_with_a_pid_that_the_rule_forbids_block_nothing_either() {
    let limit = "[rule.ts]\npids = { allowed = [0, 4096, \"256-261\"], on_exceed = \"block\", hold = \"2s\" }\n";
    let foreign = |n: u8| [ts_packet(0x777, n, n); 7];
    let (mut wire, mut encoder) = five_seconds();
    for n in 0..12 {
        wire.forge_with(3, &foreign(n));
        wire.send(&mut encoder, 500);
    }
    let outcome = Outcome::of(&wire, limit);
    assert_eq!(outcome.stream["findings"], json!({"sequence-conflict": 12}));
    assert!(
        outcome.events.contains(&"+pid-unlisted".to_owned()),
        "{:?}",
        outcome.events
    );
    assert!(
        !outcome.events.iter().any(|event| event.contains("blocked")),
        "{:?}",
        outcome.events
    );
    assert_eq!(outcome.returned(), wire.len());

    // An encoder that sends it blocks itself.
    let (mut wire, mut encoder) = five_seconds();
    wire.send_edited(&mut encoder, 6000, |ms, mut packets| {
        if ms.is_multiple_of(500) {
            packets.pop();
            packets.push(ts_packet(0x777, (ms / 500) as u8, 0));
        }
        packets
    });
    let outcome = Outcome::of(&wire, limit);
    assert!(
        outcome.events.contains(&"degraded>blocked pids".to_owned()),
        "{:?}",
        outcome.events
    );
}

/// A real session of ffmpeg and srt-live-transmit, encrypted, with three key refreshes (beside the engine's SRT tests).
const SESSION: &[u8] = include_bytes!("../src/engine/flow/srt/testdata/ctr128.pcap");
const SESSION_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/flow/srt/testdata/ctr128.pcap");
const PASSPHRASE: &str = "correct-horse-battery";

/// What inspect makes of the session without its first packets, under a rule with these keys, and the TS that it extracts.
fn joined(directory: &Path, skipped: usize, keys: &str) -> (Told, Vec<Value>, Vec<u8>) {
    let secret = put(directory, "passphrase", PASSPHRASE.as_bytes());
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("a file of our own");
    let rule = format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"srt\"\n\
         source = [\"10.0.0.1\"]\ndestination_port = [5000]\n[rule.srt]\n{}",
        keys.replace("SECRET", &secret.display().to_string())
    );
    let mut start = 24;
    for _ in 0..skipped {
        let length = u32::from_le_bytes(SESSION[start + 8..start + 12].try_into().unwrap());
        start += 16 + length as usize;
    }
    let name = format!("from-{skipped}");
    let run = directory.join(name);
    std::fs::create_dir(&run).expect("a directory");
    let capture = put(&run, "x.pcap", &[&SESSION[..24], &SESSION[start..]].concat());
    let policy = put(&run, "policy.toml", rule.as_bytes());
    let (told, events) = ts_lab::extracted(&run, &capture, Some(&policy));
    let media = std::fs::read_dir(run.join("evidence")).expect("evidence");
    let media = media.map(|entry| entry.expect("an entry").path());
    let media = media.filter(|path| path.extension().is_some_and(|extension| extension == "ts"));
    let media = media.flat_map(|path| std::fs::read(path).expect("what was extracted"));
    (told, events, media.collect())
}

#[test]
fn an_srt_session_joined_on_the_way_is_read_from_the_next_key_refresh_on() {
    let directory = TempDir::new().unwrap();
    let keys = "encryption = \"required\"\npassphrase_file = \"SECRET\"\n";
    let (_, _, whole) = joined(directory.path(), 0, keys);
    let (told, events, late) = joined(directory.path(), 20, keys);
    let report = told.report();
    let stream = &report["streams"][0];
    assert_eq!((streams(&report), text(stream, "/encryption")), (1, "aes-128-ctr"));
    assert!(stream["stream_id"].is_null() && stream["srt"].get("handshake").is_none_or(Value::is_null));
    assert_eq!(
        (stream["decrypted"].as_bool(), report["drop_reasons"].clone()),
        (Some(true), json!({}))
    );
    assert!(events.iter().any(|event| event["event"] == "srt-key-learnt"));
    // Six packets before the sender announced its next key together with the present one.
    assert_eq!(
        (number(stream, "/srt/undeciphered"), number(stream, "/transport/lost")),
        (6, 0)
    );
    assert_eq!(
        stream["ts"]["continuity_errors"],
        json!({"source": 0, "network": 0, "unknown": 0})
    );
    // What was lost before that and sent again after it can be read as well, and comes first.
    let (again, onward) = late.split_at(188);
    assert!(whole.as_chunks::<188>().0.iter().any(|packet| packet == again));
    assert!(onward.len() > 10_000 && whole.ends_with(onward));
}

#[test]
fn an_srt_session_joined_on_the_way_is_followed_without_its_key_or_dropped_as_the_rule_says() {
    let directory = TempDir::new().unwrap();
    // The rule has no passphrase: figures of the transport, and nothing of the media.
    let (told, _, media) = joined(directory.path(), 20, "encryption = \"required\"\n");
    let report = told.report();
    let stream = &report["streams"][0];
    assert_eq!((number(&report, "/packets/dropped"), media.len()), (0, 0));
    assert!(stream["ts"].is_null() && stream["stream_id"].is_null() && stream["decrypted"] == false);
    assert!(number(stream, "/transport/retransmitted") > 0 && number(stream, "/transport/lost") == 0);
    assert_eq!(stream["findings"], json!({}));

    let (told, _, _) = joined(directory.path(), 21, "on_unverified = \"drop\"\n");
    let report = told.report();
    assert_eq!((told.code, streams(&report)), (Some(1), 0), "{report:#}");
    let media = lossy_lab::tshark(&[
        "-r",
        SESSION_FILE,
        "-d",
        "udp.port==5000,srt",
        "-Y",
        "frame.number > 21 && srt.iscontrol == 0",
        "-T",
        "fields",
        "-e",
        "frame.number",
    ]);
    assert_eq!(report["drop_reasons"], json!({"srt-unverified": media.lines().count()}));
}
