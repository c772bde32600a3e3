//! The same stream in RTP over a path that loses, reorders and repeats: judged in arrival order it looks broken in many
//! places, in sequence order it is broken where packets are missing, and the network did it.

use std::time::Duration;

use tidegate::engine::judge::{Event, Fault, Judge, Ordering, TsBytes, UnsequencedFault};
use tidegate::engine::media::mpegts::{self, Content};
use tidegate::engine::media::rtp;
use tidegate::engine::time::Timestamp;
use tidegate_common::digest::PacketDigest;

use crate::material::{Packet, VIDEO, clean, counter, pid, set_counter};
use crate::oracle;

/// RTP packets of seven TS packets each, as RFC 2250 has them.
fn packetise(packets: &[Packet], first: u16) -> Vec<Vec<u8>> {
    let datagram = |(place, chunk): (usize, &[Packet])| {
        let mut bytes = vec![0x80, rtp::PAYLOAD_TYPE_MP2T];
        bytes.extend(first.wrapping_add(place as u16).to_be_bytes());
        bytes.extend((place as u32 * 3600).to_be_bytes());
        bytes.extend(0xdecade_u32.to_be_bytes());
        bytes.extend(chunk.as_flattened());
        bytes
    };
    packets.chunks(7).enumerate().map(datagram).collect()
}

/// Judges datagrams that come 3.5 ms apart, as 3 Mb/s do.
fn judge(datagrams: &[Vec<u8>]) -> (Judge, Vec<Event>) {
    let mut judge = Judge::new(Ordering::Rtp, Duration::from_millis(50), UnsequencedFault::Unknown);
    let mut events = Vec::new();
    for (place, bytes) in datagrams.iter().enumerate() {
        let packet = rtp::Packet::parse(bytes).expect("an RTP packet");
        let mut digest = PacketDigest {
            sequence: packet.sequence_number().into(),
            ..PacketDigest::default()
        };
        let _ = mpegts::digest_datagram(packet.payload(), Content::Sampled, &mut digest);
        let now = Timestamp::from_nanos(place as u64 * 3_500_000);
        judge.offer_digest(now, &digest, TsBytes::default(), &mut |event| events.push(event));
    }
    judge.flush(&mut |event| events.push(event));
    (judge, events)
}

/// The TS packets of datagrams in the order in which they lie.
fn payloads(datagrams: &[Vec<u8>]) -> Vec<Packet> {
    datagrams
        .iter()
        .flat_map(|bytes| bytes[12..].as_chunks().0.iter().copied())
        .collect()
}

/// Places of datagrams in which every packet is video: losing one makes exactly one event.
fn all_video(datagrams: &[Vec<u8>]) -> Vec<usize> {
    let is_video = |bytes: &Vec<u8>| bytes[12..].as_chunks().0.iter().all(|packet| pid(packet) == VIDEO);
    (0..datagrams.len())
        .filter(|place| is_video(&datagrams[*place]))
        .collect()
}

#[test]
fn two_lost_one_swapped_one_doubled() {
    let mut datagrams = packetise(clean(), 64_000);
    let video = all_video(&datagrams);
    let (swapped, doubled) = (video[video.len() / 2], video[video.len() / 3]);
    let lost = [video[10], video[video.len() - 10]];
    let mut sorted = datagrams.clone();
    datagrams.swap(swapped, swapped + 1);
    datagrams.insert(doubled + 1, datagrams[doubled].clone());
    for place in lost.iter().rev() {
        let number = sorted[*place][2..4].to_vec();
        datagrams.retain(|bytes| bytes[2..4] != number[..]);
        sorted.remove(*place);
    }
    let truth = oracle::dvb_conformance(&payloads(&sorted));
    assert_eq!(truth, 2);
    assert!(
        oracle::dvb_conformance(&payloads(&datagrams)) > truth,
        "arrival order misleads"
    );
    let (judge, events) = judge(&datagrams);
    let (ts, transport) = (judge.ts(), judge.transport());
    assert_eq!((ts.continuity_errors.source, ts.continuity_errors.network), (0, truth));
    assert_eq!((transport.lost, transport.reordered, transport.duplicated), (2, 1, 1));
    assert_eq!((transport.late, transport.resets), (0, 0));
    assert_eq!(ts.packets, payloads(&sorted).len() as u64);
    assert!(
        events
            .iter()
            .all(|event| !matches!(event, Event::ContinuityError { tainted: true, .. }))
    );
}

#[test]
fn faults_of_the_source_stay_the_sources_on_a_lossy_path() {
    let mut packets = clean().to_vec();
    let video = crate::material::video_places(&packets);
    for nth in [200, 1500, 3000] {
        let altered = counter(&packets[video[nth]]) + 5;
        set_counter(&mut packets[video[nth]], altered);
    }
    let at_source = oracle::dvb_conformance(&packets);
    assert_eq!(at_source, 6);
    let datagrams = packetise(&packets, 65_000);
    // Every 50th is lost and every 9th comes three places later, wherever neither is next to an altered packet.
    let altered: Vec<usize> = [200, 1500, 3000].iter().map(|nth| video[*nth] / 7).collect();
    let near = |place: usize| place < 5 || altered.iter().any(|altered| place.abs_diff(*altered) < 12);
    let kept: Vec<usize> = (0..datagrams.len())
        .filter(|place| place % 50 != 25 || near(*place))
        .collect();
    let mut arrival = kept.clone();
    arrival.sort_by_key(|place| {
        if place % 9 == 0 && !near(*place) {
            place + 3
        } else {
            *place
        }
    });
    let in_order: Vec<Vec<u8>> = kept.iter().map(|place| datagrams[*place].clone()).collect();
    let as_it_came: Vec<Vec<u8>> = arrival.iter().map(|place| datagrams[*place].clone()).collect();
    let truth = oracle::dvb_conformance(&payloads(&in_order));
    assert!(
        oracle::dvb_conformance(&payloads(&as_it_came)) > 2 * truth,
        "arrival order misleads"
    );
    let (judge, events) = judge(&as_it_came);
    let errors = judge.ts().continuity_errors;
    assert_eq!((errors.source, errors.source + errors.network), (at_source, truth));
    let lost = (datagrams.len() - kept.len()) as u64;
    // What is missing at the very end, nobody can miss.
    let tail = u64::from(!kept.contains(&(datagrams.len() - 1)));
    assert_eq!(judge.transport().lost, lost - tail);
    let charged = events.iter().filter(|event| {
        matches!(
            event,
            Event::ContinuityError {
                fault: Fault::Source,
                ..
            }
        )
    });
    assert_eq!(charged.count() as u64, at_source);
}
