//! Programs that count continuity errors and share no line with the engine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dvb_conformance::{ConformanceMonitor, Indicator};

use crate::material::{Packet, run};

/// Bytes that ffmpeg probes: enough to recognise both streams.
pub(crate) const PROBED: usize = 500_000;

/// Continuity_count_error events of the `dvb-conformance` crate. It acquires sync on five packets first, so edits must
/// stand after those.
pub(crate) fn dvb_conformance(packets: &[Packet]) -> u64 {
    let mut monitor = ConformanceMonitor::new();
    let mut errors = 0;
    for (place, packet) in packets.iter().enumerate() {
        let events = monitor.feed(packet, Duration::from_micros(place as u64 * 500));
        errors += events
            .iter()
            .filter(|event| event.indicator == Indicator::ContinuityCountError)
            .count();
    }
    errors as u64
}

/// Packets that tshark marks as a continuity counter drop.
pub(crate) fn tshark(file: &Path) -> u64 {
    let output = run(Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-Y", "mp2t.cc.drop", "-T", "fields"])
        .args(["-e", "mp2t.cc.drop"]));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .flat_map(|line| line.split(','))
        .filter(|field| !field.is_empty())
        .count() as u64
}

/// Continuity checks that fail in ffmpeg's demuxer. What it reads twice it complains of twice: it gets the file through a
/// pipe, so that it cannot look for the duration at the end, and edits must stand after the [`PROBED`] beginning.
pub(crate) fn ffmpeg(file: &Path) -> u64 {
    let input = std::fs::File::open(file).expect("the edited file");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "debug", "-probesize"]).arg(PROBED.to_string());
    command.args([
        "-f", "mpegts", "-i", "pipe:", "-map", "0", "-c", "copy", "-f", "null", "-",
    ]);
    let output = run(command.stdin(input));
    String::from_utf8_lossy(&output.stderr)
        .matches("Continuity check failed")
        .count() as u64
}
