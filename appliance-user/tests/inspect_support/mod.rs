//! What the tests of `tidegate inspect` share: packets and captures made by hand, the command run, its report taken apart.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The GWLB endpoint id in every wrapped packet.
pub(crate) const ENDPOINT: u64 = 0x0001_0203_0405_0607;

/// A packet and the time of its capture in microseconds.
pub(crate) type Timed = (u64, Vec<u8>);

/// A UDP packet from its IP header on, checksums left out (zero means none in UDP over IPv4).
pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    for field in [source.port(), destination.port(), (8 + payload.len()) as u16, 0] {
        segment.extend_from_slice(&field.to_be_bytes());
    }
    segment.extend_from_slice(payload);
    let mut packet = Vec::new();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&((20 + segment.len()) as u16).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0x40, 0, 61, 17, 0, 0]);
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            let mut sum: u32 = packet
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&(segment.len() as u16).to_be_bytes());
            packet.extend_from_slice(&[17, 61]);
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
        }
        _ => panic!("one family at both ends"),
    }
    packet.extend_from_slice(&segment);
    packet
}

/// An IP packet in Ethernet.
pub(crate) fn ethernet(ip: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend_from_slice(if ip[0] >> 4 == 6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    frame.extend_from_slice(ip);
    frame
}

/// An IP packet wrapped as GWLB wraps it (three AWS options, UDP port 6081), in Ethernet.
pub(crate) fn wrapped(ip: &[u8]) -> Vec<u8> {
    let ether_type = if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let mut geneve = vec![8, 0, ether_type[0], ether_type[1], 0, 0, 0, 0, 0x01, 0x08, 1, 2];
    geneve.extend_from_slice(&ENDPOINT.to_be_bytes());
    geneve.extend_from_slice(&[0x01, 0x08, 2, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
    geneve.extend_from_slice(&[0x01, 0x08, 3, 1, 0, 0, 0, 7]);
    geneve.extend_from_slice(ip);
    ethernet(&udp(address("192.0.2.1:50001"), address("192.0.2.2:6081"), &geneve))
}

/// An address, or a panic.
pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A TS packet with payload only (ISO/IEC 13818-1 2.4.3.2).
pub(crate) fn ts_packet(pid: u16, counter: u8, fill: u8) -> [u8; 188] {
    let mut packet = [fill; 188];
    packet[..4].copy_from_slice(&[0x47, (pid >> 8) as u8 & 0x1f, pid as u8, 0x10 | counter & 0x0f]);
    packet
}

/// A section in a packet of its own that begins with it (ISO/IEC 13818-1 2.4.4).
pub(crate) fn ts_section(pid: u16, counter: u8, section: &[u8]) -> [u8; 188] {
    let mut packet = ts_packet(pid, counter, 0xff);
    packet[1] |= 0x40;
    packet[4] = 0;
    packet[5..5 + section.len()].copy_from_slice(section);
    packet
}

/// Programme 1 has its PMT in PID 0x1000.
pub(crate) const PAT: &[u8] = &[0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 0x2a, 0xb1, 0x04, 0xb2];
/// Programme 1 is PID 256 with private data (stream_type 6) and has no PCR.
pub(crate) const PMT: &[u8] = &[
    2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xff, 0xff, 0xf0, 0, 6, 0xe1, 0, 0xf0, 0, 0x6a, 0x99, 0xac, 0xe4,
];

/// A datagram in so many begins with PAT and PMT. A power of two, so that all counters are right when a 16-bit number wraps.
pub(crate) const TABLES_EVERY: u32 = 16;

/// Seven TS packets, PAT and PMT among them in every sixteenth datagram, the others of one PID; all counters go on from
/// datagram to datagram.
pub(crate) fn ts_datagram(number: u32) -> Vec<u8> {
    let tables = number.div_ceil(TABLES_EVERY);
    let first = number.wrapping_mul(7).wrapping_sub(2 * tables);
    let mut packets = Vec::new();
    if number.is_multiple_of(TABLES_EVERY) {
        packets.push(ts_section(0, tables as u8, PAT));
        packets.push(ts_section(0x1000, tables as u8, PMT));
    }
    let others = (first..).take(7 - packets.len());
    packets.extend(others.map(|n| ts_packet(256, n as u8, n as u8)));
    packets.into_flattened()
}

/// RTP (RFC 3550 5.1) around a payload.
pub(crate) fn rtp(payload_type: u8, sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 300).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// RTP with payload type 33 and seven TS packets.
pub(crate) fn rtp_ts(sequence: u16, ssrc: u32) -> Vec<u8> {
    rtp(33, sequence, ssrc, &ts_datagram(sequence.into()))
}

/// A pcap file (Ethernet, microseconds).
pub(crate) fn pcap(packets: &[Timed]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (time, packet) in packets {
        let seconds = (1_700_000_000 + time / 1_000_000) as u32;
        for word in [
            seconds,
            (time % 1_000_000) as u32,
            packet.len() as u32,
            packet.len() as u32,
        ] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}

/// Packets `interval_us` apart.
pub(crate) fn timed(interval_us: u64, packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<Timed> {
    packets
        .into_iter()
        .enumerate()
        .map(|(n, packet)| (n as u64 * interval_us, packet))
        .collect()
}

/// Writes a file into a directory.
pub(crate) fn put(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, bytes).expect("a file in a directory of the test's own");
    path
}

/// What the command did.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    fn new(output: &Output) -> Told {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Told {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// The reports, one a line.
    pub(crate) fn reports(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The only input's report, whose shape is checked.
    pub(crate) fn report(&self) -> Value {
        let mut reports = self.reports();
        assert_eq!(reports.len(), 1, "{self:?}");
        let report = reports.remove(0);
        check_schema(&report);
        report
    }
}

/// Runs `tidegate inspect` with arguments.
pub(crate) fn inspect<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    Told::new(
        &command
            .arg("inspect")
            .args(arguments)
            .output()
            .expect("tidegate starts"),
    )
}

/// `tidegate inspect --format json` on one file.
pub(crate) fn inspect_json(path: &Path) -> Told {
    inspect(["--format".as_ref(), "json".as_ref(), path.as_os_str()])
}

/// `tidegate inspect --format json --policy` on one file.
pub(crate) fn inspect_by(policy: &Path, path: &Path) -> Told {
    inspect([
        "--format".as_ref(),
        "json".as_ref(),
        "--policy".as_ref(),
        policy.as_os_str(),
        path.as_os_str(),
    ])
}

/// The value behind a path such as `/streams/0/transport/lost`, as a number.
pub(crate) fn number(report: &Value, pointer: &str) -> u64 {
    report
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{pointer} is no number in {report:#}"))
}

/// The value behind a path, as text.
pub(crate) fn text<'r>(report: &'r Value, pointer: &str) -> &'r str {
    report
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer} is no text in {report:#}"))
}

/// How many streams a report has.
pub(crate) fn streams(report: &Value) -> usize {
    report["streams"].as_array().expect("an array").len()
}

/// One key of an object of the contract and what its value may be.
type Key = (&'static str, fn(&Value) -> bool);

const REPORT: &[Key] = &[
    ("schema", |v| v == 1),
    ("input", Value::is_string),
    ("packets", |v| has(v, PACKETS)),
    ("drop_reasons", |v| counts(v)),
    ("streams", |v| {
        v.as_array()
            .is_some_and(|streams| streams.iter().all(|stream| has(stream, STREAM)))
    }),
];
const PACKETS: &[Key] = &[
    ("seen", Value::is_u64),
    ("returned", Value::is_u64),
    ("dropped", Value::is_u64),
    ("passed", Value::is_u64),
];
const STREAM: &[Key] = &[
    ("protocol", |v| {
        one_of(
            v,
            &[
                "rtp", "rtp-fec", "rtcp", "rist", "srt", "ts-udp", "rtmp", "file", "other",
            ],
        )
    }),
    ("rule", |v| v.is_null() || v.is_string()),
    ("source", |v| {
        v.is_null() || v.as_str().is_some_and(|s| s.parse::<SocketAddr>().is_ok())
    }),
    ("destination", |v| {
        v.is_null() || v.as_str().is_some_and(|s| s.parse::<SocketAddr>().is_ok())
    }),
    ("endpoint", |v| v.is_null() || v.as_str().is_some_and(is_endpoint)),
    ("ssrc", |v| {
        v.is_null() || v.as_u64().is_some_and(|ssrc| ssrc <= u32::MAX.into())
    }),
    ("stream_id", |v| v.is_null() || v.is_string()),
    ("encryption", Value::is_string),
    ("decrypted", Value::is_boolean),
    ("state", |v| one_of(v, &["healthy", "degraded", "blocked"])),
    ("worst_state", |v| one_of(v, &["healthy", "degraded", "blocked"])),
    ("packets", Value::is_u64),
    ("bytes", Value::is_u64),
    ("transport", |v| has(v, TRANSPORT)),
    ("ts", |v| v.is_null() || has(v, TS)),
    ("tr101290", |v| counts(v)),
    ("findings", |v| counts(v)),
    ("scte35", Value::is_array),
];
const TRANSPORT: &[Key] = &[
    ("lost", Value::is_u64),
    ("reordered", Value::is_u64),
    ("duplicated", Value::is_u64),
    ("retransmitted", Value::is_u64),
    ("late", Value::is_u64),
    ("resets", Value::is_u64),
];
const TS: &[Key] = &[
    ("packets", Value::is_u64),
    ("continuity_errors", |v| has(v, CONTINUITY)),
    ("duplicates", Value::is_u64),
    ("sync_byte_errors", Value::is_u64),
    ("transport_errors", Value::is_u64),
    ("crc_errors", Value::is_u64),
    ("pids", |v| {
        v.as_array().is_some_and(|pids| pids.iter().all(|pid| has(pid, PID)))
    }),
];
const CONTINUITY: &[Key] = &[
    ("source", Value::is_u64),
    ("network", Value::is_u64),
    ("unknown", Value::is_u64),
];
const PID: &[Key] = &[
    ("pid", |v| v.as_u64().is_some_and(|pid| pid < 8192)),
    ("packets", Value::is_u64),
    ("continuity_errors", Value::is_u64),
    ("stream_type", |v| {
        v.is_null() || v.as_u64().is_some_and(|kind| kind < 256)
    }),
];

fn one_of(value: &Value, names: &[&str]) -> bool {
    value.as_str().is_some_and(|name| names.contains(&name))
}

fn is_endpoint(text: &str) -> bool {
    text.len() == 18 && text.starts_with("0x") && u64::from_str_radix(&text[2..], 16).is_ok()
}

fn counts(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.values().all(Value::is_u64))
}

fn has(value: &Value, keys: &[Key]) -> bool {
    let fits = |(name, fits): &Key| {
        let good = value.get(name).is_some_and(fits);
        if !good {
            eprintln!("key {name:?}: {:?}", value.get(name));
        }
        good
    };
    value.is_object() && keys.iter().all(fits)
}

/// Every key of the contract is there with a value of its type, and every packet is accounted for.
pub(crate) fn check_schema(report: &Value) {
    assert!(has(report, REPORT), "not the contract's shape: {report:#}");
    let packets = |name: &str| number(report, &format!("/packets/{name}"));
    assert_eq!(
        packets("seen"),
        packets("returned") + packets("dropped") + packets("passed"),
        "{report:#}"
    );
    let reasons: u64 = report["drop_reasons"]
        .as_object()
        .expect("an object")
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(packets("dropped"), reasons, "every drop has one reason: {report:#}");
}
