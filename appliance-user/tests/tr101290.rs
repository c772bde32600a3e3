//! `tidegate inspect` measures ETSI TR 101 290 on files that ffmpeg made, and counts what the `dvb-conformance` crate counts
//! on the same bytes: sound ones, and with one thing wrong in each.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use dvb_conformance::{ConformanceMonitor, Indicator};
use inspect_support::*;
use tempfile::TempDir;

type Packet = [u8; 188];

const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
/// ffmpeg's PID of its first PMT.
const PMT: u16 = 0x1000;
/// Bits per second of the constant multiplex.
const MUX_RATE: u64 = 3_000_000;

/// Ten seconds of H.264 and AAC.
fn make(path: &Path, mux: &[&str]) {
    let made = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x360:rate=25",
        ])
        .args(["-f", "lavfi", "-i", "sine=frequency=440", "-t", "10"])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-b:v",
            "2M",
            "-maxrate",
            "2M",
            "-bufsize",
            "1M",
        ])
        .args(["-g", "25", "-c:a", "aac", "-f", "mpegts"])
        .args(mux)
        .arg(path)
        .status()
        .expect("ffmpeg is needed by this test (cargo xtask setup)");
    assert!(made.success(), "ffmpeg made no file");
}

fn split(path: &Path) -> Vec<Packet> {
    let bytes = std::fs::read(path).expect("ffmpeg's output");
    bytes.as_chunks().0.to_vec()
}

/// The constant multiplex, made once.
fn constant() -> Vec<Packet> {
    static STREAM: OnceLock<Vec<Packet>> = OnceLock::new();
    let make = || {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("constant.ts");
        make(&path, &["-muxrate", &MUX_RATE.to_string()]);
        split(&path)
    };
    STREAM.get_or_init(make).clone()
}

fn pid(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff
}

/// Periods of 27 MHz.
fn pcr(packet: &Packet) -> Option<u64> {
    let has = packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0;
    has.then(|| {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&packet[6..12]);
        let bits = u64::from_be_bytes(bytes);
        (bits >> 15) * 300 + (bits & 0x1ff)
    })
}

fn set_pcr(packet: &mut Packet, value: u64) {
    packet[6..12].copy_from_slice(&((value / 300) << 15 | 0x7e00 | (value % 300)).to_be_bytes()[2..]);
}

/// When the packets of a constant multiplex come, by their place in the unedited file.
fn at_constant_rate(place: usize) -> Duration {
    Duration::from_nanos(place as u64 * 188 * 8 * 1_000_000_000 / MUX_RATE)
}

/// When packets come: in a straight line from one PCR of the video to the next.
fn between_pcrs(packets: &[Packet]) -> Vec<Duration> {
    let marks: Vec<(usize, u64)> = packets
        .iter()
        .enumerate()
        .filter(|(_, packet)| pid(packet) == VIDEO)
        .filter_map(|(place, packet)| Some((place, pcr(packet)?)))
        .collect();
    let start = marks[0].1;
    (0..packets.len())
        .map(|place| {
            let after = marks
                .partition_point(|(mark, _)| *mark <= place)
                .clamp(1, marks.len() - 1);
            let ((p0, v0), (p1, v1)) = (marks[after - 1], marks[after]);
            let ticks = v0 as f64 + (v1 - v0) as f64 * (place as f64 - p0 as f64) / (p1 - p0) as f64;
            Duration::from_secs_f64(((ticks - start as f64) / 27e6).max(0.0))
        })
        .collect()
}

/// What the oracle counts under ETSI's numbers.
fn oracle(packets: impl Iterator<Item = (Packet, Duration)>) -> BTreeMap<&'static str, u64> {
    let mut monitor = ConformanceMonitor::new();
    let mut counts = BTreeMap::new();
    for (packet, at) in packets {
        for event in monitor.feed(&packet, at) {
            let number = match event.indicator {
                Indicator::TsSyncLoss => "1.1",
                Indicator::SyncByteError => "1.2",
                Indicator::PatError2 => "1.3.a",
                Indicator::ContinuityCountError => "1.4",
                Indicator::PmtError2 => "1.5.a",
                Indicator::PidError => "1.6",
                Indicator::TransportError => "2.1",
                Indicator::CrcError => "2.2",
                Indicator::PcrRepetitionError => "2.3.a",
                Indicator::PcrDiscontinuityError => "2.3.b",
                Indicator::PtsError => "2.5",
                Indicator::CatError => "2.6",
                Indicator::SiRepetitionError | Indicator::SiMinGapError => "3.2",
                Indicator::UnreferencedPid => "3.4.a",
                Indicator::SdtError => "3.5.a",
                _ => continue,
            };
            *counts.entry(number).or_insert(0) += 1;
        }
    }
    counts
}

/// What `inspect` reports.
fn reported(packets: &[Packet]) -> BTreeMap<String, u64> {
    let directory = TempDir::new().expect("a temporary directory");
    let told = inspect_json(&put(directory.path(), "edited.ts", packets.as_flattened()));
    let report = told.report();
    let measured = report
        .pointer("/streams/0/tr101290")
        .and_then(|found| found.as_object());
    let measured = measured.unwrap_or_else(|| panic!("no measurements: {}", told.out));
    let count = |value: &serde_json::Value| value.as_u64().expect("a count");
    measured
        .iter()
        .map(|(number, value)| (number.clone(), count(value)))
        .collect()
}

/// Both count the same, and of these numbers something.
fn agree(name: &str, packets: &[(Packet, Duration)], violated: &[&str]) {
    let theirs = oracle(packets.iter().copied());
    let bytes: Vec<Packet> = packets.iter().map(|(packet, _)| *packet).collect();
    let ours = reported(&bytes);
    for (number, count) in ours.iter().filter(|(number, _)| *number != "2.4") {
        let expected = theirs.get(number.as_str()).copied().unwrap_or(0);
        assert_eq!(*count, expected, "{name}: {number}");
    }
    assert!(
        theirs.keys().all(|number| ours.contains_key(*number)),
        "{name}: {theirs:?}"
    );
    let found: Vec<&str> = theirs.keys().copied().collect();
    assert_eq!(found, violated, "{name}");
}

/// The constant multiplex with an edit of one packet at a time; `None` takes it out.
fn edited(mut edit: impl FnMut(Duration, Packet) -> Option<Packet>) -> Vec<(Packet, Duration)> {
    constant()
        .into_iter()
        .enumerate()
        .filter_map(|(place, packet)| {
            let at = at_constant_rate(place);
            Some((edit(at, packet)?, at))
        })
        .collect()
}

fn within(at: Duration, from_ms: u64, to_ms: u64) -> bool {
    (Duration::from_millis(from_ms)..Duration::from_millis(to_ms)).contains(&at)
}

#[test]
fn sound_files_violate_nothing() {
    agree("constant", &edited(|_, packet| Some(packet)), &[]);
    assert_eq!(
        reported(&constant()).get("2.4"),
        Some(&0),
        "a constant rate can be measured"
    );
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("variable.ts");
    make(&path, &[]);
    let packets = split(&path);
    let times = between_pcrs(&packets);
    assert_eq!(reported(&packets).get("2.4"), None, "a variable one cannot");
    agree("variable", &packets.into_iter().zip(times).collect::<Vec<_>>(), &[]);
}

#[test]
fn tables_that_stay_away_or_are_damaged() {
    let pat = edited(|at, packet| (pid(&packet) != 0 || !within(at, 4_000, 4_600)).then_some(packet));
    agree("no PAT", &pat, &["1.3.a", "1.4"]);
    let pmt = edited(|at, packet| (pid(&packet) != PMT || !within(at, 4_000, 4_600)).then_some(packet));
    agree("no PMT", &pmt, &["1.4", "1.5.a"]);
    let mut done = false;
    let damaged = edited(|at, mut packet| {
        if pid(&packet) == PMT && at > Duration::from_secs(4) && !core::mem::replace(&mut done, true) {
            packet[12] ^= 1;
        }
        Some(packet)
    });
    agree("CRC", &damaged, &["2.2"]);
}

#[test]
fn transport_errors_and_sync() {
    let mut count = 0;
    let marked = edited(|at, mut packet| {
        // The start of a PES packet is left alone: its time stamp would be missing from one count and not the other.
        let plain = pid(&packet) == VIDEO && packet[1] & 0x40 == 0 && packet[3] & 0x20 == 0;
        if plain && at > Duration::from_secs(4) && count < 3 {
            count += 1;
            packet[1] |= 0x80;
        }
        Some(packet)
    });
    agree("transport errors", &marked, &["2.1"]);
}

#[test]
fn clocks() {
    let jumped = edited(|at, mut packet| {
        if at > Duration::from_secs(5)
            && let Some(value) = pcr(&packet)
        {
            set_pcr(&mut packet, value + 5 * 27_000_000);
        }
        Some(packet)
    });
    agree("PCR jump", &jumped, &["2.3.b"]);
    let silenced = edited(|at, mut packet| {
        if within(at, 5_000, 5_150) && pcr(&packet).is_some() {
            packet[5] &= !0x10;
        }
        Some(packet)
    });
    agree("PCR gap", &silenced, &["2.3.a", "2.3.b"]);
    let unstamped = edited(|at, mut packet| {
        if within(at, 5_000, 5_900) && pid(&packet) == AUDIO {
            packet[1] &= !0x40;
        }
        Some(packet)
    });
    agree("PTS gap", &unstamped, &["2.5"]);
    let mut done = false;
    let inaccurate: Vec<Packet> = edited(|at, mut packet| {
        if at > Duration::from_secs(5)
            && let Some(value) = pcr(&packet)
            && !core::mem::replace(&mut done, true)
        {
            // 1 us.
            set_pcr(&mut packet, value + 27);
        }
        Some(packet)
    })
    .into_iter()
    .map(|(packet, _)| packet)
    .collect();
    let measured = reported(&inaccurate);
    assert_eq!(measured.get("2.4"), Some(&1), "the oracle does not measure it");
}

#[test]
fn a_pid_that_nothing_refers_to() {
    let mut counter = 0u8;
    let ghost = edited(|at, mut packet| {
        if within(at, 4_000, 4_800) && pid(&packet) == 0x1fff {
            packet[1..3].copy_from_slice(&0x777u16.to_be_bytes());
            packet[3] = 0x10 | counter & 0x0f;
            counter = counter.wrapping_add(1);
        }
        Some(packet)
    });
    agree("unreferenced", &ghost, &["3.4.a"]);
}
