//! Interarrival jitter (RFC 3550 6.4.1, A.8) beside tshark's.
//!
//! tshark prints the mean and the maximum of the jitter over a stream, `inspect` the jitter after its last packet. So that
//! these are the same number, each capture ends with packets whose delays grow: there the jitter is at its maximum. tshark
//! counts in floating point and prints microseconds; RFC 3550 A.8, in whole units of the 90 kHz clock (11 us), rounds each
//! packet's share. A unit and a half is what both may make together.
#![cfg(feature = "appliance")]

mod inspect_support;
mod ts_lab;

use std::process::Command;

use inspect_support::*;
use tempfile::TempDir;
use ts_lab::Wire;

/// A unit and a half of the RTP clock, in milliseconds.
const TOLERANCE: f64 = 1.5 / 90.0;

/// Packets of one stream, 10 ms apart by their time stamps, each as late as its place in `delays_us` says, in order of
/// arrival. Numbers begin before the wrap.
fn capture(delays_us: &[u64]) -> Vec<u8> {
    let mut wire = Wire::new();
    wire.sequence = 65_400;
    let mut frames: Vec<Timed> = Vec::new();
    for (n, delay) in (0..).zip(delays_us) {
        let at = 10_000 * n;
        let mut packet = rtp(33, wire.sequence.wrapping_add(n as u16), 7, &ts_datagram(n as u32));
        packet[4..8].copy_from_slice(&(u32::MAX - 90_000).wrapping_add((at * 9 / 100) as u32).to_be_bytes());
        let frame = ethernet(&udp(address(Wire::SENDER), address(Wire::RECEIVER), &packet));
        frames.push((at + delay, frame));
    }
    frames.sort_by_key(|(time, _)| *time);
    pcap(&frames)
}

/// Delays that grow faster than any before: 60 ms more from each packet to the next.
fn rising() -> impl Iterator<Item = u64> {
    (1..=6).map(|n| n * 60_000)
}

/// Packets, mean and greatest jitter as tshark counts.
fn by_tshark(file: &std::path::Path) -> (u64, f64, f64) {
    let file = file.display().to_string();
    let output = Command::new("tshark")
        .args(["-r", &file, "-d", "udp.port==5000,rtp", "-q", "-z", "rtp,streams"])
        .output()
        .expect("tshark is needed by this test");
    let table = String::from_utf8(output.stdout).expect("UTF-8");

    let row = table
        .lines()
        .find(|line| line.contains("0x00000007"))
        .expect("one stream");
    let cells: Vec<&str> = row.split_whitespace().collect();
    // Packets, lost, "(percent%)", then least, mean and greatest of delta and of jitter.
    let percent = cells.iter().position(|cell| cell.starts_with('(')).expect("the loss");
    let number = |cell: usize| cells[cell].parse().expect("a number");
    let packets = cells[percent - 2].parse().expect("a count");
    (packets, number(percent + 5), number(percent + 6))
}

fn check(name: &str, delays_us: &[u64]) -> f64 {
    let directory = TempDir::new().unwrap();
    let file = put(directory.path(), "x.pcap", &capture(delays_us));
    let report = inspect_json(&file).report();
    let jitter = report["streams"][0]["rtp"]["jitter_ms"].as_f64().expect("a number");
    let (packets, mean, greatest) = by_tshark(&file);
    assert_eq!(packets, delays_us.len() as u64);
    assert!(
        (jitter - greatest).abs() <= TOLERANCE,
        "{name}: {jitter}, tshark {greatest} (mean {mean})"
    );
    jitter
}

/// Delays below a bound, by a seed.
fn scattered(count: usize, below_us: u64, mut seed: u64) -> Vec<u64> {
    (0..count)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below_us
        })
        .collect()
}

#[test]
fn a_steady_stream_has_none() {
    assert_eq!(check("steady", &[500; 300]), 0.0);
}

#[test]
fn a_constant_difference_is_the_jitter_in_the_end() {
    let delays: Vec<u64> = (0..500).map(|n| n % 2 * 4000).collect();
    let jitter = check("alternating", &delays);
    assert!((jitter - 4.0).abs() <= 16.0 / 90.0, "{jitter}");
}

#[test]
fn scattered_delays() {
    for seed in 1..6 {
        let delays: Vec<u64> = scattered(400, 9000, seed).into_iter().chain(rising()).collect();
        check("scattered", &delays);
    }
}

#[test]
fn packets_that_overtake_others_count_in_the_order_of_their_arrival() {
    for seed in 1..6 {
        let delays: Vec<u64> = scattered(400, 35_000, seed).into_iter().chain(rising()).collect();
        check("overtaking", &delays);
    }
}
