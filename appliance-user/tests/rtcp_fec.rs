//! RTCP and FEC headers against tshark: what it reads of a capture, field by field, must be what `inspect` reports.

mod inspect_support;

use std::path::Path;
use std::process::Command;

use inspect_support::{Timed, address, ethernet, inspect_by, number, pcap, put, rtp, rtp_ts, udp};
use serde_json::Value;
use tempfile::TempDir;

const SSRC: u32 = 0x1234_5678;

/// The fields of every packet that has the first one, as tshark prints them; those of one packet in one line.
fn tshark(file: &Path, decode: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(decode)
        .args(["-Y", fields[0], "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark is needed by this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn rtcp(count: u8, kind: u8, words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80 | count, kind];
    bytes.extend((words.len() as u16).to_be_bytes());
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes
}

fn stream<'r>(report: &'r Value, protocol: &str) -> &'r Value {
    let streams = report["streams"].as_array().expect("streams");
    let found = streams.iter().find(|stream| stream["protocol"] == protocol);
    found.unwrap_or_else(|| panic!("no {protocol} in {report:#}"))
}

fn policy(directory: &TempDir, protocol: &str) -> std::path::PathBuf {
    let text = format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"r\"\nprotocol = \"{protocol}\"\n\
         source = [\"10.0.0.1\"]\ndestination = [\"10.0.9.9\"]\ndestination_port = [5000]\n"
    );
    put(directory.path(), "policy.toml", text.as_bytes())
}

/// Media with a sender report and a name every 200 packets, and a receiver's report and requests after each.
fn session() -> Vec<u8> {
    let (media, control) = (address("10.0.0.1:4000"), address("10.0.0.1:4001"));
    let (to_media, to_control) = (address("10.0.9.9:5000"), address("10.0.9.9:5001"));
    let mut packets: Vec<Timed> = Vec::new();
    for n in 0..1000u16 {
        let time = u64::from(n) * 1000;
        packets.push((time, ethernet(&udp(media, to_media, &rtp_ts(n, SSRC)))));
        let count = u32::from(n);
        if n % 200 == 100 {
            let mut compound = rtcp(
                0,
                200,
                &[
                    SSRC,
                    0xe000_0000 + count,
                    0x8000_0000,
                    count * 300,
                    count + 1,
                    (count + 1) * 1316,
                ],
            );
            compound.extend(rtcp(
                1,
                202,
                &[SSRC, u32::from_be_bytes(*b"\x01\x05ab"), u32::from_be_bytes(*b"@cd\0")],
            ));
            packets.push((time + 1, ethernet(&udp(control, to_control, &compound))));
        }
        if n % 200 == 150 {
            let block = [
                SSRC,
                (count / 2) << 24 | count,
                count,
                3 * count,
                (0xe000_0000 + count - 50) << 16 | 0x8000,
                2621,
            ];
            let mut compound = rtcp(1, 201, &[[99].as_slice(), &block].concat());
            compound.extend(rtcp(1, 205, &[99, SSRC, count << 16 | 0x8001, (count + 40) << 16]));
            packets.push((time + 2, ethernet(&udp(to_control, control, &compound))));
        }
    }
    pcap(&packets)
}

#[test]
fn rtcp_says_what_tshark_reads() {
    let directory = TempDir::new().expect("a directory");
    let file = put(directory.path(), "session.pcap", &session());
    let decode = ["-d", "udp.port==5001,rtcp"];
    let senders = tshark(
        &file,
        &decode,
        &["rtcp.sender.packetcount", "rtcp.sender.octetcount", "rtcp.sdes.text"],
    );
    let fields = [
        "rtcp.ssrc.fraction",
        "rtcp.ssrc.cum_nr",
        "rtcp.ssrc.jitter",
        "rtcp.rtpfb.nack_pid",
    ];
    let receivers = tshark(&file, &decode, &fields);
    let report = inspect_by(&policy(&directory, "rtp"), &file).report();
    let told = &stream(&report, "rtp")["rtp"]["rtcp"];
    let parse = |text: &str| text.parse::<u64>().unwrap_or_else(|e| panic!("{e}: {text}"));

    let (first, last) = (senders.first().expect("reports"), senders.last().expect("reports"));
    assert_eq!(number(told, "/sender_reports"), senders.len() as u64);
    assert_eq!(number(told, "/sent_packets"), parse(&last[0]) - parse(&first[0]));
    assert_eq!(number(told, "/sent_octets"), parse(&last[1]) - parse(&first[1]));
    assert_eq!(told["cname"], last[2].as_str());
    assert_eq!(number(told, "/missing"), 0);

    let last = receivers.last().expect("reports");
    assert_eq!(number(told, "/receiver_reports"), receivers.len() as u64);
    let fraction = told["fraction_lost_percent"].as_f64().expect("a fraction");
    assert_eq!(fraction * 256.0 / 100.0, parse(&last[0]) as f64);
    assert_eq!(number(told, "/cumulative_lost"), parse(&last[1]));
    assert_eq!(number(told, "/receiver_jitter"), parse(&last[2]));
    // tshark writes every number that a packet id and its mask ask for.
    let asked = |packet: &Vec<String>| packet[3].split(',').count() as u64;
    assert_eq!(number(told, "/nacks"), receivers.len() as u64);
    assert_eq!(
        number(told, "/nacked_packets"),
        receivers.iter().map(asked).sum::<u64>()
    );
    // The report came 50 ms and 1 us after the one it names, and says that it waited 2621/65536 s of them.
    let round_trip = told["round_trip_ms"].as_f64().expect("a round trip");
    assert!(
        (round_trip - (50.001 - 2621.0 * 1000.0 / 65536.0)).abs() < 0.001,
        "{round_trip}"
    );
}

#[test]
fn fec_headers_are_what_tshark_reads() {
    let (l, d) = (7u8, 5u8);
    let fec = |n: u16, base: u16, row: bool| {
        let (flags, offset, count) = if row { (0x40, 1, l) } else { (0, l, d) };
        let mut payload = base.to_be_bytes().to_vec();
        payload.extend([0x05, 0x24, 0x80, 0, 0, 0, 0, 0, 0, 0, flags, offset, count, 0]);
        payload.resize(16 + 1316, 0);
        rtp(96, n, 0, &payload)
    };
    let mut packets: Vec<Timed> = Vec::new();
    let mut send = |port: u16, packet: Vec<u8>| {
        let time = packets.len() as u64 * 1000;
        let (from, to) = (
            address(&format!("10.0.0.1:{}", port - 1000)),
            address(&format!("10.0.9.9:{port}")),
        );
        packets.push((time, ethernet(&udp(from, to, &packet))));
    };
    for matrix in 0..10u16 {
        for n in 0..u16::from(l) * u16::from(d) {
            send(5000, rtp_ts(matrix * 35 + n, SSRC));
        }
        (0..u16::from(l)).for_each(|c| send(5002, fec(matrix * 7 + c, matrix * 35 + c, false)));
        (0..u16::from(d)).for_each(|r| send(5004, fec(matrix * 5 + r, matrix * 35 + r * 7, true)));
    }
    let directory = TempDir::new().expect("a directory");
    let file = put(directory.path(), "fec.pcap", &pcap(&packets));
    let decode = [
        "-d",
        "udp.port==5002,rtp",
        "-d",
        "udp.port==5004,rtp",
        "-o",
        "2dparityfec.enable:TRUE",
    ];
    let read = tshark(
        &file,
        &decode,
        &[
            "2dparityfec.snbase_low",
            "2dparityfec.d",
            "2dparityfec.offset",
            "2dparityfec.na",
        ],
    );
    assert_eq!(read.len(), 120);
    let report = inspect_by(&policy(&directory, "rtp-fec"), &file).report();
    let flows: Vec<&Value> = report["streams"]
        .as_array()
        .expect("streams")
        .iter()
        .filter(|s| s["protocol"] == "rtp-fec")
        .collect();
    assert_eq!(flows.len(), 2);
    for flow in flows {
        let told = &flow["rtp"]["fec"];
        let rows = number(told, "/rows") > 0;
        let is_row = |packet: &&Vec<String>| matches!(packet[1].as_str(), "1" | "True");
        let of_flow: Vec<_> = read.iter().filter(|packet| is_row(packet) == rows).collect();
        let last = of_flow.last().expect("packets");
        let (count, width, depth) = if rows {
            ("/rows", &last[3], 0)
        } else {
            ("/columns", &last[2], last[3].parse().expect("a number"))
        };
        assert_eq!(number(told, count), of_flow.len() as u64);
        assert_eq!(number(told, "/width"), width.parse::<u64>().expect("a number"));
        assert_eq!(number(told, "/depth"), depth);
        assert_eq!(number(told, "/malformed"), 0);
    }
    assert_eq!(number(stream(&report, "rtp"), "/transport/recoverable"), 0);
}
