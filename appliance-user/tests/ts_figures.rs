//! Rates, shares, scrambling and PCRs of a transport stream in RTP beside what tshark reads of the same capture.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use inspect_support::*;
use serde_json::Value;
use tempfile::TempDir;

const PACKET_BITS: f64 = 188.0 * 8.0;
const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
const NULL: u16 = 0x1fff;

/// Six seconds of video and audio at a constant 3 Mb/s, with null packets.
fn media(path: &Path) -> Vec<[u8; 188]> {
    let arguments = "-nostdin -v error -f lavfi -i testsrc2=size=320x240:rate=25 -f lavfi -i sine=frequency=440 -t 6 \
                     -c:v mpeg2video -b:v 2M -maxrate 2M -bufsize 500k -g 12 -bf 2 -c:a mp2 -b:a 128k -muxrate 3M -f mpegts";
    let made = Command::new("ffmpeg")
        .args(arguments.split_whitespace())
        .arg(path)
        .status()
        .expect("ffmpeg is needed by this test");
    assert!(made.success());
    std::fs::read(path).expect("what was made").as_chunks().0.to_vec()
}

/// The media in RTP: the first half at its pace, the second twice as fast, and never evenly: each datagram is up to 3 ms late.
/// After the first fifth the audio is scrambled.
fn capture(packets: &[[u8; 188]]) -> Vec<u8> {
    let mut at_us = 0.0;
    let count = packets.len() / 7;
    let frames = packets.chunks_exact(7).enumerate().map(|(n, datagram)| {
        let mut datagram = datagram.to_vec();
        if n >= count / 5 {
            let audio = |packet: &&mut [u8; 188]| u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff == AUDIO;
            datagram.iter_mut().filter(audio).for_each(|packet| packet[3] |= 0xc0);
        }
        let pace = if n < count / 2 { 1.0 } else { 0.5 };
        at_us += 7.0 * PACKET_BITS / 3.0 * pace;
        let late = (n as u64 * 7919) % 3000;
        let rtp = rtp(33, n as u16, 7, datagram.as_flattened());
        let frame = ethernet(&udp(address("10.0.0.1:5004"), address("10.0.0.2:5000"), &rtp));
        (at_us as u64 + late, frame)
    });
    let mut frames: Vec<Timed> = frames.collect();
    // Nothing overtakes.
    let mut latest = 0;
    for (at, _) in &mut frames {
        latest = latest.max(*at);
        *at = latest;
    }
    pcap(&frames)
}

/// One TS packet as tshark reads it: when it came, its PID, and whether it is scrambled.
struct Seen {
    at: f64,
    pid: u16,
    scrambled: bool,
}

fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-d", "udp.port==5000,rtp", "-Y", filter, "-T", "fields"]);
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().expect("tshark is needed by this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn number_of(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).expect("hexadecimal"),
        None => text.parse().expect("a number"),
    }
}

fn packets_of(file: &Path) -> Vec<Seen> {
    let rows = tshark(file, "mp2t", &["frame.time_relative", "mp2t.pid", "mp2t.tsc"]);
    let packets = rows.iter().flat_map(|row| {
        let at: f64 = row[0].parse().expect("seconds");
        let pids: Vec<&str> = row[1].split(',').collect();
        assert_eq!(pids.len(), 7);
        pids.into_iter()
            .zip(row[2].split(','))
            .map(move |(pid, scrambling)| Seen {
                at,
                pid: number_of(pid) as u16,
                scrambled: number_of(scrambling) != 0,
            })
    });
    packets.collect()
}

fn near(name: &str, told: &Value, expected: f64, tolerance: f64) {
    let told = told.as_f64().unwrap_or_else(|| panic!("{name} is no number: {told}"));
    assert!(
        (told - expected).abs() <= tolerance,
        "{name}: {told}, tshark {expected}"
    );
}

#[test]
fn rates_shares_and_scrambling_are_what_tshark_counts() {
    let directory = TempDir::new().unwrap();
    let packets = media(&directory.path().join("media.ts"));
    let file = put(directory.path(), "x.pcap", &capture(&packets));
    let (report, seen) = (inspect_json(&file).report(), packets_of(&file));
    let ts = &report["streams"][0]["ts"];
    assert_eq!(number(ts, "/packets"), seen.len() as u64);
    let end = seen.last().expect("packets").at;
    let rate = |packets: usize, seconds: f64| packets as f64 * PACKET_BITS / seconds;
    near("mean_bitrate", &ts["mean_bitrate"], rate(seen.len(), end), 2.0);
    // The last second may begin anywhere within a tenth of it, and datagrams come seven packets at a time.
    let lately: Vec<&Seen> = seen.iter().filter(|packet| packet.at > end - 1.0).collect();
    near(
        "bitrate",
        &ts["bitrate"],
        rate(lately.len(), 1.0),
        0.02 * rate(lately.len(), 1.0),
    );
    assert!(rate(lately.len(), 1.0) > 5.5e6, "twice the pace of the first half");
    let nulls = |of: &[&Seen]| of.iter().filter(|packet| packet.pid == NULL).count() as f64 * 100.0 / of.len() as f64;
    near(
        "mean_null_percent",
        &ts["mean_null_percent"],
        nulls(&seen.iter().collect::<Vec<_>>()),
        0.01,
    );
    near("null_percent", &ts["null_percent"], nulls(&lately), 1.0);

    let mut by_pid: BTreeMap<u16, (usize, u64)> = BTreeMap::new();
    for packet in &seen {
        let (count, scrambled) = by_pid.entry(packet.pid).or_default();
        *count += 1;
        *scrambled += u64::from(packet.scrambled);
    }
    let pids = ts["pids"].as_array().expect("an array");
    let listed: Vec<u64> = pids.iter().map(|pid| number(pid, "/pid")).collect();
    assert_eq!(listed, by_pid.keys().map(|pid| u64::from(*pid)).collect::<Vec<_>>());
    for (told, (pid, (count, scrambled))) in pids.iter().zip(&by_pid) {
        assert_eq!(
            (number(told, "/packets"), number(told, "/scrambled_packets")),
            (*count as u64, *scrambled)
        );
        near(&format!("PID {pid}"), &told["mean_bitrate"], rate(*count, end), 2.0);
        assert_eq!(told["scrambled"], *pid == AUDIO, "{told:#}");
    }
    assert!(by_pid[&AUDIO].1 > 30 && by_pid[&NULL].0 > 100, "{by_pid:?}");
    let video = pids.iter().find(|pid| pid["pid"] == VIDEO).expect("the video");
    let of_video = lately.iter().filter(|packet| packet.pid == VIDEO).count();
    // A second of its own, over at another moment.
    near(
        "the video's bitrate",
        &video["bitrate"],
        rate(of_video, 1.0),
        0.1 * rate(of_video, 1.0),
    );
}

#[test]
fn intervals_and_jitter_of_the_pcr_are_what_tshark_reads() {
    let directory = TempDir::new().unwrap();
    let packets = media(&directory.path().join("media.ts"));
    let file = put(directory.path(), "x.pcap", &capture(&packets[..packets.len() / 2]));
    let report = inspect_json(&file).report();
    // At most one packet in a datagram has one here.
    let rows = tshark(&file, "mp2t.af.pcr", &["frame.time_relative", "mp2t.af.pcr"]);
    let pcrs: Vec<(f64, u64)> = rows
        .iter()
        .map(|row| (row[0].parse().expect("seconds"), number_of(&row[1])))
        .collect();
    let steps: Vec<(f64, f64)> = pcrs
        .windows(2)
        .map(|pair| ((pair[1].0 - pair[0].0) * 1e6, (pair[1].1 - pair[0].1) as f64 / 27.0))
        .collect();
    let pids = report["streams"][0]["ts"]["pids"].as_array().expect("an array");
    let told = &pids.iter().find(|pid| pid["pid"] == VIDEO).expect("the video")["pcr"];
    assert_eq!(
        (number(told, "/intervals"), number(told, "/discontinuities")),
        (steps.len() as u64, 0)
    );
    let mean = steps.iter().map(|(_, step)| step).sum::<f64>() / steps.len() as f64;
    near("mean_interval_us", &told["mean_interval_us"], mean, 1.0);
    let longest = steps.iter().map(|(_, step)| *step).fold(0.0, f64::max);
    near("max_interval_us", &told["max_interval_us"], longest, 1.0);
    // RFC 3550 A.8, over PCRs instead of RTP's time stamps.
    let strays = steps.iter().map(|(arrived, step)| (arrived - step).abs());
    let jitter = strays
        .clone()
        .fold(0.0, |jitter, stray| jitter + (stray - jitter) / 16.0);
    near("jitter_us", &told["jitter_us"], jitter, 2.0);
    near("max_jitter_us", &told["max_jitter_us"], strays.fold(0.0, f64::max), 1.0);
    assert!(jitter > 100.0, "{jitter}");
}
