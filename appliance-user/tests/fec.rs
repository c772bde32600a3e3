//! `recoverable` against gstreamer: its `rtpst2022-1-fecenc`, or ffmpeg's Pro-MPEG output, makes the FEC, its
//! `rtpst2022-1-fecdec` rebuilds what was left out of a capture, and `tidegate inspect` must count as much.

mod inspect_support;
mod lossy_lab;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inspect_support::{Timed, address, ethernet, inspect_by, number, pcap, put, ts_datagram, udp};
use serde_json::Value;
use tempfile::TempDir;

const CAPS: &str =
    "application/x-rtp-stream,media=(string)video,clock-rate=(int)90000,encoding-name=(string)MP2T,payload=(int)33";
/// How long a pipeline may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first number, so that the sequence wraps.
const FIRST: u16 = 65_400;
/// A number outside every matrix.
const GONE: u16 = FIRST - 1000;
/// Media packets.
const COUNT: u16 = 480;
const POLICY: &str = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"fec\"\nprotocol = \"rtp-fec\"\nsource = [\"10.0.0.1\", \"127.0.0.1\"]\ndestination_port = [5000]\n";

/// A stream and its FEC, columns and rows.
struct Protected {
    media: Vec<Vec<u8>>,
    columns: Vec<Vec<u8>>,
    rows: Vec<Vec<u8>>,
}

/// RFC 4571 frames.
fn framed<'p>(packets: impl IntoIterator<Item = &'p Vec<u8>>) -> Vec<u8> {
    let frame = |packet: &Vec<u8>| [&(packet.len() as u16).to_be_bytes(), packet.as_slice()].concat();
    packets.into_iter().flat_map(frame).collect()
}

fn unframed(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some([a, b]) = bytes.first_chunk() {
        let end = 2 + usize::from(u16::from_be_bytes([*a, *b]));
        packets.push(bytes[2..end].to_vec());
        bytes = &bytes[end..];
    }
    packets
}

fn sequence(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

fn media_packet(n: u16) -> Vec<u8> {
    // gstreamer's encoder takes media of SSRC 0 only.
    inspect_support::rtp(33, FIRST.wrapping_add(n), 0, &ts_datagram(n.into()))
}

/// gstreamer's FEC of a stream in matrices of `l` by `d`.
fn encode(directory: &Path, l: u8, d: u8) -> Protected {
    let media: Vec<Vec<u8>> = (0..COUNT).map(media_packet).collect();
    let input = put(directory, "plain", &framed(&media));
    let output = |name: &str| directory.join(name).display().to_string();
    let pipeline = format!(
        "filesrc location={} ! {CAPS} ! rtpstreamdepay ! enc.sink rtpst2022-1-fecenc name=enc rows={d} columns={l} \
         enc.src ! queue ! fakesink enc.fec_0 ! queue ! rtpstreampay ! filesink location={} \
         enc.fec_1 ! queue ! rtpstreampay ! filesink location={}",
        input.display(),
        output("columns"),
        output("rows")
    );
    let told = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(pipeline.split_whitespace())
        .output()
        .expect("gstreamer is needed by this test");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let read = |name| unframed(&std::fs::read(output(name)).expect("what gstreamer wrote"));
    let (columns, rows) = (read("columns"), read("rows"));
    assert_eq!(columns.len(), usize::from(COUNT) / usize::from(d));
    assert_eq!(rows.len(), usize::from(COUNT) / usize::from(l));
    Protected { media, columns, rows }
}

/// Packets with one more before them, long gone: gstreamer stamps the first packet of a file with time 0 and those after it
/// with none, and so takes the first for outdated. The number is at byte 2 of media, and what FEC protects at byte 12.
fn with_sacrifice(packets: &[Vec<u8>], number_at: usize) -> Vec<Vec<u8>> {
    let mut first = packets.first().expect("something is left").clone();
    first[number_at..number_at + 2].copy_from_slice(&GONE.to_be_bytes());
    core::iter::once(first).chain(packets.iter().cloned()).collect()
}

/// What gstreamer rebuilds: FEC first, all of it, then the media that is left; whatever comes out beside that was rebuilt.
fn rebuilt_by_gstreamer(directory: &Path, harmed: &Protected) -> BTreeMap<u16, Vec<u8>> {
    let columns = put(directory, "columns-left", &framed(&with_sacrifice(&harmed.columns, 12)));
    let rows = put(directory, "rows-left", &framed(&with_sacrifice(&harmed.rows, 12)));
    let (log, output) = (directory.join("log"), directory.join("output"));
    for stale in [&log, &output] {
        drop(std::fs::remove_file(stale));
    }
    let pipeline = format!(
        "fdsrc fd=0 ! {CAPS} ! rtpstreamdepay ! dec.sink rtpst2022-1-fecdec name=dec size-time=1000000000000 dec.src \
         ! rtpstreampay ! filesink location={} filesrc location={} ! {CAPS} ! rtpstreamdepay ! dec.fec_0 \
         filesrc location={} ! {CAPS} ! rtpstreamdepay ! dec.fec_1",
        output.display(),
        columns.display(),
        rows.display()
    );
    let mut child = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(pipeline.split_whitespace())
        .env("GST_DEBUG", "rtpst2022-1-fecdec:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("GST_DEBUG_FILE", &log)
        .stdin(Stdio::piped())
        .spawn()
        .expect("gstreamer is needed by this test");
    let fec = harmed.columns.len() + harmed.rows.len() + 2;
    let begun = Instant::now();
    let handled = || std::fs::read_to_string(&log).map_or(0, |log| log.matches("Handling FEC buffer").count());
    while handled() < fec && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    let handled = handled();
    let mut input = child.stdin.take().expect("a pipe");
    let written = input.write_all(&framed(&with_sacrifice(&harmed.media, 2)));
    drop(input);
    while child.try_wait().expect("it runs").is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().expect("it runs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait().expect("it ended").success());
    assert_eq!(handled, fec, "gstreamer took all FEC");
    written.expect("gstreamer takes the media");
    let sent: BTreeSet<u16> = harmed.media.iter().map(|packet| sequence(packet)).collect();
    let out = unframed(&std::fs::read(&output).expect("what gstreamer wrote"));
    out.into_iter()
        .map(|packet| (sequence(&packet), packet))
        .filter(|(n, _)| !sent.contains(n) && *n != GONE)
        .collect()
}

/// A capture as a sender would have made it: a packet a millisecond, rows behind their last packet, columns spread over the
/// matrix after theirs.
fn capture(harmed: &Protected) -> Vec<u8> {
    let port = |port: u16| address(&format!("10.0.9.9:{port}"));
    let from = address("10.0.0.1:4000");
    let place = |n: u16| u64::from(n.wrapping_sub(FIRST)) * 1000;
    let mut packets: Vec<Timed> = Vec::new();
    for packet in &harmed.media {
        packets.push((place(sequence(packet)), ethernet(&udp(from, port(5000), packet))));
    }
    for (to, delay, fec) in [(5002, 1000, &harmed.columns), (5004, 0, &harmed.rows)] {
        for packet in fec {
            let (offset, count) = (u64::from(packet[25]), u64::from(packet[26]));
            let base = u16::from_be_bytes([packet[12], packet[13]]);
            let time = place(base) + (count - 1) * offset * 1000 + delay * (1 + u64::from(base) % offset) + 500;
            packets.push((time, ethernet(&udp(from, port(to), packet))));
        }
    }
    packets.sort_by_key(|(time, _)| *time);
    pcap(&packets)
}

/// Deterministic draws.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Leaves packets out: single ones and bursts of media, single ones of FEC. First and last stay, or nobody could know.
fn harm(whole: &Protected, draw: &mut Draw, percent: u64, bursts: u64, fec_percent: u64) -> Protected {
    let last = u64::from(COUNT) - 1;
    let mut left_out: BTreeSet<u64> = (1..last).filter(|_| draw.below(100) < percent).collect();
    for _ in 0..bursts {
        let start = 1 + draw.below(last - 12);
        left_out.extend(start..start + 3 + draw.below(8));
    }
    let kept =
        |fec: &Vec<Vec<u8>>, draw: &mut Draw| fec.iter().filter(|_| draw.below(100) >= fec_percent).cloned().collect();
    let media = (0..).zip(&whole.media).filter(|(n, _)| !left_out.contains(n));
    Protected {
        media: media.map(|(_, packet)| packet.clone()).collect(),
        columns: kept(&whole.columns, draw),
        rows: kept(&whole.rows, draw),
    }
}

fn rtp_stream(report: &Value) -> &Value {
    let streams = report["streams"].as_array().expect("streams");
    let found = streams.iter().find(|stream| stream["protocol"] == "rtp");
    found.unwrap_or_else(|| panic!("no RTP in {report:#}"))
}

#[test]
fn as_much_is_recoverable_as_gstreamer_rebuilds() {
    let directory = TempDir::new().expect("a directory");
    let policy = put(directory.path(), "policy.toml", POLICY.as_bytes());
    let mut draw = Draw(0x2022_0001);
    let mut rebuilt_in_all = 0;
    let mut lost_for_good = 0;
    for (l, d) in [(5, 4), (10, 8), (4, 20), (20, 4)] {
        let whole = encode(directory.path(), l, d);
        for (percent, bursts, fec_percent) in [(1, 0, 0), (5, 0, 10), (15, 2, 5), (30, 0, 20), (0, 4, 0)] {
            let harmed = harm(&whole, &mut draw, percent, bursts, fec_percent);
            let rebuilt = rebuilt_by_gstreamer(directory.path(), &harmed);
            for (n, packet) in &rebuilt {
                assert_eq!(
                    packet,
                    &media_packet(n.wrapping_sub(FIRST)),
                    "the oracle rebuilds what was sent"
                );
            }
            let file = put(directory.path(), "harmed.pcap", &capture(&harmed));
            let report = inspect_by(&policy, &file).report();
            let stream = rtp_stream(&report);
            let lost = (whole.media.len() - harmed.media.len()) as u64;
            let case = format!("{l} by {d}, {percent}% and {bursts} bursts, {fec_percent}% of FEC");
            assert_eq!(number(stream, "/transport/lost"), lost, "{case}");
            assert_eq!(number(stream, "/transport/recoverable"), rebuilt.len() as u64, "{case}");
            assert_eq!(stream["rtp"]["partial"], false, "{case}");
            rebuilt_in_all += rebuilt.len() as u64;
            lost_for_good += lost - rebuilt.len() as u64;
        }
    }
    assert!(
        rebuilt_in_all > 200 && lost_for_good > 100,
        "{rebuilt_in_all} {lost_for_good}"
    );
}

/// ffmpeg's Pro-MPEG output, captured: the records of the file, and the port and payload of each.
fn from_ffmpeg() -> Vec<(Vec<u8>, u16, Vec<u8>)> {
    let lab = lossy_lab::Lab::new("fec");
    let path = lab.path("sent.pcap");
    let file = path.display().to_string();
    let dumpcap = lab.start(
        "dumpcap",
        &["-P", "-q", "-i", "lo", "-f", "udp portrange 5000-5004", "-w", &file],
    );
    dumpcap
        .wait_until("capturing", PATIENCE, || dumpcap.log().contains("File: "))
        .expect("dumpcap captures");
    let mut ffmpeg = lab.start(
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
            "-t",
            "3",
            "-c:v",
            "mpeg2video",
            "-b:v",
            "2M",
            "-muxrate",
            "3M",
            "-f",
            "rtp_mpegts",
            "-fec",
            "prompeg=l=8:d=5",
            "rtp://127.0.0.1:5000",
        ],
    );
    assert!(
        ffmpeg.wait(PATIENCE).expect("ffmpeg ends").success(),
        "{}",
        ffmpeg.log()
    );
    let capture = std::fs::read(lab.end_capture((dumpcap, path))).expect("a capture");
    let mut records = Vec::new();
    let mut rest = &capture[24..];
    while let Some(length) = rest.get(8..12) {
        let end = 16 + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let frame = &rest[16..end];
        let port = u16::from_be_bytes([frame[36], frame[37]]);
        records.push((rest[..end].to_vec(), port, frame[42..].to_vec()));
        rest = &rest[end..];
    }
    records
}

#[test]
fn as_much_of_ffmpegs_stream_is_recoverable_as_gstreamer_rebuilds() {
    let records = from_ffmpeg();
    let of = |port| records.iter().filter(move |(_, p, _)| *p == port);
    let media = of(5000).filter(|(_, _, packet)| packet[1] & 0x7f == 33).count();
    assert!(
        media > 500 && of(5002).count() > media / 5 - 20 && of(5004).count() > media / 8 - 20,
        "{media} packets"
    );
    let mut draw = Draw(0x2022_0002);
    // The first matrix is let alone: gstreamer sees no FEC before it, and neither do we. Neither first nor last is lost.
    let mut seen = 0;
    let kept: Vec<_> = records
        .iter()
        .filter(|(_, port, packet)| {
            let is_media = *port == 5000 && packet[1] & 0x7f == 33;
            seen += usize::from(is_media);
            !is_media || seen < 50 || seen == media || draw.below(10) > 0
        })
        .collect();
    let payloads = |port| {
        let of_port = kept
            .iter()
            .filter(move |(_, p, packet)| *p == port && !(192..224).contains(&packet[1]));
        of_port.map(|(_, _, packet)| packet.clone()).collect::<Vec<_>>()
    };
    let harmed = Protected {
        media: payloads(5000),
        columns: payloads(5002),
        rows: payloads(5004),
    };
    let directory = TempDir::new().expect("a directory");
    let rebuilt = rebuilt_by_gstreamer(directory.path(), &harmed);
    let file: Vec<u8> = [pcap(&[])]
        .into_iter()
        .chain(kept.iter().map(|(record, ..)| record.clone()))
        .flatten()
        .collect();
    let file = put(directory.path(), "harmed.pcap", &file);
    let policy = put(directory.path(), "policy.toml", POLICY.as_bytes());
    let report = inspect_by(&policy, &file).report();
    let stream = rtp_stream(&report);
    let lost = (media - harmed.media.len()) as u64;
    assert!(lost > 20 && rebuilt.len() > 10, "{lost} {}", rebuilt.len());
    assert_eq!(number(stream, "/transport/lost"), lost);
    assert_eq!(number(stream, "/transport/recoverable"), rebuilt.len() as u64);
    // ffmpeg reports as a sender on the next port.
    assert!(number(stream, "/rtp/rtcp/sender_reports") > 0, "{stream:#}");
    // Without a policy FEC shows itself.
    let unruled = inspect_support::inspect_json(&file).report();
    let fec = unruled["streams"]
        .as_array()
        .expect("streams")
        .iter()
        .filter(|stream| stream["protocol"] == "rtp-fec");
    assert_eq!(fec.count(), 2, "{unruled:#}");
}
