//! Companions on another queue: media at one worker and its FEC at the other are judged as one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_common::wire::protocol;

use crate::bench::{SOON, Site, over_queues};
use crate::fixtures::*;
use crate::link::{Link, stop};

/// Media with FEC on P+2 and P+4 (SMPTE ST 2022-1), and ports for probes.
const POLICY: &str = r#"version = 1
default_action = "drop"

[[rule]]
name = "protected"
protocol = "rtp-fec"
source = ["10.1.2.0/24"]
destination = ["10.9.0.0/16"]
destination_port = [5000]

[[rule]]
name = "probes"
protocol = "any"
source = ["10.1.2.0/24"]
destination = ["10.9.0.0/16"]
destination_port = [6000]
"#;
/// Entropy ports that are tried until both queues are found.
const TRIED: u16 = 32;
const PACE: Duration = Duration::from_millis(2);
/// A row's single, a pair that columns solve, and a square that nothing does.
const MISSING: [u16; 7] = [3, 21, 22, 46, 47, 51, 52];

/// A datagram as the load balancer sends it, with the entropy port that chooses its queue.
fn frame(entropy: u16, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = udp(source, destination, payload.len());
    datagram[8..].copy_from_slice(payload);
    let mut frame = wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &datagram)).bytes();
    frame[34..36].copy_from_slice(&entropy.to_be_bytes());
    frame
}

fn rtp(payload_type: u8, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 90).to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.extend(payload);
    packet
}

fn media(sequence: u16) -> Vec<u8> {
    let mut ts = [0x5a; 188];
    ts[..4].copy_from_slice(&[0x47, 1, 0, 0x10 | sequence as u8 & 0x0f]);
    rtp(33, sequence, &ts)
}

/// An FEC packet (SMPTE ST 2022-1 clause 8.4) over every `offset`-th of `count` numbers from `base`.
fn fec(sequence: u16, base: u16, row: bool, offset: u8, count: u8) -> Vec<u8> {
    let mut header = [0; 16 + 188];
    header[..2].copy_from_slice(&base.to_be_bytes());
    header[4] = 0x80;
    header[12] = if row { 0x40 } else { 0 };
    (header[13], header[14]) = (offset, count);
    rtp(96, sequence, &header)
}

/// An entropy port for each queue.
fn entropy_of_queues(link: &Link, site: &Site<'_>) -> [u16; 2] {
    for place in 0..TRIED {
        for _ in 0..3 {
            link.wire.send(&frame(50_000 + place, 7000 + place, 6000, b"probe"));
        }
    }
    site.settled();
    let ports: BTreeMap<u64, u16> = site
        .streams()
        .iter()
        .filter_map(|stream| {
            let source: std::net::SocketAddr = stream["source"].as_str()?.parse().ok()?;
            Some((stream["queue"].as_u64()?, source.port() - 7000 + 50_000))
        })
        .collect();
    assert_eq!(ports.len(), 2, "both queues are found: {ports:?}");
    [ports[&0], ports[&1]]
}

fn of<'s>(streams: &'s [Value], protocol: &str) -> Vec<&'s Value> {
    streams.iter().filter(|stream| stream["protocol"] == protocol).collect()
}

#[test]
fn fec_on_another_queue_rebuilds_what_its_media_lost() {
    let link = Link::new(2, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let [here, there] = entropy_of_queues(&link, &site);
    for n in 0..80u16 {
        // As a sender paces them: the media's numbers are told some milliseconds after they came.
        std::thread::sleep(PACE);
        if !MISSING.contains(&n) {
            link.wire.send(&frame(here, 4000, 5000, &media(n)));
        }
        if n % 5 == 4 {
            link.wire
                .send(&frame(there, 4004, 5004, &fec(n / 5, n - 4, true, 1, 5)));
        }
        if n % 20 == 19 {
            for column in 0..5 {
                let packet = fec(n + column, n - 19 + column, false, 5, 4);
                link.wire.send(&frame(there, 4002, 5002, &packet));
            }
        }
    }
    let begun = Instant::now();
    let streams = loop {
        let streams = site.streams();
        let rebuilt = of(&streams, "rtp")
            .first()
            .is_some_and(|media| media["transport"]["recoverable"] == 3);
        if rebuilt || begun.elapsed() > SOON {
            break streams;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (media, fec) = (of(&streams, "rtp"), of(&streams, "rtp-fec"));
    assert_eq!((media.len(), fec.len()), (1, 2), "{streams:#?}");
    assert_eq!(media[0]["queue"], 0);
    assert!(
        fec.iter()
            .all(|stream| stream["queue"] == 1 && stream["rtp"]["partial"] == false)
    );
    assert_eq!(media[0]["transport"]["lost"], 7);
    assert_eq!(media[0]["transport"]["recoverable"], 3, "{:#}", media[0]);
    assert_eq!(media[0]["rtp"]["partial"], false);
    // The operator's streams have all that a capture's report has.
    assert_eq!(media[0]["ts"]["analysed"], true);
    assert!(
        media[0]["ts"]["programmes"].is_array() && media[0]["tr101290"]["1.3.a"].is_u64(),
        "{:#}",
        media[0]
    );
    assert!(media[0]["conditions"].is_array() && media[0]["scte35"].is_array());
    let status = site.settled();
    assert_eq!(over_queues(&status, "/groups/messages_shed"), 0);
    stop(&site, process);
}
