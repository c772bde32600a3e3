//! The lossy cases of live media: what a naive count calls hundreds of errors is none of the sender's. Streams by ffmpeg and
//! srt-live-transmit over a relay that loses, swaps and duplicates; figures compared with what the relay did, with tshark
//! where tshark is right, and with the `dvb-conformance` crate on the ordered stream.
#![cfg(feature = "appliance")]

mod inspect_support;
mod lossy_lab;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use inspect_support::{inspect_by, inspect_json, number, streams, text};
use lossy_lab::{Lab, continuity_errors, relay, tshark, tshark_drops, tshark_rtp_lost, udp_payloads};
use serde_json::Value;
use tidegate_lab::wait_until;

/// RTP's fixed header, which is all that ffmpeg sends (RFC 3550 5.1).
const RTP_HEADER: usize = 12;
/// SRT's data header.
const SRT_HEADER: usize = 16;

fn rtp_sequence(datagram: &[u8]) -> u16 {
    u16::from_be_bytes([datagram[2], datagram[3]])
}

/// How far a sequence number is after another, modulo 2^16; the streams here are shorter than half of that.
fn after(first: u16, sequence: u16) -> u16 {
    sequence.wrapping_sub(first)
}

/// Transport stream of the datagrams in sequence order, each once.
fn ordered(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let first = rtp_sequence(&datagrams[0]);
    let by_sequence: BTreeMap<u16, &[u8]> = datagrams
        .iter()
        .map(|datagram| (after(first, rtp_sequence(datagram)), &datagram[RTP_HEADER..]))
        .collect();
    by_sequence.into_values().flatten().copied().collect()
}

#[test]
fn rtp_over_a_lossy_link_is_judged_as_it_was_sent() {
    const PORTS: [u16; 2] = [5004, 5014];
    let lab = Lab::new("rtp");
    let receiver = relay::sink(relay::socket(&lab.namespace, PORTS[1]));
    let to = SocketAddr::from(([127, 0, 0, 1], PORTS[1]));
    let relay = relay::one_way(relay::socket(&lab.namespace, PORTS[0]), to, 20_240_607);
    let capture = lab.capture(PORTS[1], "rtp.pcap");
    lab.send_video("rtp_mpegts", &format!("rtp://127.0.0.1:{}?pkt_size=1328", PORTS[0]));
    let capture = lab.end_capture(capture);
    let did = relay.finish();
    receiver.finish();

    let captured: Vec<Vec<u8>> = udp_payloads(&capture).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(
        captured.len(),
        did.delivered.len(),
        "the capture has all that the relay delivered"
    );
    let first = rtp_sequence(&did.delivered[0]);
    let last = did
        .delivered
        .iter()
        .map(|datagram| after(first, rtp_sequence(datagram)))
        .max()
        .expect("datagrams");
    let lost = did
        .lost
        .iter()
        .filter(|datagram| after(first, rtp_sequence(datagram)) < last)
        .count() as u64;
    let (swapped, duplicated) = (did.swapped, did.duplicated);
    println!(
        "relay: {} delivered, {lost} lost, {swapped} swapped, {duplicated} duplicated",
        did.delivered.len()
    );
    assert!(lost > 5 && swapped > 3 && duplicated > 3, "the link was lossy");

    let ts = ordered(&did.delivered);
    let ts_file = inspect_support::put(&lab.path(""), "ordered.ts", &ts);
    let truth = continuity_errors(&ts);
    let told = inspect_json(&capture);
    let report = told.report();
    assert_eq!((told.code, streams(&report)), (Some(1), 1), "{report:#}");
    let stream = &report["streams"][0];
    let transport = |key: &str| number(stream, &format!("/transport/{key}"));
    assert_eq!(transport("lost"), lost);
    assert_eq!(transport("reordered"), swapped);
    assert_eq!(transport("duplicated"), duplicated);
    assert_eq!(
        (transport("retransmitted"), transport("late"), transport("resets")),
        (0, 0, 0)
    );
    assert_eq!(number(stream, "/ts/packets"), ts.len() as u64 / 188);
    assert_eq!(number(stream, "/ts/continuity_errors/source"), 0);
    assert_eq!(number(stream, "/ts/continuity_errors/network"), truth);
    assert_eq!(number(stream, "/ts/continuity_errors/unknown"), 0);
    assert_eq!(
        tshark_drops(&ts_file, &[]),
        truth,
        "tshark is right on the ordered stream"
    );

    let decode = ["-d", "udp.port==5014,rtp"];
    let naive = tshark_drops(&capture, &decode);
    println!("continuity errors: {truth} in sequence order, {naive} by tshark in arrival order");
    assert!(
        naive > truth,
        "tshark counts reordering as errors when it reads the capture: {naive}, truly {truth}"
    );
    assert_eq!(
        tshark_rtp_lost(&capture, PORTS[1]),
        lost as i64 - duplicated as i64,
        "tshark takes each copy for a lost one"
    );
}

struct SrtCase {
    name: &'static str,
    seed: u64,
    key: Option<(&'static str, &'static str)>,
    forbidden: &'static [usize],
}

const STREAM_ID: &str = "live/channel-1";

/// What one SRT session over the lossy relay has shown.
struct SrtRun {
    report: Value,
    capture: std::path::PathBuf,
    received: Vec<u8>,
    did: relay::Caller,
    lab: Lab,
}

fn run_srt(case: &SrtCase) -> SrtRun {
    const SOURCE: u16 = 7000;
    const NEAR: u16 = 7001;
    const FAR: u16 = 7002;
    let lab = Lab::new(case.name);
    let key = case.key.map_or(String::new(), |(bytes, _)| {
        format!("&passphrase=correct-horse&pbkeylen={bytes}")
    });
    let listener = format!("srt://127.0.0.1:{FAR}?mode=listener&latency=500{key}");
    let caller = format!("srt://127.0.0.1:{NEAR}?mode=caller&latency=500&streamid={STREAM_ID}{key}");
    let capture = lab.capture(FAR, "srt.pcap");
    let (mut receiver, received) = lab.start_reading("srt-live-transmit", &["-a:no", &listener, "file://con"]);
    let far = relay::socket(&lab.namespace, 0);
    far.connect(("127.0.0.1", FAR)).expect("loopback");
    let relay = relay::srt(relay::socket(&lab.namespace, NEAR), far, case.seed, case.forbidden);
    let mut sender = lab.start(
        "srt-live-transmit",
        &["-a:no", "-q", &format!("udp://127.0.0.1:{SOURCE}"), &caller],
    );
    wait_until("the SRT session", Duration::from_secs(10), || relay.is_connected()).expect("a session");
    std::thread::sleep(Duration::from_millis(200));
    lab.send_video("mpegts", &format!("udp://127.0.0.1:{SOURCE}?pkt_size=1316"));
    // Twice the latency: retransmissions are over and the receiver has written all.
    std::thread::sleep(Duration::from_secs(1));
    sender.stop(Duration::from_secs(3)).expect("the sender ends");
    std::thread::sleep(Duration::from_millis(300));
    receiver.stop(Duration::from_secs(3)).expect("the receiver ends");
    let capture = lab.end_capture(capture);
    let did = relay.finish();
    let report = inspect_json(&capture).report();
    let received = received
        .join()
        .expect("a pipe")
        .unwrap_or_else(|e| panic!("{e}: {} {}", sender.log(), receiver.log()));
    inspect_support::put(&lab.path(""), "received.ts", &received);
    SrtRun {
        report,
        capture,
        received,
        did,
        lab,
    }
}

/// What holds of every session: counts as the relay, tshark and a plain reading of the capture have them.
fn check_srt(case: &SrtCase, run: &SrtRun) {
    let SrtRun {
        report, capture, did, ..
    } = run;
    assert_eq!(streams(report), 1, "{report:#}");
    let stream = &report["streams"][0];
    let file = capture.display().to_string();
    let in_tshark = |filter: &str, field: &str| {
        tshark(&[
            "-r",
            &file,
            "-d",
            "udp.port==7002,srt",
            "-Y",
            filter,
            "-T",
            "fields",
            "-e",
            field,
        ])
    };
    let retransmitted = in_tshark("srt.iscontrol == 0 && srt.msg.rexmit == 1", "frame.number")
        .lines()
        .count() as u64;
    assert!(
        did.lost > 5 && retransmitted > 5,
        "{} lost, {retransmitted} sent again",
        did.lost
    );
    assert_eq!(number(stream, "/transport/retransmitted"), retransmitted);
    let ids: BTreeSet<String> = in_tshark("srt.hs.sid", "srt.hs.sid")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(ids, BTreeSet::from([STREAM_ID.to_owned()]));
    assert_eq!(text(stream, "/stream_id"), STREAM_ID);
    assert_eq!(
        text(stream, "/encryption"),
        case.key.map_or("none", |(_, cipher)| cipher)
    );
    assert_eq!(
        (text(stream, "/protocol"), stream["decrypted"].as_bool()),
        ("srt", Some(false))
    );

    // An original that its retransmission has overtaken is a copy that the sender did not mark.
    let (mut seen, mut reordered, mut duplicated) = (BTreeSet::new(), 0, 0);
    for (number, retransmitted) in &did.delivered {
        let overtaken = seen.last().is_some_and(|highest| number < highest);
        let copy = !seen.insert(*number);
        reordered += u64::from(!retransmitted && overtaken && !copy);
        duplicated += u64::from(!retransmitted && copy);
    }
    let (first, last) = (seen.first().expect("data"), seen.last().expect("data"));
    let never_delivered = u64::from(last - first) + 1 - seen.len() as u64;
    assert_eq!(
        never_delivered,
        case.forbidden.len() as u64,
        "the sender repeated all that could be repeated"
    );
    assert!(reordered > 0);
    assert_eq!(number(stream, "/packets"), did.delivered.len() as u64);
    let transport = ["lost", "reordered", "duplicated", "late", "resets"]
        .map(|figure| number(stream, &format!("/transport/{figure}")));
    assert_eq!(transport, [never_delivered, reordered, duplicated, 0, 0]);
    assert_eq!(stream["findings"], serde_json::json!({}));
}

/// The same session joined after its handshake: the first packets are cut off the capture.
fn joined_late(run: &SrtRun) -> std::path::PathBuf {
    let late = run.lab.path("late.pcap");
    let cut = Command::new("editcap")
        .args(["-F", "pcap"])
        .args([&run.capture, &late])
        .arg("1-300")
        .output();
    let cut = cut.expect("editcap is needed by this test");
    assert!(cut.status.success(), "{}", String::from_utf8_lossy(&cut.stderr));
    late
}

fn srt_policy(run: &SrtRun, srt: &str) -> std::path::PathBuf {
    let rule = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"studio\"\nprotocol = \"srt\"\n\
                source = [\"127.0.0.1\"]\ndestination_port = [7002]\n[rule.srt]\n";
    inspect_support::put(&run.lab.path(""), "policy.toml", format!("{rule}{srt}\n").as_bytes())
}

/// Payloads of the data packets in a capture, by sequence number, and all in the order of their arrival.
fn srt_payloads(capture: &std::path::Path) -> (BTreeMap<u32, Vec<u8>>, Vec<u8>) {
    let (mut by_number, mut arrived) = (BTreeMap::new(), Vec::new());
    for (_, packet) in udp_payloads(capture) {
        if let Some(number) = relay::data_number(&packet) {
            arrived.extend_from_slice(&packet[SRT_HEADER..]);
            by_number.insert(number, packet[SRT_HEADER..].to_vec());
        }
    }
    (by_number, arrived)
}

#[test]
fn srt_in_the_clear_over_a_lossy_link_has_no_errors_in_sequence_order() {
    let case = SrtCase {
        name: "srt",
        seed: 11,
        key: None,
        forbidden: &[],
    };
    let run = run_srt(&case);
    check_srt(&case, &run);
    let (by_number, arrived) = srt_payloads(&run.capture);
    let sent: Vec<u8> = by_number.into_values().flatten().collect();
    let naive = continuity_errors(&arrived);
    println!(
        "continuity errors: {naive} in arrival order, 0 in sequence order; {} data packets lost",
        run.did.lost
    );
    assert!(naive > 20, "{naive} in arrival order");
    let stream = &run.report["streams"][0];
    assert_eq!(
        stream["ts"]["continuity_errors"],
        serde_json::json!({"source": 0, "network": 0, "unknown": 0})
    );
    assert_eq!(number(stream, "/ts/packets"), sent.len() as u64 / 188);
    assert_eq!(continuity_errors(&sent), 0);
    assert!(
        run.received == sent,
        "the receiver wrote what was sent: {} and {} bytes",
        run.received.len(),
        sent.len()
    );
    assert_eq!(inspect_json(&run.lab.path("received.ts")).code, Some(0));
    assert_eq!(
        inspect_json(&run.capture).code,
        Some(0),
        "retransmissions and reordering alone are no findings"
    );

    let late = joined_late(&run);
    let report = inspect_json(&late).report();
    let stream = &report["streams"][0];
    assert_eq!(
        (streams(&report), text(stream, "/protocol"), text(stream, "/encryption")),
        (1, "srt", "none")
    );
    assert!(stream["stream_id"].is_null(), "the handshake was not seen");
    assert_eq!(
        stream["ts"]["continuity_errors"],
        serde_json::json!({"source": 0, "network": 0, "unknown": 0})
    );
    assert_eq!(number(stream, "/transport/lost"), 0);
    let report = inspect_by(&srt_policy(&run, "on_unverified = \"drop\""), &late).report();
    assert_eq!(
        (streams(&report), number(&report, "/drop_reasons/srt-unverified") > 500),
        (0, true),
        "{report:#}"
    );
    let other = inspect_by(&srt_policy(&run, "stream_id = [\"other/*\"]"), &run.capture);
    assert!(
        number(&other.report(), "/drop_reasons/srt-stream-id") > 0,
        "{}",
        other.out
    );
    let admitted = inspect_by(
        &srt_policy(&run, "stream_id = [\"live/*\"]\nencryption = \"forbidden\""),
        &run.capture,
    );
    assert_eq!(
        (admitted.code, number(&admitted.report(), "/packets/dropped")),
        (Some(0), 0),
        "{}",
        admitted.out
    );
}

fn encrypted(case: &SrtCase) {
    let run = run_srt(case);
    check_srt(case, &run);
    assert!(
        run.report["streams"][0]["ts"].is_null(),
        "without the key nothing is said of the TS"
    );
    let received = inspect_json(&run.lab.path("received.ts"));
    assert_eq!(received.code, Some(0), "{}", received.out);
    assert_eq!(continuity_errors(&run.received), 0);

    let late = joined_late(&run);
    let report = inspect_json(&late).report();
    let stream = &report["streams"][0];
    assert_eq!((streams(&report), text(stream, "/encryption")), (1, "unverified"));
    assert!(stream["stream_id"].is_null() && stream["ts"].is_null());
    assert_eq!(number(stream, "/transport/lost"), 0);
    let required = inspect_by(&srt_policy(&run, "encryption = \"required\""), &run.capture);
    assert_eq!(
        (required.code, number(&required.report(), "/packets/dropped")),
        (Some(0), 0),
        "{}",
        required.out
    );
}

#[test]
fn srt_with_aes_128_over_a_lossy_link() {
    encrypted(&SrtCase {
        name: "srt128",
        seed: 22,
        key: Some(("16", "aes-128-ctr")),
        forbidden: &[],
    });
}

#[test]
fn srt_with_aes_256_over_a_lossy_link() {
    encrypted(&SrtCase {
        name: "srt256",
        seed: 33,
        key: Some(("32", "aes-256-ctr")),
        forbidden: &[],
    });
}

#[test]
fn srt_packets_that_never_came_are_lost_and_the_networks_fault() {
    let case = SrtCase {
        name: "srtlost",
        seed: 44,
        key: None,
        forbidden: &[200, 201, 600, 900],
    };
    let run = run_srt(&case);
    check_srt(&case, &run);
    let (by_number, _) = srt_payloads(&run.capture);
    let sent: Vec<u8> = by_number.into_values().flatten().collect();
    let truth = continuity_errors(&sent);
    assert!(truth > 0);
    let stream = &run.report["streams"][0];
    assert_eq!(
        stream["ts"]["continuity_errors"],
        serde_json::json!({"source": 0, "network": truth, "unknown": 0})
    );
}
