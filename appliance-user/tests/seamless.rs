//! The two paths of a SMPTE ST 2022-7 pair: what `inspect` says of their merge against the union of the sequence numbers that
//! the test itself sent and that tshark reads of the capture, and the exit code that follows from the merge.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use inspect_support::{Timed, Told, address, ethernet, inspect_by, number, pcap, put, rtp, text, ts_datagram, udp};
use serde_json::Value;
use tempfile::TempDir;

const SSRC: u32 = 7;
/// Packets, 1 ms apart.
const COUNT: u32 = 4000;
/// The first sequence number: the numbers wrap on the way.
const FIRST: u16 = 64_000;

const POLICY: &str = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"pair\"\nprotocol = \"rtp\"\n\
    source = [\"10.0.0.1\", \"10.0.1.1\"]\ndestination_port = [5000]\n[rule.rtp]\npaths = [\
    { source = \"10.0.0.1\", destination = \"10.0.0.2\", destination_port = 5000 }, \
    { source = \"10.0.1.1\", destination = \"10.0.1.2\", destination_port = 5000 }]\n";

/// What each path brings, by the packets' places; and how much later the second is, in microseconds.
struct Paths {
    brings: [BTreeSet<u32>; 2],
    skew: u64,
}

impl Paths {
    /// Both paths bring everything but what `loses` says.
    fn without(skew: u64, loses: impl Fn(usize, u32) -> bool) -> Paths {
        let brings = [0, 1].map(|path| (0..COUNT).filter(|n| !loses(path, *n)).collect());
        Paths { brings, skew }
    }

    fn capture(&self) -> Vec<u8> {
        let ends = ["10.0.0.1:5004", "10.0.0.2:5000", "10.0.1.1:5004", "10.0.1.2:5000"].map(address);
        let mut packets: Vec<Timed> = Vec::new();
        for (path, brings) in self.brings.iter().enumerate() {
            for n in brings {
                let mut payload = rtp(33, FIRST.wrapping_add(*n as u16), SSRC, &ts_datagram(*n));
                // The clock does not jump where the numbers wrap.
                payload[4..8].copy_from_slice(&(n * 90).to_be_bytes());
                let time = u64::from(*n) * 1000 + self.skew * path as u64;
                packets.push((time, ethernet(&udp(ends[2 * path], ends[2 * path + 1], &payload))));
            }
        }
        packets.sort_by_key(|(time, _)| *time);
        pcap(&packets)
    }

    /// Places that neither path brings, and those that each does not.
    fn lost(&self) -> (u64, [u64; 2]) {
        let [first, second] = &self.brings;
        let lost = |came: usize| u64::from(COUNT) - came as u64;
        (
            lost(first.union(second).count()),
            [lost(first.len()), lost(second.len())],
        )
    }
}

/// Different sequence numbers that tshark reads, of a source or of both.
fn numbers_by_tshark(file: &Path, source: Option<&str>) -> u64 {
    let filter = source.map_or("rtp.seq".to_owned(), |source| format!("rtp.seq && ip.src == {source}"));
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-d", "udp.port==5000,rtp", "-Y", &filter]);
    let output = command.args(["-T", "fields", "-e", "rtp.seq"]).output();
    let output = output.expect("tshark is needed by this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().collect::<BTreeSet<_>>().len() as u64
}

fn judged(paths: &Paths) -> Told {
    let directory = TempDir::new().expect("a directory");
    let file = put(directory.path(), "pair.pcap", &paths.capture());
    let (lost, path_lost) = paths.lost();
    let count = u64::from(COUNT);
    assert_eq!(
        numbers_by_tshark(&file, None),
        count - lost,
        "the capture is what it should be"
    );
    for (source, lost) in ["10.0.0.1", "10.0.1.1"].into_iter().zip(path_lost) {
        assert_eq!(numbers_by_tshark(&file, Some(source)), count - lost);
    }
    inspect_by(&put(directory.path(), "pair.toml", POLICY.as_bytes()), &file)
}

/// Both streams tell of the same merge, which is that of the numbers sent.
fn check(report: &Value, paths: &Paths) {
    let (lost, path_lost) = paths.lost();
    let streams = report["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 2);
    for stream in streams {
        let path = usize::from(text(stream, "/source").starts_with("10.0.1."));
        let merged = &stream["rtp"]["seamless"];
        assert_eq!(number(merged, "/lost"), lost);
        assert_eq!(merged["path_lost"], serde_json::json!(path_lost));
        assert_eq!(number(stream, "/transport/lost"), path_lost[path], "its own");
        assert_eq!(stream["rtp"]["partial"], false);
        let skew = merged["skew_ms"].as_f64().expect("a skew");
        assert!((skew - paths.skew as f64 / 1000.0).abs() < 0.01, "{skew}");
    }
}

/// Numbers that chance would choose, the same ones each time, and none near the ends.
fn chosen(n: u32, salt: u32) -> bool {
    let mixed = (n ^ salt).wrapping_mul(0x9e37_79b1);
    (100..COUNT - 100).contains(&n) && (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca77) >> 16 & 63 == 0
}

#[test]
fn what_the_other_path_brought_is_nobodys_finding() {
    for skew in [0, 10_000, 200_000] {
        let paths = Paths::without(skew, |path, n| chosen(n, 1 + path as u32) && n % 2 == path as u32);
        let (lost, [first, second]) = paths.lost();
        assert!(lost == 0 && first > 15 && second > 15, "{first} {second}");
        let told = judged(&paths);
        check(&told.report(), &paths);
        assert_eq!(told.code, Some(0), "the merge lost nothing: {}", told.out);
    }
}

#[test]
fn what_neither_path_brought_is_a_finding() {
    for skew in [0, 10_000, 200_000] {
        let paths = Paths::without(skew, |path, n| chosen(n, 1 + path as u32) || chosen(n, 9) && n % 4 == 0);
        let (lost, [first, second]) = paths.lost();
        assert!(lost > 3 && lost < first && lost < second, "{lost} {first} {second}");
        let told = judged(&paths);
        check(&told.report(), &paths);
        assert_eq!(told.code, Some(1));
    }
}

#[test]
fn a_path_alone_answers_for_its_own_losses() {
    let paths = Paths::without(0, |path, n| path == 1 || chosen(n, 1));
    let told = judged(&paths);
    let report = told.report();
    assert_eq!(report["streams"][0]["rtp"]["partial"], true);
    assert_eq!(number(&report, "/streams/0/transport/lost"), paths.lost().1[0]);
    assert_eq!(told.code, Some(1));
}
