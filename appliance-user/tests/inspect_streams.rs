//! What `tidegate inspect` makes of streams beside plain RTP with payload type 33: other payload types, RTCP, more SSRCs,
//! RIST, TS straight in UDP.
#![cfg(feature = "appliance")]

mod inspect_support;

use inspect_support::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// UDP payloads with their time in milliseconds and destination port, from one sender to one receiver.
fn report(packets: impl IntoIterator<Item = (u64, u16, Vec<u8>)>) -> (Option<i32>, Value) {
    report_by(None, packets)
}

/// The same under a rule that allows one SSRC.
fn report_by_rule(packets: impl IntoIterator<Item = (u64, u16, Vec<u8>)>) -> (Option<i32>, Value) {
    let rule = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"one\"\nprotocol = \"rtp\"\nsource = [\"10.0.0.0/24\"]\n";
    report_by(Some(rule), packets)
}

fn report_by(rules: Option<&str>, packets: impl IntoIterator<Item = (u64, u16, Vec<u8>)>) -> (Option<i32>, Value) {
    let dir = TempDir::new().unwrap();
    let mut frames: Vec<Timed> = packets
        .into_iter()
        .map(|(ms, port, payload)| {
            let (from, to) = (address("10.0.0.1:5004"), format!("10.0.0.2:{port}"));
            (ms * 1000, ethernet(&udp(from, address(&to), &payload)))
        })
        .collect();
    frames.sort_by_key(|(time, _)| *time);
    let capture = put(dir.path(), "x.pcap", &pcap(&frames));
    let told = match rules {
        Some(rules) => inspect_by(&put(dir.path(), "policy.toml", rules.as_bytes()), &capture),
        None => inspect_json(&capture),
    };
    (told.code, told.report())
}

#[test]
fn without_a_policy_every_source_is_followed() {
    let both = media(0..100, 7).chain((0..100u16).map(|n| (u64::from(n) * 10 + 5, 5000, rtp_ts(20_000 + n, 8))));
    let (code, told) = report(both);
    assert_eq!((code, streams(&told)), (Some(0), 2), "{told:#}");
    assert_eq!(
        (number(&told, "/streams/0/packets"), number(&told, "/streams/1/packets")),
        (100, 100)
    );
}

fn media(numbers: std::ops::Range<u16>, ssrc: u32) -> impl Iterator<Item = (u64, u16, Vec<u8>)> {
    numbers.map(move |n| (u64::from(n) * 10, 5000, rtp_ts(n, ssrc)))
}

#[test]
fn ts_under_a_dynamic_payload_type_is_judged_and_what_is_no_ts_is_followed_by_its_numbers() {
    let lossy = || (0..100u16).filter(|n| *n != 50);
    let (code, told) = report(lossy().map(|n| (u64::from(n) * 10, 5000, rtp(96, n, 7, &ts_datagram(n.into())))));
    assert_eq!((code, text(&told, "/streams/0/protocol")), (Some(1), "rtp"));
    assert_eq!(number(&told, "/streams/0/transport/lost"), 1);
    assert_eq!(number(&told, "/streams/0/ts/continuity_errors/network"), 1);

    let (code, told) = report(lossy().map(|n| (u64::from(n) * 10, 5000, rtp(97, n, 7, &[n as u8 | 0x80; 900]))));
    assert_eq!((code, text(&told, "/streams/0/protocol")), (Some(1), "rtp"));
    assert_eq!(
        (
            number(&told, "/streams/0/transport/lost"),
            number(&told, "/streams/0/packets")
        ),
        (1, 99)
    );
    assert!(told["streams"][0]["ts"].is_null());
}

#[test]
fn rtcp_beside_its_media_is_a_stream_of_its_own_and_harms_none() {
    let sender_report = [&[0x80, 200, 0, 6][..], &[0; 24]].concat();
    let rtcp = |port| (0..5).map(move |n| (n * 100 + 3, port, [&[0x80, 200, 0, 6][..], &[0; 24]].concat()));
    let (code, told) = report(media(0..100, 7).chain(rtcp(5001)));
    assert_eq!((code, streams(&told)), (Some(0), 2));
    let shown = |place: usize| {
        (
            told["streams"][place]["protocol"].clone(),
            number(&told["streams"][place], "/packets"),
        )
    };
    assert_eq!((shown(0), shown(1)), ((json!("rtp"), 100), (json!("rtcp"), 5)));
    assert_eq!(number(&told, "/streams/1/bytes"), 5 * sender_report.len() as u64);
    assert!(told["streams"][1]["ts"].is_null() && told["streams"][1]["ssrc"].is_null());

    let (code, told) = report(media(0..100, 7).chain(rtcp(5000)));
    assert_eq!(
        (code, streams(&told)),
        (Some(0), 1),
        "RTCP on the media port (RFC 5761)"
    );
    assert_eq!(number(&told, "/packets/returned"), 105);
}

#[test]
fn a_second_ssrc_is_a_conflict_while_the_first_one_sends() {
    let intruder = (0..3u16).map(|n| (500 + u64::from(n), 5000, rtp_ts(9000 + n, 8)));
    let (code, told) = report_by_rule(media(0..100, 7).chain(intruder));
    assert_eq!((code, streams(&told)), (Some(1), 1));
    assert_eq!(told["streams"][0]["findings"], json!({"ssrc-conflict": 3}));
    assert_eq!(
        (number(&told, "/streams/0/ssrc"), number(&told, "/streams/0/packets")),
        (7, 100)
    );
    assert_eq!(number(&told, "/streams/0/transport/lost"), 0);
    assert_eq!(
        told["streams"][0]["ts"]["continuity_errors"],
        json!({"source": 0, "network": 0, "unknown": 0})
    );
}

#[test]
fn an_ssrc_after_a_second_of_silence_succeeds_the_first_one() {
    let successor = (0..100u16).map(|n| (2500 + u64::from(n) * 10, 5000, rtp_ts(40_000 + n, 8)));
    let (code, told) = report(media(0..100, 7).chain(successor));
    assert_eq!((code, streams(&told)), (Some(0), 1));
    assert_eq!(
        (number(&told, "/streams/0/ssrc"), number(&told, "/streams/0/packets")),
        (8, 200)
    );
    assert_eq!(
        (
            number(&told, "/streams/0/transport/resets"),
            number(&told, "/streams/0/transport/lost")
        ),
        (1, 0)
    );
}

#[test]
fn one_forged_packet_before_the_stream_does_not_challenge_it() {
    let forged = [(0, 5000, rtp_ts(30_000, 99))];
    let (code, told) = report_by_rule(forged.into_iter().chain(media(1..100, 7)));
    assert_eq!((code, streams(&told)), (Some(0), 1), "{told:#}");
    assert_eq!(
        (number(&told, "/streams/0/ssrc"), number(&told, "/streams/0/packets")),
        (7, 99)
    );
    assert_eq!(told["streams"][0]["findings"], json!({}));
    assert_eq!(number(&told, "/packets/returned"), 100);
}

#[test]
fn an_intruder_between_all_packets_does_not_keep_the_first_source_from_being_judged() {
    let intruder = (0..100u16).map(|n| (u64::from(n) * 10 + 5, 5000, rtp_ts(20_000 + n, 8)));
    let (code, told) = report_by_rule(media(0..100, 7).filter(|(ms, ..)| *ms != 500).chain(intruder));
    assert_eq!((code, streams(&told)), (Some(1), 1), "{told:#}");
    assert_eq!(
        (number(&told, "/streams/0/ssrc"), number(&told, "/streams/0/packets")),
        (7, 99)
    );
    assert_eq!(number(&told, "/streams/0/transport/lost"), 1);
    assert_eq!(
        number(&told, "/streams/0/findings/ssrc-conflict"),
        99,
        "its first packet was on probation"
    );
    // A flood of sources that send once each keeps nobody out.
    let flood = (0..60u16).map(|n| (u64::from(n / 3) * 10 + 5, 5000, rtp_ts(n, 1000 + 2 * u32::from(n))));
    let (_, told) = report_by_rule(flood.chain(media(1..100, 7)));
    assert_eq!(
        (streams(&told), number(&told, "/streams/0/packets")),
        (1, 99),
        "{told:#}"
    );
}

/// RIST: number 50 is lost and comes again 300 ms later with the SSRC's lowest bit set; so does 20 without need.
fn rist() -> Vec<(u64, u16, Vec<u8>)> {
    let again = [(323, 5000, rtp_ts(20, 7)), (800, 5000, rtp_ts(50, 7))];
    media(0..200, 6).filter(|(ms, ..)| *ms != 500).chain(again).collect()
}

#[test]
fn what_rist_sends_again_belongs_to_its_stream() {
    let (code, told) = report(rist());
    assert_eq!((code, streams(&told)), (Some(0), 1), "{told:#}");
    assert_eq!(
        (text(&told, "/streams/0/protocol"), number(&told, "/streams/0/ssrc")),
        ("rist", 6)
    );
    let transport = json!({"lost": 0, "reordered": 0, "duplicated": 0, "retransmitted": 2, "late": 0, "resets": 0});
    assert_eq!(told["streams"][0]["transport"], transport);
    assert_eq!(number(&told, "/streams/0/ts/packets"), 200 * 7);
}

#[test]
fn a_rist_rule_waits_for_retransmissions_from_the_start() {
    let dir = TempDir::new().unwrap();
    let rules = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"field\"\nprotocol = \"rist\"\n\
                 source = [\"10.0.0.0/24\"]\ndestination_port = [5000]\n";
    let policy = put(dir.path(), "policy.toml", rules.as_bytes());
    let frames = |(ms, port, payload): (u64, u16, Vec<u8>)| {
        (
            ms * 1000,
            ethernet(&udp(
                address("10.0.0.1:5004"),
                address(&format!("10.0.0.2:{port}")),
                &payload,
            )),
        )
    };
    let mut packets: Vec<Timed> = rist().into_iter().filter(|(ms, ..)| *ms != 323).map(frames).collect();
    packets.sort_by_key(|(time, _)| *time);
    let told = inspect_by(&policy, &put(dir.path(), "x.pcap", &pcap(&packets)));
    let report = told.report();
    assert_eq!(
        (told.code, text(&report, "/streams/0/protocol")),
        (Some(0), "rist"),
        "{report:#}"
    );
    assert_eq!(number(&report, "/streams/0/transport/retransmitted"), 1);
    assert_eq!(number(&report, "/streams/0/transport/lost"), 0);
}

#[test]
fn ts_straight_in_udp_is_judged_in_arrival_order_and_blames_nobody() {
    let bare = |n: u32| (u64::from(n) * 10, 5000, ts_datagram(n));
    let (code, told) = report((0..100).map(bare));
    assert_eq!((code, text(&told, "/streams/0/protocol")), (Some(0), "ts-udp"));
    assert!(told["streams"][0]["ssrc"].is_null());
    let (code, told) = report((0..100).filter(|n| *n != 50).map(bare));
    assert_eq!(code, Some(1));
    assert_eq!(
        told["streams"][0]["ts"]["continuity_errors"],
        json!({"source": 0, "network": 0, "unknown": 1})
    );
    assert_eq!(
        number(&told, "/streams/0/transport/lost"),
        0,
        "without numbers nobody can say how much was lost"
    );
    // Swapped datagrams: three events, as every tool counts two packets that changed places.
    let mut swapped: Vec<u32> = (0..100).collect();
    swapped.swap(50, 51);
    let order = swapped
        .into_iter()
        .enumerate()
        .map(|(place, n)| (place as u64 * 10, 5000, ts_datagram(n)));
    let (_, told) = report(order);
    assert_eq!(number(&told, "/streams/0/ts/continuity_errors/unknown"), 3);
}

#[test]
fn without_a_rule_nothing_is_dropped_for_being_of_another_protocol() {
    let stray = || {
        [
            (55, 5000, b"a probe of something else".to_vec()),
            (95, 5000, Vec::new()),
        ]
    };
    let bare = (0..50u32).map(|n| (u64::from(n) * 10, 5000, ts_datagram(n)));
    for (protocol, packets) in [
        ("rtp", media(0..50, 7).chain(stray()).collect::<Vec<_>>()),
        ("ts-udp", bare.chain(stray()).collect()),
    ] {
        let (code, told) = report(packets);
        assert_eq!((code, number(&told, "/packets/returned")), (Some(0), 52), "{told:#}");
        assert_eq!((streams(&told), text(&told, "/streams/0/protocol")), (1, protocol));
    }
}
