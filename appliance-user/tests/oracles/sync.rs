//! Synchronisation by hand-made vectors: five good sync bytes acquire it, two bad ones in a row lose it (TR 101 290 5.2.1), in
//! files of every packet size and in datagrams of one to seven packets.

use std::time::Duration;

use dvb_conformance::{ConformanceMonitor, Indicator};
use serde_json::Value;
use tempfile::TempDir;

use crate::inspect_support::{Timed, address, ethernet, inspect_json, number, pcap, put, rtp, ts_packet, udp};

/// Packets in each vector.
const PACKETS: usize = 210;

/// Places of packets with a bad sync byte, how often synchronisation is lost, and how many packets a reader that skips
/// what is out of sync hands out: it goes on with the first of five good ones.
struct Vector {
    bad: &'static [usize],
    losses: u64,
    in_sync: u64,
}

const VECTORS: &[Vector] = &[
    Vector {
        bad: &[],
        losses: 0,
        in_sync: 210,
    },
    // Alone, and with one good one between.
    Vector {
        bad: &[50],
        losses: 0,
        in_sync: 210,
    },
    Vector {
        bad: &[50, 52, 54],
        losses: 0,
        in_sync: 210,
    },
    Vector {
        bad: &[50, 51],
        losses: 1,
        in_sync: 208,
    },
    Vector {
        bad: &[50, 51, 52, 53, 54],
        losses: 1,
        in_sync: 205,
    },
    // Four good ones do not acquire it, so the third bad one loses nothing more; five do, so that it is alone.
    Vector {
        bad: &[50, 51, 56, 57],
        losses: 1,
        in_sync: 202,
    },
    Vector {
        bad: &[50, 51, 57],
        losses: 1,
        in_sync: 208,
    },
    Vector {
        bad: &[50, 51, 57, 58],
        losses: 2,
        in_sync: 206,
    },
    Vector {
        bad: &[50, 51, 120, 121, 122],
        losses: 2,
        in_sync: 205,
    },
    // On both sides of a datagram's border, whatever its size.
    Vector {
        bad: &[83, 84],
        losses: 1,
        in_sync: 208,
    },
];

impl Vector {
    fn packets(&self) -> Vec<[u8; 188]> {
        let mut packets: Vec<_> = (0..PACKETS).map(|n| ts_packet(256, n as u8, 0xff)).collect();
        for place in self.bad {
            packets[*place][0] = 0x48;
        }
        packets
    }

    /// Losses of synchronisation and bad sync bytes as `dvb-conformance` counts them.
    fn by_dvb_conformance(&self) -> (u64, u64) {
        let mut monitor = ConformanceMonitor::new();
        let (mut losses, mut bad) = (0, 0);
        for (place, packet) in self.packets().iter().enumerate() {
            let events = monitor.feed(packet, Duration::from_millis(place as u64));
            let count = |indicator| events.iter().filter(|event| event.indicator == indicator).count() as u64;
            losses += count(Indicator::TsSyncLoss);
            bad += count(Indicator::SyncByteError);
        }
        (losses, bad)
    }
}

fn only_stream(report: &Value) -> &Value {
    let streams = report["streams"].as_array().expect("an array");
    assert_eq!(streams.len(), 1, "{report:#}");
    &streams[0]
}

#[test]
fn files_of_every_packet_size() {
    let directory = TempDir::new().expect("a directory");
    for (place, vector) in VECTORS.iter().enumerate() {
        assert_eq!(
            vector.by_dvb_conformance(),
            (vector.losses, vector.bad.len() as u64),
            "{:?}",
            vector.bad
        );
        // Alone, behind a time stamp, before parity.
        for (before, after) in [(0, 0), (4, 0), (0, 16)] {
            let packets = vector.packets();
            let bytes: Vec<u8> = packets
                .iter()
                .flat_map(|packet| [&vec![0x11; before], &packet[..], &vec![0x22; after]].concat())
                .collect();
            let name = format!("{place}-{}.ts", 188 + before + after);
            let report = inspect_json(&put(directory.path(), &name, &bytes)).report();
            let stream = only_stream(&report);
            assert_eq!(
                number(stream, "/tr101290/1.1"),
                vector.losses,
                "{name} {:?}",
                vector.bad
            );
            assert_eq!(number(stream, "/ts/packets"), vector.in_sync, "{name} {:?}", vector.bad);
        }
    }
}

#[test]
fn datagrams_of_one_to_seven_packets() {
    let directory = TempDir::new().expect("a directory");
    for (place, vector) in VECTORS.iter().enumerate() {
        for size in 1..=7 {
            let packets = vector.packets();
            let datagrams = packets.chunks(size).enumerate().map(|(n, packets)| {
                let payload = rtp(33, n as u16, 7, packets.as_flattened());
                let frame = ethernet(&udp(address("10.0.0.1:5004"), address("10.0.0.2:5000"), &payload));
                (n as u64 * size as u64 * 1000, frame)
            });
            let name = format!("{place}-{size}.pcap");
            let capture = pcap(&datagrams.collect::<Vec<Timed>>());
            let report = inspect_json(&put(directory.path(), &name, &capture)).report();
            let stream = only_stream(&report);
            let bad = vector.bad.len() as u64;
            let told = [
                number(stream, "/tr101290/1.1"),
                number(stream, "/tr101290/1.2"),
                number(stream, "/ts/sync_byte_errors"),
                number(stream, "/ts/packets"),
            ];
            assert_eq!(
                told,
                [vector.losses, bad, bad, PACKETS as u64],
                "{name} {:?}",
                vector.bad
            );
        }
    }
}
