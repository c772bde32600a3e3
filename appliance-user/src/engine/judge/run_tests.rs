//! Packets that are judged many at once are judged as if each had come alone.

use core::time::Duration;

use proptest::prelude::*;
use tidegate_common::digest::MAX_TS_PACKETS;

use super::*;
use crate::engine::media::mpegts::{self, Content, build};

/// What a packet is to be: its PID's place, what is odd about it (mostly nothing), and some bits of that.
type Wish = (usize, u8, u8);

const PIDS: [u16; 5] = [0x100, 0x101, 0, 0x10, 0x1fff];

/// A programme's tables, then packets with right counters, but for those that are to be odd.
fn packets(wishes: &[Wish]) -> Vec<[u8; PACKET_SIZE]> {
    let mut counters = [0_u8; PIDS.len()];
    let pat = build::pat(0, (0, 0), &[(1, 0x20)]);
    let pmt = build::pmt(1, 0, 0x100, &[], &[(0x1b, 0x100, &[]), (0x06, 0x101, &[])]);
    let mut tables = build::packets(0, &[&pat], &mut counters[2]);
    tables.extend(build::packets(0x20, &[&pmt], &mut 0));
    // Here it is the counter of the last packet, there of the next one.
    counters[2] = counters[2].wrapping_sub(1);
    let made = wishes.iter().map(|&(pid, odd, bits)| {
        let mut packet = [0x5a; PACKET_SIZE];
        packet[..3].copy_from_slice(&[0x47, (PIDS[pid] >> 8) as u8, PIDS[pid] as u8]);
        let control = match odd {
            0 => 0x20,
            1 => 0x30,
            2 => 0x10 | bits & 0xc0,
            _ => 0x10,
        };
        match odd {
            1 => packet[4..6].copy_from_slice(&[7, bits]),
            3 => packet[0] = bits,
            4 => packet[1] |= bits & 0xe0,
            5 => counters[pid] = bits & 0x0f,
            6 => counters[pid] = counters[pid].wrapping_sub(1),
            _ => {}
        }
        counters[pid] = counters[pid].wrapping_add(u8::from(control & 0x10 != 0)) & 0x0f;
        packet[3] = control | counters[pid];
        packet
    });
    tables.into_iter().chain(made).collect()
}

fn at(nth: usize, apart: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000 + nth as u64 * apart)
}

fn judge(axis: Axis) -> Judge {
    let mut judge = Judge::new(Ordering::Arrival, Duration::ZERO, UnsequencedFault::Source);
    judge.analyse(axis, Arc::new(TsRule::default()));
    judge
}

/// Everything that is known of the stream, and what was told.
fn known(mut judge: Judge, mut told: Vec<Event>) -> String {
    judge.flush(&mut |event| told.push(event));
    let pids: Vec<_> = judge.pids().collect();
    let report = judge.analyser().map(Analyser::report);
    format!("{:?} {pids:?} {report:#?} {told:#?}", judge.ts())
}

/// A datagram whose transport has no numbers.
fn unsequenced(packets: &[[u8; PACKET_SIZE]]) -> Packet<'_> {
    Packet {
        sequence: 0,
        retransmitted: false,
        payload: packets.as_flattened(),
        ts: packets,
        hash: None,
        content: Content::Sampled,
    }
}

/// Datagrams of so many packets; those of seven begin at the same time.
fn in_datagrams(packets: &[[u8; PACKET_SIZE]], size: usize) -> String {
    let (mut judge, mut told) = (judge(Axis::Live), Vec::new());
    for (nth, datagram) in packets.chunks(size).enumerate() {
        let now = at(nth * size / MAX_TS_PACKETS, 20_000_000);
        judge.offer(now, &unsequenced(datagram), &mut |event| told.push(event));
    }
    known(judge, told)
}

/// A file's packets, so many at once.
fn in_batches(packets: &[[u8; PACKET_SIZE]], size: usize) -> String {
    let (mut judge, mut told) = (judge(Axis::File), Vec::new());
    let packets: Vec<_> = packets
        .iter()
        .enumerate()
        .map(|(nth, bytes)| FilePacket {
            at: at(nth, 7_000_000),
            bytes,
        })
        .collect();
    for batch in packets.chunks(size) {
        judge.offer_file(batch, &mut |event| told.push(event));
    }
    known(judge, told)
}

proptest! {
    #[test]
    fn many_at_once_are_judged_as_each_alone(
        wishes in prop::collection::vec((0..PIDS.len(), 0_u8..60, any::<u8>()), 1..300),
        run in 1_usize..9,
    ) {
        // Most packets follow one of their own PID.
        let wishes: Vec<Wish> = wishes.chunks(run).flat_map(|same| {
            same.iter().map(|&(_, odd, bits)| (same[0].0, odd, bits))
        }).collect();
        let packets = packets(&wishes);
        prop_assert_eq!(in_datagrams(&packets, MAX_TS_PACKETS), in_datagrams(&packets, 1));
        prop_assert_eq!(in_batches(&packets, 64), in_batches(&packets, 1));
    }
}

#[test]
fn a_header_counts_up_and_wraps() {
    let header = |head: u16, control: u8| {
        let [high, low] = head.to_be_bytes();
        let mut packet = [0; PACKET_SIZE];
        packet[..4].copy_from_slice(&[0x47, high, low, control]);
        mpegts::Header::of(&packet)
    };
    let before = header(0x0100, 0x1f);
    assert_eq!(before.after(1), header(0x0100, 0x10));
    assert_eq!((before.after(16), before.after(1).before()), (before, before));
    assert_eq!((before.head(), before.control(), before.pid()), (0x0100, 0x1f, 0x100));
    for counter in 0..16 {
        let next = header(0x0100, 0x10 | counter);
        assert_eq!(before.after(1 + usize::from(counter)), next);
        assert_eq!(mpegts::Header::plain(0xc100, counter), next);
    }
    assert_eq!(
        mpegts::Header::plain(0x6100, 3),
        header(0x2100, 0x13),
        "the priority stays"
    );
    assert!(header(0x1fff, 0x13).is_plain_null() && header(0x3fff, 0x17).is_plain_null());
    for (head, control) in [
        (0x1fff, 0x93),
        (0x5fff, 0x13),
        (0x9fff, 0x13),
        (0x1fff, 0x33),
        (0x1ffe, 0x13),
    ] {
        assert!(!header(head, control).is_plain_null(), "{head:x} {control:x}");
    }
}
