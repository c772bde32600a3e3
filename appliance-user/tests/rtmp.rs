//! RTMP as ffmpeg publishes it, captured on the loopback: what `tidegate inspect` admits, refuses and tells, beside what
//! tshark reads in the same capture.
#![cfg(feature = "appliance")]

mod inspect_support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use inspect_support::{Timed, Told, inspect_by, inspect_json, number, pcap, put, streams, text, wrapped};
use rustix::process::Signal;
use tempfile::TempDir;
use tidegate_lab::{Namespace, Process};

/// How long each program may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const URL: &str = "rtmp://127.0.0.1:1935/live/cam-1?token=sesame";

/// ffmpeg publishes two seconds of video to an ffmpeg that listens; what the loopback carried.
fn publication(directory: &Path) -> PathBuf {
    let namespace = Namespace::new("rtmp").expect("a network namespace (this test needs root)");
    let start = |name: &str, program: &str, arguments: &[&str]| {
        let mut command = namespace.command(program);
        command.args(arguments);
        Process::spawn(name, command, &directory.join(format!("{name}.log"))).expect(name)
    };
    let capture = directory.join("rtmp.pcap");
    let file = capture.display().to_string();
    let mut dumpcap = start(
        "dumpcap",
        "dumpcap",
        &["-P", "-q", "-i", "lo", "-f", "tcp port 1935", "-w", &file],
    );
    dumpcap
        .wait_until("capturing", PATIENCE, || dumpcap.log().contains("File: "))
        .expect("dumpcap captures");
    let listen = [
        "-nostdin", "-v", "error", "-f", "flv", "-listen", "1", "-i", URL, "-c", "copy", "-f", "null", "-",
    ];
    let mut server = start("server", "ffmpeg", &listen);
    let listening = || {
        let sockets = namespace
            .command("ss")
            .args(["-ltnH", "sport = :1935"])
            .output()
            .expect("ss");
        !sockets.stdout.is_empty()
    };
    server
        .wait_until("listening", PATIENCE, listening)
        .expect("the server listens");
    let source = "testsrc2=size=320x240:rate=25";
    let publish = [
        "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-t", "2", "-c:v", "flv", "-f", "flv", URL,
    ];
    let mut client = start("client", "ffmpeg", &publish);
    let status = client.wait(PATIENCE).expect("the client ends");
    assert!(status.success(), "{}", client.log());
    server.wait(PATIENCE).expect("the server ends");
    std::thread::sleep(Duration::from_millis(400));
    dumpcap.signal(Signal::INT).expect("dumpcap runs");
    dumpcap.wait(PATIENCE).expect("dumpcap ends");
    capture
}

/// What tshark reads of a segment that the client sent.
struct Segment {
    bytes: u64,
    info: String,
}

/// The client's segments, as tshark dissects them.
fn by_tshark(capture: &Path) -> Vec<Segment> {
    let file = capture.display().to_string();
    let fields = ["tcp.len", "_ws.col.Info"];
    let mut arguments = vec![
        "-r",
        &file,
        "-d",
        "tcp.port==1935,rtmpt",
        "-Y",
        "tcp.dstport==1935",
        "-T",
        "fields",
    ];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    let output = Command::new("tshark")
        .args(arguments)
        .output()
        .expect("tshark is needed by this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let segment = |line: &str| {
        let mut columns = line.splitn(2, '\t');
        let mut next = || columns.next().expect("two columns").to_owned();
        Segment {
            bytes: next().parse().expect("a length"),
            info: next(),
        }
    };
    text.lines().map(segment).collect()
}

/// Inspects under a rule with these applications and stream keys.
fn by_rule(directory: &Path, capture: &Path, application: &str, keys: &str) -> Told {
    let key_file = put(directory, "keys", keys.as_bytes());
    // A secret that others may read is none.
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("a file of the test's own");
    let rule = format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"encoders\"\nprotocol = \"rtmp\"\n\
         source = [\"127.0.0.0/8\"]\ndestination_port = [1935]\n[rule.rtmp]\napplication = [\"{application}\"]\n\
         stream_key_file = \"{}\"\n",
        key_file.display()
    );
    inspect_by(&put(directory, "policy.toml", rule.as_bytes()), capture)
}

/// Segments from the one on in which tshark sees a command.
fn from_command(segments: &[Segment], command: &str) -> u64 {
    let first = segments
        .iter()
        .position(|segment| segment.info.contains(command))
        .expect("tshark sees the command");
    (segments.len() - first) as u64
}

#[test]
fn ffmpeg_publishes_what_the_rule_lists_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let capture = publication(directory.path());
    let segments = by_tshark(&capture);
    let sent: u64 = segments.iter().map(|segment| segment.bytes).sum();
    assert!(segments.iter().any(|segment| segment.info.contains("connect('live')")));
    assert!(
        segments
            .iter()
            .any(|segment| segment.info.contains("publish('cam-1?token=sesame')"))
    );

    for told in [
        inspect_json(&capture),
        by_rule(directory.path(), &capture, "l*", "# keys\nother\ncam-*\n"),
    ] {
        let report = told.report();
        assert_eq!((told.code, streams(&report)), (Some(0), 1), "{report:#}");
        assert_eq!(number(&report, "/packets/dropped"), 0);
        assert_eq!(text(&report, "/streams/0/protocol"), "rtmp");
        assert_eq!(number(&report, "/streams/0/packets"), segments.len() as u64);
        assert_eq!(number(&report, "/streams/0/bytes"), sent);
        let rtmp = &report["streams"][0]["rtmp"];
        assert_eq!(
            (text(rtmp, "/application"), text(rtmp, "/purpose")),
            ("live", "publish")
        );
        assert_eq!((&rtmp["verified"], text(rtmp, "/publish_type")), (&true.into(), "live"));
        assert!(text(rtmp, "/client").contains("Lavf"), "{rtmp}");
        assert!(
            !told.out.contains("cam-") && !told.out.contains("sesame"),
            "{}",
            told.out
        );
    }
    let matched = by_rule(directory.path(), &capture, "live", "other\ncam-*\n").report();
    assert_eq!(number(&matched, "/streams/0/rtmp/key_pattern"), 2);

    let cases = [
        ("vod", "cam-*\n", "rtmp-application", "connect('live')"),
        ("live", "cam-1\ncam-2?*\n", "rtmp-stream-key", "releaseStream('cam-1"),
    ];
    for (application, keys, reason, command) in cases {
        let told = by_rule(directory.path(), &capture, application, keys);
        let report = told.report();
        assert_eq!(
            number(&report, &format!("/drop_reasons/{reason}")),
            from_command(&segments, command)
        );
        assert_eq!((told.code, text(&report, "/streams/0/rtmp/refused")), (Some(1), reason));
        assert_eq!(report["streams"][0]["rtmp"]["verified"], false);
        assert!(
            !told.out.contains("cam-") && !told.out.contains("sesame"),
            "{}",
            told.out
        );
    }
}

/// The packets of a classic pcap file with Ethernet, from their IP header on, and their times in microseconds.
fn packets(capture: &Path) -> Vec<Timed> {
    let file = fs::read(capture).expect("a capture");
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let mut packets: Vec<Timed> = Vec::new();
    let (mut at, start) = (24, word(24));
    while at < file.len() {
        let length = word(at + 8) as usize;
        let time = u64::from(word(at) - start) * 1_000_000 + u64::from(word(at + 4));
        packets.push((time, file[at + 16 + 14..at + 16 + length].to_vec()));
        at += 16 + length;
    }
    packets
}

/// Cuts a TCP segment over IPv4 into pieces of at most `size` payload bytes, as a sender or a segmentation offload would.
fn cut(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let header = 20 + usize::from(packet[32] >> 4) * 4;
    let payload = &packet[header..];
    if payload.len() <= size {
        return vec![packet.to_vec()];
    }
    let sequence = u32::from_be_bytes(packet[24..28].try_into().unwrap());
    let piece = |(n, bytes): (usize, &[u8])| {
        let mut piece = [&packet[..header], bytes].concat();
        let length = piece.len() as u16;
        piece[2..4].copy_from_slice(&length.to_be_bytes());
        piece[24..28].copy_from_slice(&sequence.wrapping_add((n * size) as u32).to_be_bytes());
        piece
    };
    payload.chunks(size).enumerate().map(piece).collect()
}

#[test]
fn a_live_publication_is_judged_the_same_in_small_pieces_out_of_order_and_wrapped() {
    let directory = TempDir::new().unwrap();
    let capture = publication(directory.path());
    let mut pieces: Vec<Timed> = packets(&capture)
        .into_iter()
        .flat_map(|(time, packet)| cut(&packet, 90).into_iter().map(move |piece| (time, piece)))
        .collect();
    // Behind the three packets of TCP's handshake: neighbours change places, every fifth comes again later.
    for pair in pieces[3..].chunks_exact_mut(2) {
        pair.swap(0, 1);
    }
    let again: Vec<Timed> = pieces.iter().skip(3).step_by(5).cloned().collect();
    for (n, packet) in again.into_iter().enumerate() {
        pieces.insert((3 + n * 6 + 4).min(pieces.len()), packet);
    }
    let mut last = 0;
    let frames: Vec<Timed> = pieces
        .into_iter()
        .map(|(time, piece)| {
            last = time.max(last + 1);
            (last, wrapped(&piece))
        })
        .collect();
    let harmed = put(directory.path(), "harmed.pcap", &pcap(&frames));
    let good = by_rule(directory.path(), &harmed, "live", "cam-*\n").report();
    assert_eq!(
        (
            number(&good, "/packets/dropped"),
            &good["streams"][0]["rtmp"]["verified"]
        ),
        (0, &true.into()),
        "{good:#}"
    );
    let refused = by_rule(directory.path(), &harmed, "live", "cam-2*\n").report();
    assert!(number(&refused, "/drop_reasons/rtmp-stream-key") > 0, "{refused:#}");
    assert_eq!(text(&refused, "/streams/0/rtmp/refused"), "rtmp-stream-key");
}
