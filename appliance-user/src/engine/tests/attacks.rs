//! What somebody gains who can send packets in a good stream's name: findings, and no block on account of them; and what a
//! blocked sender gains by changing its name: nothing.

use super::scenarios::BLOCK;
use super::*;
use crate::engine::event::{StreamChange, StreamEvent};
use crate::engine::media::mpegts::section::crc32;

/// A section in a TS packet of its own.
fn section_packet(pid: u16, counter: u64, table_id: u8, extension: u8, body: &[u8]) -> [u8; 188] {
    let mut section = vec![table_id, 0xb0, body.len() as u8 + 9, 0, extension, 0xc1, 0, 0];
    section.extend(body);
    section.extend(crc32(&section).to_be_bytes());
    let mut packet = ts_packet(pid, counter as u8, 0xff);
    packet[1] |= 0x40;
    packet[4] = 0;
    packet[5..5 + section.len()].copy_from_slice(&section);
    packet
}

/// Programme 1: PMT on PID 4096, private data with PCR on PID 256.
fn pat(counter: u64) -> [u8; 188] {
    section_packet(0, counter, 0, 1, &[0, 1, 0xf0, 0])
}

fn pmt(counter: u64, stream_type: u8) -> [u8; 188] {
    section_packet(4096, counter, 2, 1, &[0xe1, 0, 0xf0, 0, stream_type, 0xe1, 0, 0xf0, 0])
}

/// A packet each millisecond: PAT and PMT every 400 ms, a PCR every 20 ms.
fn tabled(ms: u64) -> Vec<u8> {
    let mut null = [0xff; 188];
    null[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    let tables = ms.is_multiple_of(400).then(|| [pat(ms / 400), pmt(ms / 400, 6)]);
    let mut packet = rtp(ms as u16, 7);
    packet.truncate(12);
    packet.extend(tables.unwrap_or([null; 2]).as_flattened());
    for place in 0..5 {
        let n = ms * 5 + place;
        let mut media = ts_packet(256, n as u8, n as u8);
        if place == 0 && ms.is_multiple_of(20) {
            media[3] |= 0x20;
            media[4..6].copy_from_slice(&[7, 0x10]);
            media[6..12].copy_from_slice(&((ms * 90) << 15 | 0x7e00).to_be_bytes()[2..]);
        }
        packet.extend(media);
    }
    packet
}

/// A packet with that number, full of one PID.
fn forged(number: u64, pid: u16) -> Vec<u8> {
    let mut packet = rtp(number as u16, 7);
    packet.truncate(12);
    packet.extend((0..7).flat_map(|n| ts_packet(pid, n, 0x55)));
    packet
}

/// Genuine packets that are dropped of so many, while the attacker's come a moment before them; and the findings.
fn dropped(limits: &str, until: u64, attack: impl Fn(u64) -> Vec<Vec<u8>>) -> (u64, Vec<&'static str>) {
    let mut bench = Bench::new(rtp_policy(&format!("[rule.ts]\n{limits}\n")));
    bench.engine = Engine::new(Config::default());
    let mut dropped = 0;
    for ms in 0..until {
        for packet in attack(ms) {
            bench.send(ms, &packet);
        }
        dropped += u64::from(bench.send(ms, &tabled(ms)) != Verdict::Return);
        bench.engine.tick(at_ms(ms), 16);
    }
    let streams = bench.engine.streams();
    let findings = streams
        .iter()
        .flat_map(|stream| stream.findings.keys().copied())
        .collect();
    (dropped, findings)
}

const PIDS: &str = "pids = { allowed = [0, 256, 4096], on_exceed = \"block\", hold = \"5s\" }";
const TYPES: &str = "stream_types = { allowed = [6], on_exceed = \"block\", hold = \"5s\" }";
const TR101290: &str = "tr101290 = { on_exceed = \"block\" }";
const PRIORITY_3: &str = "tr101290 = { priority = 3, window = \"1s\", on_exceed = \"block\" }";

#[test]
fn the_stream_by_itself_keeps_every_limit() {
    for limits in [PIDS, TYPES, TR101290, PRIORITY_3] {
        assert_eq!(dropped(limits, 6000, |_| Vec::new()), (0, Vec::new()), "{limits}");
    }
}

#[test]
fn the_same_faults_of_the_sender_itself_do_block() {
    let strange = |ms: u64| if ms > 1000 { vec![forged(ms, 0x777)] } else { Vec::new() };
    let mut bench = Bench::new(rtp_policy(&format!("[rule.ts]\n{PIDS}\n")));
    bench.engine = Engine::new(Config::default());
    let mut dropped = 0;
    for ms in 0..8000 {
        let packet = strange(ms).pop().unwrap_or_else(|| tabled(ms));
        dropped += u64::from(bench.send(ms, &packet) != Verdict::Return);
        bench.engine.tick(at_ms(ms), 16);
    }
    assert!(dropped > 1000, "{dropped}");
}

#[test]
fn a_packet_in_place_of_the_tables_blocks_nothing_however_late_they_are_missed() {
    let in_place = |ms: u64| {
        let mut packet = tabled(401);
        packet[2..4].copy_from_slice(&(ms as u16 + 1).to_be_bytes());
        if ms == 3199 { vec![packet] } else { Vec::new() }
    };
    assert_eq!(dropped(TR101290, 8000, in_place), (0, vec!["sequence-conflict"]));
    let stranger = |ms: u64| {
        if ms == 3000 {
            vec![forged(ms + 5, 0x777)]
        } else {
            Vec::new()
        }
    };
    assert_eq!(dropped(PRIORITY_3, 8000, stranger), (0, vec!["sequence-conflict"]));
}

#[test]
fn pairs_that_move_the_sequence_block_nothing_by_what_they_carry() {
    let pair = |ms: u64| [forged(ms + 20_000, 0x777), forged(ms + 20_001, 0x777)];
    let every = |ms: u64, period: u64| ms >= 2000 && ms % period == 7;
    let strangers = |ms: u64| if every(ms, 900) { pair(ms).to_vec() } else { Vec::new() };
    assert_eq!(dropped(PIDS, 12_000, strangers).0, 0);
    let types = |ms: u64| {
        if !every(ms, 400) {
            return Vec::new();
        }
        let [mut first, second] = pair(ms);
        first[12..200].copy_from_slice(&pmt(ms / 400 + 1, 0x24));
        vec![first, second]
    };
    assert_eq!(dropped(TYPES, 12_000, types).0, 0);
}

#[test]
fn another_ssrc_walks_around_neither_a_block_nor_what_holds_for_every_packet() {
    let limits = format!("{BLOCK}malformed_ts = \"drop\"\n").replace("hold = \"2s\"", "hold = \"60s\"");
    let mut bench = Bench::new(rtp_policy(&limits));
    let broken = |ms: u64, ssrc: u32| {
        let mut packet = rtp(ms as u16, ssrc);
        packet[12 + 188] = 0;
        packet
    };
    for ms in 0..1000 {
        bench.send(ms, &rtp(ms as u16, 7));
    }
    let mut faulty = rtp(1000, 7);
    faulty[12 + 3] ^= 5;
    bench.send(1000, &faulty);
    for ms in 1001..3000 {
        let verdict = bench.send(ms, &rtp(ms as u16, 7));
        bench.engine.tick(at_ms(ms), 16);
        if verdict == Verdict::Drop(DropReason::StreamBlocked) {
            assert_eq!(bench.send(ms, &rtp(ms as u16, 9)), verdict, "{ms}");
        }
    }
    assert_eq!(bench.engine.streams()[0].state, StreamState::Blocked);

    let mut bench = Bench::new(rtp_policy(&limits));
    for ms in 0..1000 {
        bench.send(ms, &rtp(ms as u16, 7));
        if ms > 100 {
            let malformed = bench.send(ms, &broken(ms, 9));
            assert_eq!(malformed, Verdict::Drop(DropReason::MalformedTs), "{ms}");
        }
    }
}

#[test]
fn a_flood_of_new_streams_does_not_push_out_that_another_one_is_blocked() {
    let mut bench = Bench::new(rtp_policy(BLOCK));
    for ms in 0..1000 {
        bench.send(ms, &rtp(ms as u16, 7));
    }
    let mut faulty = rtp(1000, 7);
    faulty[12 + 3] ^= 5;
    bench.send(1000, &faulty);
    while bench.engine.next_event().is_some() {}
    for port in 1024..2124 {
        let from = SocketAddr::from(([10, 0, 0, 2], port));
        for n in 0..2 {
            bench.offer(1099, wrapped(from, receiver(), &rtp(n, 5)));
        }
    }
    for ms in 1001..1150 {
        bench.send(ms, &rtp(ms as u16, 7));
    }
    bench.engine.tick(at_ms(1150), 65_536);
    let events: Vec<_> = std::iter::from_fn(|| bench.engine.next_event()).collect();
    let told = |event: &StreamEvent| {
        matches!(
            event.change,
            StreamChange::StateChanged {
                to: StreamState::Blocked,
                ..
            }
        )
    };
    assert!(
        bench.engine.counters().events_shed > 0,
        "the flood is not worth its name"
    );
    assert!(events.iter().any(told), "{} events", events.len());
}
