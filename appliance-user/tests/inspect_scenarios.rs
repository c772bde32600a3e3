//! Scenarios of live operation as captures, judged by `tidegate inspect`: forged numbers, wraps, lost tables, replies. Those
//! that need a clock and a policy's actions are told beside the engine.
#![cfg(feature = "appliance")]

mod inspect_support;

use inspect_support::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const SENDER: &str = "10.0.0.1:5004";

/// A UDP payload, when it is sent (milliseconds), from where and to where.
struct Sent<'a>(u64, &'a str, &'a str, Vec<u8>);

fn judge(policy: Option<&str>, packets: impl IntoIterator<Item = Sent<'static>>) -> (Option<i32>, Value) {
    let directory = TempDir::new().expect("a directory");
    let frames: Vec<Timed> = packets
        .into_iter()
        .map(|Sent(ms, from, to, payload)| (ms * 1000, ethernet(&udp(address(from), address(to), &payload))))
        .collect();
    assert!(
        frames.is_sorted_by_key(|(time, _)| *time),
        "a capture is in order of time"
    );
    let capture = put(directory.path(), "x.pcap", &pcap(&frames));
    let told = match policy {
        Some(text) => inspect_by(&put(directory.path(), "policy.toml", text.as_bytes()), &capture),
        None => inspect_json(&capture),
    };
    (told.code, told.report())
}

/// Packets 10 ms apart from one sender to one receiver, in the order given.
fn stream(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<Sent<'static>> {
    (0..)
        .zip(packets)
        .map(|(n, packet)| Sent(n * 10, SENDER, "10.0.0.2:5000", packet))
        .collect()
}

fn transport(report: &Value) -> [u64; 6] {
    ["lost", "reordered", "duplicated", "retransmitted", "late", "resets"]
        .map(|figure| number(report, &format!("/streams/0/transport/{figure}")))
}

fn continuity(report: &Value) -> [u64; 3] {
    ["source", "network", "unknown"].map(|fault| number(report, &format!("/streams/0/ts/continuity_errors/{fault}")))
}

/// Places of a stream in which every third packet comes two places late.
fn reordered(count: u32) -> Vec<u32> {
    let mut places: Vec<u32> = (0..count).collect();
    places.sort_by_key(|place| if place % 3 == 1 { place * 2 + 5 } else { place * 2 });
    places
}

/// RFC 4737: packets whose place is below that of an earlier one.
fn overtaken(places: &[u32]) -> u64 {
    let mut highest = 0;
    let mut count = 0;
    for place in places {
        count += u64::from(*place < highest);
        highest = highest.max(*place);
    }
    count
}

#[test]
fn one_spoofed_packet_far_ahead_costs_nothing() {
    let mut packets: Vec<Vec<u8>> = (0..300).map(|n| rtp_ts(n, 7)).collect();
    packets.insert(150, rtp_ts(1150, 7));
    let (_, report) = judge(None, stream(packets));
    assert_eq!(streams(&report), 1, "{report:#}");
    assert_eq!(report["streams"][0]["findings"], json!({"out-of-window": 1}));
    assert_eq!((transport(&report), continuity(&report)), ([0; 6], [0; 3]));
}

#[test]
fn rtp_numbers_wrap_under_reordering() {
    let places = reordered(300);
    let sequence = |place: u32| (65_400 + place) as u16;
    let packets = places
        .iter()
        .map(|place| rtp(33, sequence(*place), 7, &ts_datagram(*place)));
    let (_, report) = judge(None, stream(packets));
    assert_eq!(streams(&report), 1, "{report:#}");
    assert_eq!(transport(&report), [0, overtaken(&places), 0, 0, 0, 0]);
    assert_eq!(
        (continuity(&report), number(&report, "/streams/0/ts/packets")),
        ([0; 3], 300 * 7)
    );
}

/// An SRT data packet in the clear (draft-sharabayko-srt 3.1). No message has the number 0: libsrt's FEC has it.
fn srt(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = (number & 0x7fff_ffff).to_be_bytes().to_vec();
    let message = number % 0x03ff_ffff + 1;
    for word in [0xc000_0000 | message, number.wrapping_mul(10_000), 0x1234_5678] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn srt_numbers_wrap_under_reordering() {
    let places = reordered(300);
    let packets = places
        .iter()
        .map(|place| srt(0x7fff_ffff - 150 + place, &ts_datagram(*place)));
    let (_, report) = judge(None, stream(packets));
    assert_eq!(streams(&report), 1, "{report:#}");
    assert_eq!(text(&report, "/streams/0/protocol"), "srt");
    assert_eq!(transport(&report), [0, overtaken(&places), 0, 0, 0, 0]);
    assert_eq!(
        (continuity(&report), number(&report, "/streams/0/ts/packets")),
        ([0; 3], 300 * 7)
    );
}

/// One PAT, always the same but for its counter, and six packets of another PID.
fn with_pat(place: u32) -> Vec<u8> {
    let others = (0..6).flat_map(|n| ts_packet(256, (place * 6 + n) as u8, n as u8));
    ts_section(0, place as u8, PAT).into_iter().chain(others).collect()
}

#[test]
fn fifteen_lost_static_pats_are_no_duplicate() {
    let there = |place: &u32| !(100..115).contains(place);
    let packets = (0..300)
        .filter(there)
        .map(|place| rtp(33, place as u16, 7, &with_pat(place)));
    let (code, report) = judge(None, stream(packets));
    assert_eq!((code, streams(&report)), (Some(1), 1), "{report:#}");
    assert_eq!(transport(&report)[0], 15);
    // The PAT after the gap has the counter and the bytes of the one before it; 90 packets of the other PID are 10 beyond
    // the counter's turns. Both are gaps, and the network's. dvb-conformance and TSDuck, which know no sequence numbers,
    // take the first for a legal duplicate.
    assert_eq!(continuity(&report), [0, 2, 0]);
    assert_eq!(number(&report, "/streams/0/ts/duplicates"), 0);
}

#[test]
fn a_retransmission_makes_no_table_overdue_that_has_come_meanwhile() {
    // Number 50 comes 800 ms late; a PAT and a PMT come every 160 ms, and wait behind it.
    let on_time = (0..300u16)
        .filter(|n| *n != 50)
        .map(|n| Sent(u64::from(n) * 10, SENDER, "10.0.0.2:5000", rtp_ts(n, 6)));
    let mut packets: Vec<Sent<'_>> = on_time.collect();
    let late = packets.iter().position(|Sent(ms, ..)| *ms == 1300).expect("number 130");
    packets.insert(late, Sent(1300, SENDER, "10.0.0.2:5000", rtp_ts(50, 7)));
    let (code, report) = judge(Some(&rule("rist")), packets);
    assert_eq!(transport(&report), [0, 0, 0, 1, 0, 0]);
    for indicator in ["1.3.a", "1.5.a", "1.6"] {
        assert_eq!(
            number(&report, &format!("/streams/0/tr101290/{indicator}")),
            0,
            "{report:#}"
        );
    }
    assert_eq!(code, Some(0));
}

/// A rule for streams to 10.0.0.2:5000 and nothing else.
fn rule(protocol: &str) -> String {
    format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"one\"\nprotocol = \"{protocol}\"\n\
         source = [\"10.0.0.1\"]\ndestination = [\"10.0.0.2\"]\ndestination_port = [5000]\n"
    )
}

/// How many of three packets from a port of the receiver are returned.
fn replies(protocol: &str, port: &'static str, packet: &[u8]) -> u64 {
    let packets = (0..3).map(|n| Sent(n * 100, port, SENDER, packet.to_vec()));
    let (_, report) = judge(Some(&rule(protocol)), packets);
    assert_eq!(number(&report, "/packets/seen"), 3);
    assert_eq!(
        number(&report, "/packets/returned") + number(&report, "/packets/dropped"),
        3
    );
    number(&report, "/packets/returned")
}

#[test]
fn replies_without_a_forward_flow_come_from_the_rules_own_ports() {
    // An acknowledgement (SRT control type 2) and a receiver report without blocks (RFC 3550 6.4.2).
    let acknowledgement = [&[0x80, 2, 0, 0][..], &[0; 16]].concat();
    let receiver_report = [0x80, 201, 0, 1, 0, 0, 0, 9];
    assert_eq!(replies("srt", "10.0.0.2:5000", &acknowledgement), 3, "SRT's own port");
    assert_eq!(replies("srt", "10.0.0.2:5001", &acknowledgement), 0);
    for protocol in ["rtp", "rist"] {
        assert_eq!(
            replies(protocol, "10.0.0.2:5001", &receiver_report),
            3,
            "{protocol}: RTCP's port"
        );
        assert_eq!(replies(protocol, "10.0.0.2:5002", &receiver_report), 0, "{protocol}");
    }
    assert_eq!(
        replies("ts-udp", "10.0.0.2:5000", &ts_datagram(0)),
        0,
        "nobody answers bare TS"
    );
    assert_eq!(replies("srt", "10.0.0.3:5000", &acknowledgement), 0, "another host");
}
