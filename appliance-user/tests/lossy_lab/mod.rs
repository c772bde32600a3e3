//! A lossy link on loopback in a namespace of its own: real senders and receivers, a relay between them that harms what
//! passes by a seed and knows what it did, a capture of what came out, and the oracles that count independently.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub(crate) mod link;
pub(crate) mod relay;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dvb_conformance::{ConformanceMonitor, Indicator};
use rustix::process::Signal;
use tempfile::TempDir;
use tidegate_lab::{Namespace, Process};

/// How long each program may take to start, and to end after its input has ended.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stream is.
pub(crate) const SECONDS: u32 = 6;

/// A namespace, a directory, and what runs in them; all gone when it is dropped.
pub(crate) struct Lab {
    pub(crate) namespace: Namespace,
    directory: TempDir,
    /// Programs started so far; their logs are numbered.
    started: AtomicU32,
}

impl Lab {
    pub(crate) fn new(role: &str) -> Lab {
        // As root, or not at all: there is no namespace without it, and a test that does not run must not pass.
        let namespace = Namespace::new(role).expect("a network namespace (this test needs root)");
        Lab {
            namespace,
            directory: TempDir::new().expect("a directory"),
            started: AtomicU32::new(0),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a program inside the namespace.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = self.namespace.command(program);
        command.args(arguments);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Process::spawn(program, command, &self.path(&format!("{program}-{number}.log"))).expect(program)
    }

    /// Whether a program inside the namespace has bound a UDP port.
    pub(crate) fn is_bound(&self, port: u16) -> bool {
        let sockets = self
            .namespace
            .run_in(|| ["udp", "udp6"].map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}"))));
        let end = format!(":{port:04X}");
        let tables = sockets.expect("the namespace");
        let mut lines = tables.iter().flatten().flat_map(|table| table.lines());
        lines.any(|line| {
            line.split_whitespace()
                .nth(1)
                .is_some_and(|local| local.ends_with(&end))
        })
    }

    /// Starts a program inside the namespace and reads all that it writes to its standard output.
    pub(crate) fn start_reading(
        &self,
        program: &str,
        arguments: &[&str],
    ) -> (Process, JoinHandle<io::Result<Vec<u8>>>) {
        let mut command = self.namespace.command(program);
        command.args(arguments);
        let (process, mut output) =
            Process::spawn_piped(program, command, &self.path(&format!("{program}-reading.log"))).expect(program);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes).map(|_| bytes)
        });
        (process, reader)
    }

    /// Captures UDP of a port on the loopback into a pcap file.
    pub(crate) fn capture(&self, port: u16, file: &str) -> (Process, PathBuf) {
        let path = self.path(file);
        let filter = format!("udp port {port}");
        let dumpcap = self.start(
            "dumpcap",
            &["-P", "-q", "-i", "lo", "-f", &filter, "-w", &path.display().to_string()],
        );
        dumpcap
            .wait_until("capturing", PATIENCE, || dumpcap.log().contains("File: "))
            .expect("dumpcap captures");
        (dumpcap, path)
    }

    /// Ends a capture after what was sent last has reached it.
    pub(crate) fn end_capture(&self, (mut dumpcap, path): (Process, PathBuf)) -> PathBuf {
        std::thread::sleep(Duration::from_millis(400));
        dumpcap.signal(Signal::INT).expect("dumpcap runs");
        dumpcap.wait(PATIENCE).expect("dumpcap ends");
        path
    }

    /// Sends `SECONDS` of MPEG-2 video and audio as a transport stream to an ffmpeg output URL, at its own pace, to the end.
    pub(crate) fn send_video(&self, format: &str, url: &str) {
        let duration = SECONDS.to_string();
        let mut ffmpeg = self.start(
            "ffmpeg",
            &[
                "-nostdin",
                "-v",
                "error",
                "-re",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=320x240:rate=25",
                "-re",
                "-f",
                "lavfi",
                "-i",
                "sine=frequency=440:sample_rate=48000",
                "-t",
                &duration,
                "-c:v",
                "mpeg2video",
                "-b:v",
                "2M",
                "-maxrate",
                "2M",
                "-bufsize",
                "500k",
                "-g",
                "12",
                "-c:a",
                "mp2",
                "-b:a",
                "128k",
                "-muxrate",
                "3M",
                "-f",
                format,
                url,
            ],
        );
        let status = ffmpeg
            .wait(PATIENCE + Duration::from_secs(SECONDS.into()))
            .expect("ffmpeg ends");
        assert!(status.success(), "{}", ffmpeg.log());
    }
}

/// UDP payloads of a classic pcap file with IPv4 in Ethernet, and their destination ports.
pub(crate) fn udp_payloads(capture: &Path) -> Vec<(u16, Vec<u8>)> {
    let file = std::fs::read(capture).expect("a capture");
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut payloads = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let frame = &file[at + 16..at + 16 + word(at + 8)];
        assert_eq!(
            (frame[12], frame[13], frame[14], frame[23]),
            (8, 0, 0x45, 17),
            "IPv4 without options, UDP"
        );
        payloads.push((u16::from_be_bytes([frame[36], frame[37]]), frame[42..].to_vec()));
        at += 16 + frame.len();
    }
    payloads
}

/// Continuity errors as the `dvb-conformance` crate counts them, in the order given. It acquires sync on five packets and
/// knows nothing of those, so it gets null packets first.
pub(crate) fn continuity_errors(ts: &[u8]) -> u64 {
    assert_eq!(ts.len() % 188, 0, "whole packets");
    let mut null = [0xff; 188];
    null[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    let mut monitor = ConformanceMonitor::new();
    let packets = [null; 5].into_iter().chain(ts.as_chunks().0.iter().copied());
    packets
        .enumerate()
        .map(|(n, packet)| {
            let events = monitor.feed(&packet, Duration::from_micros(n as u64 * 500));
            events
                .iter()
                .filter(|event| event.indicator == Indicator::ContinuityCountError)
                .count() as u64
        })
        .sum()
}

/// What tshark prints.
pub(crate) fn tshark(arguments: &[&str]) -> String {
    let output = Command::new("tshark")
        .args(arguments)
        .output()
        .expect("tshark is needed by this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Continuity drops that tshark sees in a file, one for each TS packet that it complains of.
pub(crate) fn tshark_drops(file: &Path, decode: &[&str]) -> u64 {
    let file = file.display().to_string();
    let mut arguments = vec!["-r", &file];
    arguments.extend_from_slice(decode);
    arguments.extend_from_slice(&["-Y", "mp2t.cc.drop", "-T", "fields", "-e", "mp2t.cc.drop"]);
    tshark(&arguments)
        .lines()
        .map(|line| line.split(',').count() as u64)
        .sum()
}

/// The "Lost" column of tshark's only RTP stream to a port: what it expected less what it saw, every copy counted.
pub(crate) fn tshark_rtp_lost(capture: &Path, port: u16) -> i64 {
    let file = capture.display().to_string();
    let decode = format!("udp.port=={port},rtp");
    let table = tshark(&["-r", &file, "-d", &decode, "-q", "-z", "rtp,streams"]);
    let mut lines = table.lines().filter(|line| line.contains("127.0.0.1"));
    let line = lines.next().unwrap_or_else(|| panic!("a stream in {table}"));
    assert!(lines.next().is_none(), "one stream in {table}");
    let before = line.split(" (").next().expect("a percentage");
    let lost = before.split_whitespace().next_back().expect("a count");
    lost.parse().unwrap_or_else(|e| panic!("{e}: {line}"))
}
