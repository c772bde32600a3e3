//! Each limit of `[rule.ts]` through `inspect`: exceeded it raises its condition, degrades or blocks the stream and exits
//! with 1; kept it does nothing. And what changes in a stream without exceeding anything is told as events.
#![cfg(feature = "appliance")]

mod inspect_support;
mod ts_lab;

use std::collections::BTreeSet;

use inspect_support::*;
use serde_json::{Value, json};
use ts_lab::{AAC, AUDIO, BITRATE, Encoder, NULL, PMT_PID, Packet, VIDEO, Wire};

/// What came of a capture under `[rule.ts]` with these keys.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    worst_state: String,
    raised: Vec<String>,
}

fn outcome(wire: &Wire, keys: &str) -> Outcome {
    let (told, events) = wire.events_by(&format!("[rule.ts]\n{keys}\n"));
    let report = told.report();
    assert_eq!(streams(&report), 1, "{report:#}");
    let raised = events.iter().filter(|event| event["event"] == "condition-raised");
    let name = |event: &Value| event["condition"].as_str().expect("a name").to_owned();
    Outcome {
        code: told.code,
        worst_state: text(&report, "/streams/0/worst_state").to_owned(),
        raised: raised.map(name).collect(),
    }
}

fn kept() -> Outcome {
    Outcome {
        code: Some(0),
        worst_state: "healthy".to_owned(),
        raised: vec![],
    }
}

fn exceeded(condition: &str, worst_state: &str) -> Outcome {
    Outcome {
        code: Some(1),
        worst_state: worst_state.to_owned(),
        raised: vec![condition.to_owned()],
    }
}

/// Ten seconds of an encoder.
fn ten_seconds(mut encoder: Encoder) -> Wire {
    let mut wire = Wire::new();
    wire.send(&mut encoder, 10_000);
    wire
}

/// Ten seconds, edited on their way by the time in milliseconds.
fn edited(edit: impl FnMut(u64, Vec<Packet>) -> Vec<Packet>) -> Wire {
    let mut wire = Wire::new();
    wire.send_edited(&mut Encoder::new(), 10_000, edit);
    wire
}

fn pid(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff
}

/// Makes a null packet of it.
fn blank(packet: &mut Packet) {
    *packet = [0xff; 188];
    packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
}

/// The table: each limit, what a stream does, and what comes of it.
fn check(wire: &Wire, condition: &str, exceeding: &[&str], keeping: &[&str]) {
    for keys in exceeding {
        let state = if keys.contains("block") { "blocked" } else { "degraded" };
        assert_eq!(outcome(wire, keys), exceeded(condition, state), "{keys}");
    }
    for keys in keeping {
        assert_eq!(outcome(wire, keys), kept(), "{keys}");
    }
}

#[test]
fn bit_rate() {
    let wire = ten_seconds(Encoder::new());
    assert_eq!(BITRATE, 1_052_800);
    check(
        &wire,
        "bitrate-high",
        &[
            "bitrate = { max = \"1Mbps\" }",
            "bitrate = { max = \"1040kbps\", window = \"3s\" }",
            "bitrate = { max = \"1Mbps\", on_exceed = \"block\", hold = \"1s\" }",
        ],
        &[
            "bitrate = { max = \"1065kbps\" }",
            "bitrate = { max = \"1Mbps\", window = \"20s\" }",
        ],
    );
    check(
        &wire,
        "bitrate-low",
        &[
            "bitrate = { min = \"1065kbps\" }",
            "bitrate = { min = \"1065kbps\", on_exceed = \"block\", hold = \"1s\" }",
        ],
        &[
            "bitrate = { min = \"1040kbps\" }",
            "bitrate = { min = \"1Mbps\", max = \"1100kbps\" }",
        ],
    );
}

#[test]
fn null_packets() {
    let mut encoder = Encoder::new();
    // 7 of 28: a quarter.
    encoder.nulls = 7;
    check(
        &ten_seconds(encoder),
        "null-packets",
        &[
            "null_packets = { max_percent = 24, window = \"1s\" }",
            "null_packets = { max_percent = 0, window = \"5s\" }",
            "null_packets = { max_percent = 24, window = \"1s\", on_exceed = \"block\", hold = \"1s\" }",
        ],
        &["null_packets = { max_percent = 26, window = \"1s\" }"],
    );
}

#[test]
fn stream_types() {
    check(
        &ten_seconds(Encoder::new()),
        "stream-type",
        &[
            "stream_types = { allowed = [\"h264\"] }",
            "stream_types = { allowed = [\"h265\", \"aac\"], on_exceed = \"block\", hold = \"1s\" }",
        ],
        &[
            "stream_types = { allowed = [\"h264\", \"aac\"] }",
            "stream_types = { allowed = [27, 15] }",
        ],
    );
}

#[test]
fn pids() {
    let wire = ten_seconds(Encoder::new());
    check(
        &wire,
        "pid-unlisted",
        &[
            "pids = { allowed = [0, 4096, \"256-260\"] }",
            "pids = { allowed = [0, 4096, \"257-261\"], on_exceed = \"block\", hold = \"1s\" }",
        ],
        &["pids = { allowed = [0, 4096, \"256-261\"] }"],
    );
    check(
        &wire,
        "pid-missing",
        &["pids = { required = [256, 300] }"],
        &["pids = { required = [0, 256, 261, 4096] }"],
    );
    // A PID that ceases after two seconds is missing when five more have passed. Its packets become null packets.
    let ceases = edited(|ms, mut packets| {
        let ceased = |packet: &&mut Packet| ms >= 2000 && pid(packet) == AUDIO + 4;
        packets.iter_mut().filter(ceased).for_each(blank);
        packets
    });
    let keys = format!(
        "tr101290 = {{ priority = 1, max_violations = 10 }}\npids = {{ required = [{}] }}",
        AUDIO + 4
    );
    assert_eq!(outcome(&ceases, &keys).raised, ["pid-missing"]);
}

/// What violates one indicator: a PAT that stays away for 600 ms, PCRs that do for 200 ms, a PID without a PMT.
fn without(from: u64, to: u64, is_it: fn(&Packet) -> bool) -> Wire {
    edited(|ms, mut packets| {
        let gone = |packet: &&mut Packet| (from..to).contains(&ms) && is_it(packet);
        packets.iter_mut().filter(gone).for_each(blank);
        packets
    })
}

fn has_pcr(packet: &Packet) -> bool {
    packet[3] & 0x20 != 0 && packet[5] & 0x10 != 0
}

#[test]
fn violations_of_tr_101_290() {
    let tr =
        |keys: &str| format!("continuity = {{ max_incidents = 100, ignore_pids = [0, 256] }}\ntr101290 = {{ {keys} }}");
    let judged = |wire: &Wire, keys: &str| outcome(wire, &tr(keys));
    let figure = |wire: &Wire, name: &str| {
        let report = wire.observed().report();
        number(&report, &format!("/streams/0/tr101290/{name}"))
    };
    let alert = exceeded("tr101290", "degraded");
    let tolerated = Outcome {
        code: Some(1),
        ..kept()
    };

    let pat_gone = without(5000, 5600, |packet| pid(packet) == 0);
    assert_eq!(figure(&pat_gone, "1.3.a"), 1);
    assert_eq!(judged(&pat_gone, "priority = 1"), alert);
    assert_eq!(
        judged(&pat_gone, "priority = 1, on_exceed = \"block\""),
        exceeded("tr101290", "blocked")
    );
    assert_eq!(
        judged(&pat_gone, "max_violations = 1"),
        tolerated,
        "borne by the rule, a finding of the file"
    );
    assert_eq!(judged(&pat_gone, "thresholds = { pat = \"1s\" }"), kept());

    let pcr_gone = edited(|ms, mut packets| {
        // The adaptation field without its PCR flag: nothing else is missing.
        let late = |packet: &&mut Packet| (5000..5200).contains(&ms) && has_pcr(packet);
        packets.iter_mut().filter(late).for_each(|packet| packet[5] = 0);
        packets
    });
    assert_eq!(figure(&pcr_gone, "2.3.a"), 2, "240 ms are twice too long");
    assert_eq!(judged(&pcr_gone, ""), alert, "priorities 1 and 2 unless said otherwise");
    assert_eq!(judged(&pcr_gone, "priority = 1"), tolerated);
    assert_eq!(
        judged(
            &pcr_gone,
            "thresholds = { pcr_repetition = \"300ms\", pcr_discontinuity = \"300ms\" }"
        ),
        kept()
    );

    let mut encoder = Encoder::new();
    let mut wire = Wire::new();
    wire.send(&mut encoder, 2000);
    for _ in 0..100 {
        encoder.send_section(0x400, &[0x80, 0x70, 0]);
        wire.send(&mut encoder, 40);
    }
    assert!(figure(&wire, "3.4.a") >= 1);
    assert_eq!(judged(&wire, ""), kept(), "priority 3 is no finding by itself");
    assert_eq!(judged(&wire, "priority = 3"), alert);
    assert_eq!(
        judged(&wire, "priority = 3, thresholds = { unreferenced_pid = \"1h\" }"),
        kept()
    );
}

#[test]
fn a_limit_that_is_kept_again_is_cleared() {
    let mut encoder = Encoder::new();
    let mut wire = Wire::new();
    encoder.nulls = 7;
    wire.send(&mut encoder, 6000);
    encoder.nulls = 0;
    wire.send(&mut encoder, 14_000);
    let (told, events) = wire.events_by("[rule.ts]\nnull_packets = { max_percent = 20, window = \"1s\" }\n");
    let story: Vec<_> = events
        .iter()
        .filter(|event| ["condition-raised", "condition-cleared", "state-changed"].contains(&text(event, "/event")))
        .map(|event| {
            let at = text(event, "/time");
            let second: f64 = at[17..23].parse().expect("seconds");
            (second - 20.0, text(event, "/event"))
        })
        .collect();
    let names: Vec<_> = story.iter().map(|(_, name)| *name).collect();
    assert_eq!(
        names,
        [
            "condition-raised",
            "state-changed",
            "condition-cleared",
            "state-changed"
        ]
    );
    // After two seconds of it, and after ten without it; each is looked at once a second.
    assert!(
        (2.0..=4.1).contains(&story[0].0) && (16.0..=18.1).contains(&story[2].0),
        "{story:?}"
    );
    let report = told.report();
    assert_eq!(
        (
            told.code,
            text(&report, "/streams/0/state"),
            text(&report, "/streams/0/worst_state")
        ),
        (Some(1), "healthy", "degraded")
    );
}

#[test]
fn malformed_datagrams_are_told_or_dropped_as_the_rule_says() {
    let spoilt: fn(&mut Vec<Packet>) = |packets| packets[3][0] = 0x48;
    let erroneous: fn(&mut Vec<Packet>) = |packets| packets[3][1] |= 0x80;
    for (spoil, figure) in [(spoilt, "sync_byte_errors"), (erroneous, "transport_errors")] {
        let wire = edited(|ms, mut packets| {
            if ms == 5000 {
                spoil(&mut packets);
            }
            packets
        });
        for (keys, dropped) in [("", 0), ("malformed_ts = \"drop\"", 1), ("malformed_ts = \"alert\"", 0)] {
            let told = wire.judged_by(&format!("[rule.ts]\n{keys}\n"));
            let report = told.report();
            assert_eq!(
                (told.code, number(&report, "/packets/dropped")),
                (Some(1), dropped),
                "{keys} {figure}"
            );
            assert_eq!(number(&report, &format!("/streams/0/ts/{figure}")), 1, "{keys}");
            if dropped > 0 {
                assert_eq!(report["drop_reasons"], json!({"malformed-ts": 1}));
            }
        }
    }
}

/// Events by name, each with what it says but for stream and time.
fn events_named(events: &[Value], names: &[&str]) -> Vec<Value> {
    let named = events.iter().filter(|event| names.contains(&text(event, "/event")));
    named
        .map(|event| {
            let mut said = event.as_object().expect("an object").clone();
            said.remove("stream");
            said.remove("time");
            said.into()
        })
        .collect()
}

#[test]
fn components_that_come_and_go_are_told() {
    let mut encoder = Encoder::new();
    let mut wire = Wire::new();
    wire.send(&mut encoder, 3000);
    // The fifth audio goes, the fourth becomes another type, splice information comes.
    encoder.components.truncate(5);
    encoder.components[4].0 = 0x11;
    encoder.components.push((ts_lab::SPLICE, ts_lab::CUES));
    encoder.version = 1;
    wire.send(&mut encoder, 3000);
    let (told, events) = wire.events_by("");
    let changes = events_named(
        &events,
        &[
            "component-added",
            "component-removed",
            "table-version",
            "pcr-pid-changed",
        ],
    );
    let (initial, changes) = changes.split_at(6);
    let first: BTreeSet<_> = initial
        .iter()
        .map(|event| (number(event, "/pid"), number(event, "/stream_type")))
        .collect();
    let listed = Encoder::new().components;
    assert_eq!(
        first,
        listed
            .iter()
            .map(|(kind, pid)| (u64::from(*pid), u64::from(*kind)))
            .collect()
    );
    assert!(
        initial
            .iter()
            .all(|event| event["event"] == "component-added" && event["initial"] == true)
    );
    let component = |event: &str, pid: u16, kind: u8, name: &str| {
        let mut said = json!({"event": event, "programme": 1, "pid": pid, "stream_type": kind, "kind": name});
        if event == "component-added" {
            said["initial"] = json!(false);
        }
        said
    };
    let key = |event: &Value| event.to_string();
    let mut expected = vec![
        component("component-removed", AUDIO + 3, AAC, "aac"),
        component("component-added", AUDIO + 3, 0x11, "aac-latm"),
        component("component-removed", AUDIO + 4, AAC, "aac"),
        component("component-added", ts_lab::CUES, ts_lab::SPLICE, "scte35"),
        json!({"event": "table-version", "pid": PMT_PID, "table_id": 2, "extension": 1, "version": 1}),
    ];
    let mut changes = changes.to_vec();
    changes.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(changes, expected);
    let report = told.report();
    let listed = report["streams"][0]["ts"]["programmes"][0]["components"]
        .as_array()
        .expect("an array");
    let now: Vec<_> = listed
        .iter()
        .map(|component| component["pid"].as_u64().expect("a PID"))
        .collect();
    assert_eq!(now, [0x100, 0x101, 0x102, 0x103, 0x104, 0x1f0]);
}

#[test]
fn a_pid_that_becomes_scrambled_is_told_and_so_is_that_it_is_clear_again() {
    let mut encoder = Encoder::new();
    let mut wire = Wire::new();
    // What is scrambled needs a CAT (TR 101 290 2.6).
    encoder.send_section(1, &ts_lab::long_section(1, 0xffff, 0, &[]));
    wire.send(&mut encoder, 3000);
    encoder.scrambled = Some(AUDIO);
    wire.send(&mut encoder, 4000);
    encoder.scrambled = None;
    wire.send(&mut encoder, 3000);
    let (told, events) = wire.events_by("");
    let scrambling = |scrambled: bool| json!({"event": "scrambling", "pid": AUDIO, "scrambled": scrambled});
    assert_eq!(
        events_named(&events, &["scrambling"]),
        [scrambling(true), scrambling(false)]
    );
    assert_eq!(told.code, Some(0), "whoever scrambles a component means to");
    let report = told.report();
    let pids = report["streams"][0]["ts"]["pids"].as_array().expect("an array");
    for listed in pids {
        let scrambled = if listed["pid"] == AUDIO { 100 } else { 0 };
        assert_eq!(number(listed, "/scrambled_packets"), scrambled, "{listed:#}");
        assert_eq!(listed["scrambled"], false, "at the end");
    }
    assert!(pids.iter().any(|listed| listed["pid"] == VIDEO) && !pids.iter().any(|listed| listed["pid"] == NULL));
}
