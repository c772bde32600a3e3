//! What `inspect` says of an SRT session beside what tshark reads of the same capture, figure by figure: a live session of
//! srt-live-transmit in which packets never arrive however often they are sent again, and captures of encrypted ones.
#![cfg(feature = "appliance")]

mod inspect_support;
mod lossy_lab;

use std::path::{Path, PathBuf};
use std::time::Duration;

use inspect_support::*;
use lossy_lab::{Lab, relay};
use serde_json::{Value, json};
use tidegate_lab::wait_until;

const STREAM_ID: &str = "#!::r=live/figures,m=publish";
/// Latencies of caller and listener in milliseconds: the greater one counts both ways.
const LATENCIES: (u32, u32) = (200, 300);

/// What tshark is asked of each packet.
const FIELDS: [&str; 21] = [
    "srt.iscontrol",
    "srt.type",
    "srt.msg.rexmit",
    "srt.rtt",
    "srt.rttvar",
    "srt.bufavail",
    "srt.rate",
    "srt.bw",
    "srt.rcvrate",
    "srt.hs.version",
    "srt.hs.blocktype",
    "srt.hs.agent_latency",
    "srt.hs.peer_latency",
    "srt.hs.sid",
    "srt.hs.srtflags.tsbpd_snd",
    "srt.hs.srtflags.tsbpd_rcv",
    "srt.hs.srtflags.haicrypt",
    "srt.hs.srtflags.tlpkt_drop",
    "srt.hs.srtflags.nak_report",
    "srt.hs.srtflags.rexmit",
    "srt.hs.srtflags.stream",
];

/// A packet by tshark's fields; absent ones are empty.
struct Packet(Vec<String>);

impl Packet {
    fn field(&self, name: &str) -> &str {
        let place = FIELDS
            .iter()
            .position(|field| *field == name)
            .expect("a field that is asked for");
        &self.0[place]
    }

    fn is_control(&self, kind: u16) -> bool {
        self.field("srt.type") == format!("{kind:#06x}")
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name)
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {:?}", self.0))
    }
}

fn tshark(file: &Path, port: u16, filter: &str, more: &[&str]) -> String {
    let (file, decode) = (file.display().to_string(), format!("udp.port=={port},srt"));
    lossy_lab::tshark(&[&["-r", &file, "-d", &decode, "-Y", filter][..], more].concat())
}

fn packets_of(file: &Path, port: u16) -> Vec<Packet> {
    let fields = FIELDS.iter().flat_map(|field| ["-e", field]);
    let lines = tshark(
        file,
        port,
        "srt",
        &["-T", "fields"].into_iter().chain(fields).collect::<Vec<_>>(),
    );
    lines
        .lines()
        .map(|line| Packet(line.split('\t').map(str::to_owned).collect()))
        .collect()
}

/// Numbers that loss reports ask for, as tshark spells them: one, or a range.
fn asked_for(file: &Path, port: u16) -> u64 {
    let text = tshark(file, port, "srt.type == 3", &["-O", "srt"]);
    let lines = text.lines().map(str::trim);
    let one = lines.clone().filter(|line| line.starts_with("Loss sequence: ")).count() as u64;
    let ranges = lines.filter_map(|line| line.strip_prefix("Loss sequence range: "));
    let length = |range: &str| {
        let (first, last) = range.split_once('-').expect("a range");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        number(last) - number(first) + 1
    };
    one + ranges.map(length).sum::<u64>()
}

/// Compares every figure that both tell.
fn compare(file: &Path, port: u16, stream: &Value) {
    let packets = packets_of(file, port);
    let figure = |key: &str| number(stream, &format!("/srt/{key}"));
    let count = |is_it: &dyn Fn(&Packet) -> bool| packets.iter().filter(|packet| is_it(packet)).count() as u64;
    let is_data = |packet: &Packet| packet.field("srt.iscontrol") == "0";
    assert_eq!(number(stream, "/packets"), count(&is_data));
    let again = count(&|packet| is_data(packet) && packet.field("srt.msg.rexmit") == "1");
    assert_eq!(number(stream, "/transport/retransmitted"), again);
    for (key, kind) in [
        ("keepalives", 1),
        ("naks", 3),
        ("congestion_warnings", 4),
        ("shutdowns", 5),
        ("ackacks", 6),
        ("drop_requests", 7),
        ("peer_errors", 8),
    ] {
        assert_eq!(figure(key), count(&|packet| packet.is_control(kind)), "{key}");
    }
    let is_full = |packet: &Packet| packet.is_control(2) && !packet.field("srt.rtt").is_empty();
    assert_eq!(figure("acks"), count(&is_full));
    assert_eq!(
        figure("light_acks"),
        count(&|packet| packet.is_control(2) && !is_full(packet))
    );
    assert_eq!(figure("nak_packets"), asked_for(file, port));
    for (key, field) in [
        ("rtt_us", "srt.rtt"),
        ("rtt_variance_us", "srt.rttvar"),
        ("available_buffer", "srt.bufavail"),
        ("receiving_rate", "srt.rate"),
        ("link_capacity", "srt.bw"),
        ("receiving_bytes", "srt.rcvrate"),
    ] {
        let last = packets
            .iter()
            .rfind(|packet| packet.is_control(2) && !packet.field(field).is_empty());
        assert_eq!(
            figure(key),
            last.expect("an acknowledgement with it").number(field),
            "{key}"
        );
    }
    // An HSREQ block (1) is the caller's, an HSRSP (2) the listener's.
    let shakes = |block: &str| {
        let found = packets
            .iter()
            .find(|packet| packet.field("srt.hs.blocktype").starts_with(block));
        found.expect("a conclusion")
    };
    compare_party(&stream["srt"]["handshake"]["caller"], shakes("0x0001"));
    compare_party(&stream["srt"]["handshake"]["listener"], shakes("0x0002"));
    assert_eq!(text(stream, "/stream_id"), shakes("0x0001").field("srt.hs.sid"));
}

fn compare_party(party: &Value, by_tshark: &Packet) {
    // Of tshark's two fields of that name the second is SRT's own version, as 0x00MMmmpp.
    let versions = by_tshark.field("srt.hs.version");
    let version = versions.rsplit("0x").next().expect("SRT's version");
    let [_, major, minor, patch] = u32::from_str_radix(version, 16).expect("hexadecimal").to_be_bytes();
    assert_eq!(party["version"], json!(format!("{major}.{minor}.{patch}")));
    let latency = |field: &str| by_tshark.number(field);
    let told = (number(party, "/receiver_delay_ms"), number(party, "/sender_delay_ms"));
    assert_eq!(told, (latency("srt.hs.agent_latency"), latency("srt.hs.peer_latency")));
    let flags = party["flags"].as_array().expect("an array");
    for (name, field) in [
        ("tsbpdsnd", "tsbpd_snd"),
        ("tsbpdrcv", "tsbpd_rcv"),
        ("crypt", "haicrypt"),
        ("tlpktdrop", "tlpkt_drop"),
        ("periodicnak", "nak_report"),
        ("rexmitflg", "rexmit"),
        ("stream", "stream"),
    ] {
        let set = by_tshark.field(&format!("srt.hs.srtflags.{field}"));
        assert_eq!(
            flags.contains(&json!(name)),
            ["1", "True"].contains(&set),
            "{name}: {set:?}"
        );
    }
}

#[test]
fn captures_of_encrypted_sessions() {
    for name in ["ctr128", "ctr192", "ctr256", "gcm128", "gcm256"] {
        let file = format!(
            "{}/src/engine/flow/srt/testdata/{name}.pcap",
            env!("CARGO_MANIFEST_DIR")
        );
        let report = inspect_json(Path::new(&file)).report();
        assert_eq!(streams(&report), 1, "{report:#}");
        compare(Path::new(&file), 5000, &report["streams"][0]);
    }
}

/// Four packets, two of them in a row, never pass.
const FORBIDDEN: &[usize] = &[300, 301, 700, 1100];

fn session() -> (Lab, PathBuf, u64) {
    const SOURCE: u16 = 7100;
    const NEAR: u16 = 7101;
    const FAR: u16 = 7102;
    let lab = Lab::new("srtfig");
    let (asked, answered) = LATENCIES;
    let capture = lab.capture(FAR, "srt.pcap");
    let listener = format!("srt://127.0.0.1:{FAR}?mode=listener&latency={answered}");
    let (mut receiver, received) = lab.start_reading("srt-live-transmit", &["-a:no", &listener, "file://con"]);
    let far = relay::socket(&lab.namespace, 0);
    far.connect(("127.0.0.1", FAR)).expect("loopback");
    let relay = relay::srt(relay::socket(&lab.namespace, NEAR), far, 55, FORBIDDEN);
    let caller = format!("srt://127.0.0.1:{NEAR}?mode=caller&latency={asked}&streamid={STREAM_ID}");
    let source = format!("udp://127.0.0.1:{SOURCE}");
    let mut sender = lab.start("srt-live-transmit", &["-a:no", "-q", &source, &caller]);
    wait_until("the SRT session", Duration::from_secs(10), || relay.is_connected()).expect("a session");
    std::thread::sleep(Duration::from_millis(200));
    lab.send_video("mpegts", &format!("{source}?pkt_size=1316"));
    std::thread::sleep(Duration::from_secs(1));
    sender.stop(Duration::from_secs(3)).expect("the sender ends");
    std::thread::sleep(Duration::from_millis(300));
    receiver.stop(Duration::from_secs(3)).expect("the receiver ends");
    let capture = lab.end_capture(capture);
    drop(received);
    let forbidden = relay.finish().forbidden.len() as u64;
    (lab, capture, forbidden)
}

#[test]
fn a_live_session_with_packets_that_never_arrive() {
    let (_lab, capture, forbidden) = session();
    let report = inspect_json(&capture).report();
    assert_eq!(streams(&report), 1, "{report:#}");
    let stream = &report["streams"][0];
    compare(&capture, 7102, stream);
    assert_eq!(forbidden, FORBIDDEN.len() as u64);
    assert_eq!(number(stream, "/transport/lost"), forbidden);
    assert_eq!(text(stream, "/stream_id"), STREAM_ID);
    let figure = |key: &str| number(stream, &format!("/srt/{key}"));
    assert!(
        figure("naks") > 5 && figure("nak_packets") > figure("naks"),
        "{stream:#}"
    );
    assert!(figure("shutdowns") >= 1 && figure("acks") > 50, "{stream:#}");
}
