//! The engine's peak memory under 65,536 hostile flows, as the kernel counts it: what README states is what this test holds
//! it to.
//!
//! Each flow does what costs an engine most: senders of many streams, numbers that jump, TS packets of ever new PIDs, gaps
//! behind which packets wait, sections that begin and never end, handshakes that are never answered. The engine is asked to
//! follow all of it, in bounded memory, and must still follow a sound stream that begins afterwards.

use std::fs;
use std::net::SocketAddr;

use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published};
use tidegate::policy::Policy;

/// Flows that send.
const FLOWS: u32 = 65_536;
/// Packets of each.
const ROUNDS: u32 = 12;
/// What README states, in MiB.
const STATED_MIB: u64 = 640;

#[test]
fn hostile_flows_take_no_more_memory_than_stated() {
    let policy = Policy::observe_all();
    let published = Published {
        policy: &policy,
        generation: 1,
    };
    let before = resident("VmRSS");
    // Writing 5 sets the peak back to what is resident now.
    fs::write("/proc/self/clear_refs", "5").expect("the peak is set back");
    let mut engine = Engine::new(Config::default());
    let mut packet = Vec::new();
    for round in 0..ROUNDS {
        for flow in 0..FLOWS {
            let now = Timestamp::from_nanos(u64::from(round) * 300_000_000 + u64::from(flow) * 700);
            hostile(flow, round, &mut packet);
            engine.process_bare(now, &published, &packet);
            if flow % 64 == 0 {
                engine.tick(now, 256);
            }
            while engine.next_event().is_some() {}
        }
    }
    let grown = resident("VmHWM").saturating_sub(before) >> 10;
    let counters = engine.counters();
    println!(
        "peak {grown} MiB; flows {}, streams {}, refused streams {}, allowance left {} KiB",
        counters.flows,
        counters.streams,
        counters.streams_refused,
        counters.memory_left >> 10
    );
    assert!(counters.reconciles());
    assert!(
        counters.memory_left < 1 << 20,
        "the attack is not worth its name: {} bytes are left",
        counters.memory_left
    );
    assert!(grown <= STATED_MIB, "{grown} MiB");
}

/// A figure of the kernel's about this process, in KiB.
fn resident(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find(|line| line.starts_with(key)).expect("the figure");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("KiB")
}

/// The packet of one flow in one round.
fn hostile(flow: u32, round: u32, packet: &mut Vec<u8>) {
    let source = SocketAddr::from(([10, 1, (flow >> 8) as u8, flow as u8], 1024 + (flow >> 10) as u16));
    let mut payload = Vec::with_capacity(1400);
    match flow % 4 {
        0 => rtp_of_many_senders(flow, round, &mut payload),
        1 => rtp_with_gaps(flow, round, &mut payload),
        2 => ts_packets(round * 7, &mut payload),
        _ => srt_handshake(flow, round, &mut payload),
    }
    udp(source, ([10, 2, 0, 1], 5000), &payload, packet);
}

fn rtp_header(sequence: u16, ssrc: u32, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&[0x80, 33]);
    payload.extend_from_slice(&sequence.to_be_bytes());
    payload.extend_from_slice(&[0; 4]);
    payload.extend_from_slice(&ssrc.to_be_bytes());
}

/// Three packets of each of eight SSRCs: past probation, and then others.
fn rtp_of_many_senders(flow: u32, round: u32, payload: &mut Vec<u8>) {
    rtp_header((round % 3) as u16, flow ^ (round / 3 + 1) << 16, payload);
    ts_packets(round * 7, payload);
}

/// Numbers that leave as many out as is still believed.
fn rtp_with_gaps(flow: u32, round: u32, payload: &mut Vec<u8>) {
    let sequence = if round < 4 { round } else { round * 90 };
    rtp_header(sequence as u16, flow, payload);
    ts_packets(round * 7, payload);
}

/// Seven packets of seven PIDs, each the start of a section that is never finished.
fn ts_packets(first: u32, payload: &mut Vec<u8>) {
    for pid in first..first + 7 {
        let start = payload.len();
        payload.resize(start + 188, 0xff);
        payload[start..start + 8].copy_from_slice(&[
            0x47,
            0x40 | (pid >> 8) as u8 & 0x1f,
            pid as u8,
            0x10,
            0,
            2,
            0xbf,
            0xfd,
        ]);
    }
}

/// A conclusion with a stream id of its own (draft-sharabayko-srt 3.2.1).
fn srt_handshake(flow: u32, round: u32, payload: &mut Vec<u8>) {
    let words = [
        0x8000_0000,
        0,
        0,
        0,
        5,
        5,
        round,
        1500,
        8192,
        0xffff_ffff,
        flow << 8 | round,
        1,
        0,
        0,
        0,
        0,
        0x0005_0080,
    ];
    words
        .iter()
        .for_each(|word: &u32| payload.extend_from_slice(&word.to_be_bytes()));
    payload.extend((0..512_u32).map(|n| b'a' + (n % 26) as u8));
}

/// The packet in IPv4 and UDP, with its checksums left out.
fn udp(source: SocketAddr, destination: ([u8; 4], u16), payload: &[u8], packet: &mut Vec<u8>) {
    let SocketAddr::V4(source) = source else { return };
    packet.clear();
    let total = 28 + payload.len() as u16;
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&source.ip().octets());
    packet.extend_from_slice(&destination.0);
    packet.extend_from_slice(&source.port().to_be_bytes());
    packet.extend_from_slice(&destination.1.to_be_bytes());
    packet.extend_from_slice(&(total - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
}
