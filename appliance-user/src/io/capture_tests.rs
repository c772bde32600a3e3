//! The capture reader against two independent implementations: files written by the crate `pcap-file`, and files converted
//! and read by Wireshark's `editcap`, `mergecap` and `tshark`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;

use super::*;

/// A packet without its borrow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    timestamp: u64,
    link: LinkType,
    data: Vec<u8>,
    original_len: u32,
}

/// All packets, and the error that ended them.
fn read(file: &[u8]) -> (Vec<Owned>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let mut reader = match CaptureReader::new(file) {
        Ok(reader) => reader,
        Err(e) => return (packets, Some(e)),
    };
    loop {
        match reader.next() {
            None => break,
            Some(Err(e)) => {
                assert!(reader.next().is_none(), "nothing comes after an error");
                return (packets, Some(e));
            }
            Some(Ok(Captured {
                number,
                timestamp,
                link,
                data,
                original_len,
            })) => {
                assert_eq!(number, packets.len() as u64 + 1);
                packets.push(Owned {
                    timestamp,
                    link,
                    data: data.to_vec(),
                    original_len,
                });
            }
        }
    }
    (packets, None)
}

fn read_clean(file: &[u8]) -> Vec<Owned> {
    let (packets, error) = read(file);
    assert!(error.is_none(), "{error:?}");
    packets
}

/// Packets of many lengths, with times that need every digit of `resolution` nanoseconds.
fn packets(count: u64, resolution: u64) -> Vec<Owned> {
    let packet = |n: u64| Owned {
        timestamp: (1_700_000_000_000_000_000 + n * 1_234_567_891) / resolution * resolution,
        link: LinkType::Ethernet,
        data: (0..60 + n * 37 % 1_400).map(|i| (i * 7 + n) as u8).collect(),
        original_len: (60 + n * 37 % 1_400) as u32,
    };
    (0..count).map(packet).collect()
}

fn pcap(packets: &[Owned], endianness: Endianness, ts_resolution: TsResolution) -> Vec<u8> {
    let header = PcapHeader {
        endianness,
        ts_resolution,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).expect("a vector takes everything");
    for packet in packets {
        let timestamp = Duration::from_nanos(packet.timestamp);
        writer
            .write_packet(&PcapPacket::new(timestamp, packet.original_len, &packet.data))
            .expect("valid");
    }
    writer.into_writer()
}

/// A pcapng file of two sections; interface `n` of each has the `n`th resolution, and packets take turns.
fn pcapng(packets: &[(u64, Owned)], endianness: Endianness, resolutions: &[Option<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for (section, part) in packets.chunks(packets.len().div_ceil(2)).enumerate() {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).expect("a vector takes everything");
        for resolution in resolutions {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
            interface
                .options
                .push(InterfaceDescriptionOption::IfName(format!("if{section}").into()));
            interface
                .options
                .extend(resolution.map(InterfaceDescriptionOption::IfTsResol));
            writer.write_pcapng_block(interface).expect("valid");
        }
        for (n, (ticks, packet)) in part.iter().enumerate() {
            let block = EnhancedPacketBlock {
                interface_id: (n % resolutions.len()) as u32,
                // The crate writes the nanoseconds of this as they are, whatever the interface's resolution.
                timestamp: Duration::from_nanos(*ticks),
                original_len: packet.original_len,
                data: packet.data.as_slice().into(),
                options: Vec::new(),
            };
            writer.write_pcapng_block(block).expect("valid");
        }
        file.extend(writer.into_inner());
    }
    file
}

#[test]
fn pcap_of_either_byte_order_and_resolution_reads_as_written() {
    for endianness in [Endianness::Little, Endianness::Big] {
        for (resolution, unit) in [(TsResolution::MicroSecond, 1_000), (TsResolution::NanoSecond, 1)] {
            let written = packets(200, unit);
            assert_eq!(read_clean(&pcap(&written, endianness, resolution)), written);
        }
    }
}

#[test]
fn pcapng_of_either_byte_order_and_several_resolutions_reads_as_written() {
    // Per interface: the option, and how many nanoseconds `ticks` of it are.
    type Nanoseconds = fn(u64) -> u64;
    let clocks: [(Option<u8>, Nanoseconds); 5] = [
        (None, |t| t * 1_000),
        (Some(6), |t| t * 1_000),
        (Some(9), |t| t),
        (Some(3), |t| t * 1_000_000),
        (Some(0x80 | 20), |t| (u128::from(t) * 1_000_000_000 / (1 << 20)) as u64),
    ];
    let resolutions: Vec<_> = clocks.iter().map(|c| c.0).collect();
    for endianness in [Endianness::Little, Endianness::Big] {
        let mut written = packets(100, 1);
        let half = written.len() / 2;
        let mut ticked = Vec::new();
        for (n, packet) in written.iter_mut().enumerate() {
            let ticks = 1_700_000_000_000 + n as u64 * 977;
            packet.timestamp = clocks[n % half % clocks.len()].1(ticks);
            ticked.push((ticks, packet.clone()));
        }
        assert_eq!(read_clean(&pcapng(&ticked, endianness, &resolutions)), written);
    }
}

#[test]
fn times_beyond_the_representable_are_clamped_not_wrapped() {
    let interface = |resolution, offset| Interface {
        link: LinkType::Ethernet,
        snap_len: 0,
        resolution,
        offset,
    };
    assert_eq!(interface(6, 0).nanoseconds(u64::MAX), u64::MAX);
    assert_eq!(interface(0, 0).nanoseconds(3), 3_000_000_000);
    assert_eq!(interface(12, 0).nanoseconds(5_000_999), 5_000);
    assert_eq!(interface(127, 0).nanoseconds(u64::MAX), 0);
    assert_eq!(interface(0xff, 0).nanoseconds(u64::MAX), 0);
    assert_eq!(interface(6, 2).nanoseconds(1), 2_000_001_000);
    assert_eq!(interface(6, i64::MIN).nanoseconds(1), 0);
    assert_eq!(interface(6, i64::MAX).nanoseconds(1), u64::MAX);
}

#[test]
fn every_cut_leaves_the_packets_before_it_and_one_error() {
    let written = packets(4, 1_000);
    let micro: Vec<_> = written.iter().map(|p| (p.timestamp / 1_000, p.clone())).collect();
    let files = [
        pcap(&written, Endianness::Big, TsResolution::MicroSecond),
        pcapng(&micro, Endianness::Little, &[None]),
    ];
    for file in files {
        assert_eq!(read_clean(&file), written);
        let mut clean_ends = 0;
        for cut in 0..file.len() {
            let (some, error) = read(&file[..cut]);
            assert_eq!(some, written[..some.len()], "cut at {cut}");
            match error {
                None => clean_ends += 1,
                Some(CaptureError::Foreign { .. }) => assert!(cut < 4, "cut at {cut}"),
                Some(CaptureError::Truncated {
                    packet,
                    offset,
                    needed,
                    available,
                }) => {
                    assert_eq!(packet, some.len() as u64 + 1);
                    assert_eq!(offset + available, cut as u64);
                    assert!(available < needed);
                }
                Some(other) => panic!("cut at {cut}: {other}"),
            }
        }
        // The ends of whole records: few, and not one for every cut.
        assert!((3..=10).contains(&clean_ends), "{clean_ends}");
    }
}

#[test]
fn damage_is_named_by_packet_and_byte() {
    let written = packets(3, 1_000);
    let mut file = pcap(&written, Endianness::Little, TsResolution::MicroSecond);
    let second = 24 + 16 + written[0].data.len();
    file[second + 8..second + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let (some, error) = read(&file);
    assert_eq!(some, written[..1]);
    assert!(
        matches!(error, Some(CaptureError::Damaged { packet: 2, offset, .. }) if offset == second as u64),
        "{error:?}"
    );
    let ticked: Vec<_> = written.iter().map(|p| (p.timestamp / 1_000, p.clone())).collect();
    let mut file = pcapng(&ticked, Endianness::Little, &[None]);
    let end = file.len();
    file[end - 4] ^= 4;
    let (some, error) = read(&file);
    assert_eq!(some, written[..2]);
    assert!(
        matches!(error, Some(CaptureError::Damaged { packet: 3, .. })),
        "{error:?}"
    );
}

#[test]
fn link_types_are_told_apart() {
    let known = [
        (1, LinkType::Ethernet),
        (101, LinkType::RawIp),
        (12, LinkType::RawIp),
        (113, LinkType::LinuxSll),
        (276, LinkType::LinuxSll2),
        (0, LinkType::Null),
        (108, LinkType::Loop),
        (105, LinkType::Other(105)),
    ];
    for (number, link) in known {
        let header = PcapHeader {
            datalink: DataLink::from(number),
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).expect("a vector takes everything");
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, 3, &[1, 2, 3]))
            .expect("valid");
        assert_eq!(read_clean(&writer.into_writer())[0].link, link);
    }
}

#[test]
fn simple_packets_get_the_time_of_their_predecessor() {
    let written = packets(1, 1_000);
    let mut file = pcapng(
        &[(written[0].timestamp / 1_000, written[0].clone())],
        Endianness::Little,
        &[None],
    );
    // Type 3, length 20, original length 3, data and padding, length 20.
    for word in [3u32, 20, 3, 0x00ff_eedd, 20] {
        file.extend(word.to_le_bytes());
    }
    let read = read_clean(&file);
    assert_eq!(read[1].data, [0xdd, 0xee, 0xff]);
    assert_eq!(read[1].timestamp, written[0].timestamp);
}

proptest! {
    #[test]
    fn arbitrary_bytes_end_in_packets_and_at_most_one_error(
        start in prop_oneof![
            Just(vec![0xd4, 0xc3, 0xb2, 0xa1]),
            Just(vec![0xa1, 0xb2, 0x3c, 0x4d]),
            Just(vec![0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a]),
            Just(vec![]),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let file: Vec<u8> = start.into_iter().chain(rest).collect();
        let (packets, _) = read(&file);
        prop_assert!(packets.iter().map(|p| p.data.len()).sum::<usize>() <= file.len());
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..4_000, value in any::<u8>()) {
        let written = packets(4, 1_000);
        let ticked: Vec<_> = written.iter().map(|p| (p.timestamp / 1_000, p.clone())).collect();
        let mut file = pcapng(&ticked, Endianness::Little, &[None, Some(9)]);
        let length = file.len();
        file[at % length] = value;
        let _ = read(&file);
    }
}

/// Runs a tool of Wireshark's and returns what it prints.
fn wireshark(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap_or_else(|e| {
        panic!("this test compares with Wireshark's {tool}, which cannot be run ({e}): install the package tshark")
    });
    assert!(
        output.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// What tshark reads from a file.
fn tshark(file: &Path) -> Vec<Owned> {
    let path = file.to_str().expect("UTF-8");
    let fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len"];
    let table = wireshark("tshark", &[&["-n", "-r", path], &fields[..]].concat());
    let raw = wireshark("tshark", &["-n", "-r", path, "-T", "jsonraw", "-j", "frame"]);
    let raw: Vec<serde_json::Value> = serde_json::from_str(&raw).expect("JSON");
    let line = |(line, raw): (&str, &serde_json::Value)| {
        let mut columns = line.split('\t');
        let (seconds, fraction) = columns.next().and_then(|time| time.split_once('.')).expect("a time");
        let nanos: u64 = format!("{fraction:0<9}").parse().expect("digits");
        let hex = raw["_source"]["layers"]["frame_raw"][0].as_str().expect("the bytes");
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
        Owned {
            timestamp: seconds.parse::<u64>().expect("digits") * 1_000_000_000 + nanos,
            link: LinkType::Ethernet,
            data: hex.as_bytes().chunks(2).map(byte).collect(),
            original_len: columns.next().and_then(|n| n.parse().ok()).expect("a length"),
        }
    };
    table.lines().zip(&raw).map(line).collect()
}

#[test]
fn conversions_by_wireshark_read_as_tshark_reads_them() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let save = |name: &str, bytes: &[u8]| {
        std::fs::File::create(path(name))
            .and_then(|mut f| f.write_all(bytes))
            .expect("save");
        path(name)
    };
    let text = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let written = packets(60, 1);
    let nano = save(
        "nano.pcap",
        &pcap(&written, Endianness::Little, TsResolution::NanoSecond),
    );
    let micro = save(
        "micro.pcap",
        &pcap(&packets(40, 1_000), Endianness::Big, TsResolution::MicroSecond),
    );
    let mut files = vec![nano.clone(), micro.clone()];
    for (format, name) in [("pcapng", "a.pcapng"), ("nsecpcap", "b.pcap"), ("pcap", "c.pcap")] {
        wireshark("editcap", &["-F", format, &text(&nano), &text(&path(name))]);
        files.push(path(name));
    }
    // Cut packets, whose original length exceeds the snap length.
    wireshark(
        "editcap",
        &["-F", "pcap", "-s", "80", &text(&nano), &text(&path("cut.pcap"))],
    );
    files.push(path("cut.pcap"));
    // Two interfaces, of different resolution, packets mixed by time.
    wireshark(
        "mergecap",
        &[
            "-F",
            "pcapng",
            "-I",
            "none",
            "-w",
            &text(&path("merged.pcapng")),
            &text(&nano),
            &text(&micro),
        ],
    );
    files.push(path("merged.pcapng"));
    for file in files {
        let ours = read_clean(&std::fs::read(&file).expect("read"));
        let theirs = tshark(&file);
        assert_eq!(ours.len(), theirs.len(), "{}", file.display());
        assert!(
            ours == theirs,
            "{}: {:?}",
            file.display(),
            ours.iter().zip(&theirs).find(|(a, b)| a != b)
        );
    }
    let cut = read_clean(&std::fs::read(path("cut.pcap")).expect("read"));
    assert!(cut.iter().all(|p| p.data.len() <= 80) && cut.iter().any(|p| p.original_len > 1_000));
    assert_eq!(
        read_clean(&std::fs::read(path("merged.pcapng")).expect("read")).len(),
        100
    );
}
