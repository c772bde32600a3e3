//! The media that the tests edit, made once per run by ffmpeg, and how the engine is asked about it.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tidegate::engine::judge::{Event, Judge, Ordering, TsBytes, UnsequencedFault};
use tidegate::engine::media::mpegts::{self, Content, PACKET_SIZE};
use tidegate::engine::time::Timestamp;
use tidegate_common::digest::{MAX_TS_PACKETS, PacketDigest};

/// A TS packet.
pub(crate) type Packet = [u8; PACKET_SIZE];

/// PID of ffmpeg's first elementary stream: the video.
pub(crate) const VIDEO: u16 = 0x100;

/// Ten seconds of H.264 and AAC with null packets up to a constant rate.
pub(crate) fn clean() -> &'static [Packet] {
    static STREAM: OnceLock<Vec<Packet>> = OnceLock::new();
    STREAM.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("clean.ts");
        run(Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=640x360:rate=25",
                "-f",
                "lavfi",
                "-i",
            ])
            .args([
                "sine=frequency=440",
                "-t",
                "10",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-b:v",
                "2M",
            ])
            .args([
                "-maxrate", "2M", "-bufsize", "1M", "-g", "25", "-c:a", "aac", "-f", "mpegts", "-muxrate", "3M",
            ])
            .arg(&path));
        let packets = split(&std::fs::read(&path).expect("ffmpeg's output"));
        assert!(packets.len() > 10_000, "ffmpeg made {} packets only", packets.len());
        packets
    })
}

/// Runs a program to its end; a missing or failing one fails the test with its name.
pub(crate) fn run(command: &mut Command) -> std::process::Output {
    let name = command.get_program().to_owned();
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{name:?} is needed by this test (cargo xtask setup): {error}"));
    assert!(
        output.status.success(),
        "{name:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A file's whole packets.
pub(crate) fn split(bytes: &[u8]) -> Vec<Packet> {
    let (packets, odd) = bytes.as_chunks();
    assert!(odd.is_empty(), "not a whole number of TS packets");
    packets.to_vec()
}

pub(crate) fn pid(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff
}

pub(crate) fn counter(packet: &Packet) -> u8 {
    packet[3] & 0x0f
}

pub(crate) fn set_counter(packet: &mut Packet, counter: u8) {
    packet[3] = packet[3] & 0xf0 | counter & 0x0f;
}

pub(crate) fn has_payload(packet: &Packet) -> bool {
    packet[3] & 0x10 != 0
}

/// Whether there are adaptation field flags to set.
pub(crate) fn has_flags(packet: &Packet) -> bool {
    packet[3] & 0x20 != 0 && packet[4] > 0
}

/// Places of the video's packets with payload.
pub(crate) fn video_places(packets: &[Packet]) -> Vec<usize> {
    (0..packets.len())
        .filter(|place| pid(&packets[*place]) == VIDEO && has_payload(&packets[*place]))
        .collect()
}

/// Judges packets as `inspect` judges a file.
pub(crate) fn judge_file(packets: &[Packet], content: Content) -> (Judge, Vec<Event>) {
    let mut judge = Judge::new(Ordering::Arrival, Duration::ZERO, UnsequencedFault::Source);
    let mut events = Vec::new();
    for chunk in packets.chunks(MAX_TS_PACKETS) {
        let mut digest = PacketDigest::default();
        mpegts::digest_datagram(chunk.as_flattened(), content, &mut digest).expect("whole packets");
        judge.offer_digest(Timestamp::default(), &digest, TsBytes::default(), &mut |event| {
            events.push(event)
        });
    }
    judge.flush(&mut |event| events.push(event));
    (judge, events)
}
