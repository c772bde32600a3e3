//! The engine from outside: packets in, verdicts, streams and events out.

use std::net::{IpAddr, SocketAddr};

use tidegate_common::drop_reason::DropReason;

use super::report::{StreamProtocol, StreamReport, StreamState};
use super::time::Timestamp;
use super::{Config, Engine, Published, Verdict};
use crate::policy::{self, Policy};

mod attacks;
mod bursts;
mod lane;
mod scenarios;

const ENDPOINT: u64 = 0x0001_0203_0405_0607;

fn ones_complement(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 61, protocol, 0, 0];
    packet[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    let checksum = ones_complement(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    for field in [source, destination, (8 + payload.len()) as u16, 0] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

/// An inner IPv4 UDP packet, wrapped as GWLB wraps it.
fn wrapped(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) else {
        panic!("IPv4 here")
    };
    wrap(&ipv4(
        from.octets(),
        to.octets(),
        17,
        &udp(source.port(), destination.port(), payload),
    ))
}

fn wrap(inner: &[u8]) -> Vec<u8> {
    let mut geneve = vec![8, 0, 0x08, 0x00, 0, 0, 0, 0];
    geneve.extend_from_slice(&[0x01, 0x08, 1, 2]);
    geneve.extend_from_slice(&ENDPOINT.to_be_bytes());
    geneve.extend_from_slice(&[0x01, 0x08, 2, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
    geneve.extend_from_slice(&[0x01, 0x08, 3, 1, 0, 0, 0, 7]);
    geneve.extend_from_slice(inner);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend_from_slice(&ipv4([192, 0, 2, 1], [192, 0, 2, 2], 17, &udp(50_001, 6081, &geneve)));
    frame
}

fn ts_packet(pid: u16, counter: u8, fill: u8) -> [u8; 188] {
    let mut packet = [fill; 188];
    packet[..4].copy_from_slice(&[0x47, (pid >> 8) as u8 & 0x1f, pid as u8, 0x10 | counter & 0x0f]);
    packet
}

/// RTP with seven TS packets of one PID whose counters go on from the sequence number.
fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 33];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 300).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    for i in 0..7u32 {
        let n = u32::from(sequence) * 7 + i;
        packet.extend_from_slice(&ts_packet(256, n as u8, n as u8));
    }
    packet
}

fn at_ms(ms: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn policy(rules: &str) -> Policy {
    policy::parse("test.toml", &format!("version = 1\ndefault_action = \"drop\"\n{rules}")).expect("a valid policy")
}

fn rtp_policy(extra: &str) -> Policy {
    policy(&format!(
        "[[rule]]\nname = \"studio\"\nprotocol = \"rtp\"\nsource = [\"10.0.0.0/24\"]\ndestination_port = [5000]\n{extra}"
    ))
}

fn sender() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 40_000))
}

fn receiver() -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 9], 5000))
}

struct Bench {
    engine: Engine,
    policy: Policy,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        Bench {
            // The packets of these tests carry no tables.
            engine: Engine::new(Config {
                analyse: false,
                keep_gone: true,
                ..Config::default()
            }),
            policy,
        }
    }

    fn offer(&mut self, ms: u64, mut frame: Vec<u8>) -> Verdict {
        let published = Published {
            policy: &self.policy,
            generation: 1,
        };
        let verdict = self.engine.process(at_ms(ms), &published, &mut frame);
        assert!(self.engine.counters().reconciles());
        verdict
    }

    fn send(&mut self, ms: u64, payload: &[u8]) -> Verdict {
        self.offer(ms, wrapped(sender(), receiver(), payload))
    }

    fn only_stream(&mut self) -> StreamReport {
        self.engine.finish();
        let mut streams = self.engine.streams();
        assert_eq!(streams.len(), 1, "{streams:#?}");
        streams.remove(0)
    }
}

#[test]
fn a_sound_rtp_stream_is_returned_and_reported() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in 0..200u16 {
        assert_eq!(bench.send(u64::from(n), &rtp(n, 7)), Verdict::Return);
    }
    let stream = bench.only_stream();
    assert_eq!(stream.identity.protocol, StreamProtocol::Rtp);
    assert_eq!(stream.identity.rule.as_deref(), Some("studio"));
    assert_eq!(stream.identity.endpoint, Some(ENDPOINT));
    assert_eq!(stream.identity.ssrc, Some(7));
    assert_eq!(
        (stream.packets, stream.transport.lost, stream.transport.reordered),
        (200, 0, 0)
    );
    let ts = stream.ts.expect("the TS is in the clear");
    assert_eq!(ts.packets, 1400);
    assert_eq!(
        ts.continuity_errors.source + ts.continuity_errors.network + ts.continuity_errors.unknown,
        0
    );
    assert_eq!(stream.worst_state, StreamState::Healthy);
}

#[test]
fn a_returned_frame_differs_in_macs_outer_addresses_ttl_and_checksum_only() {
    let policy = rtp_policy("");
    let mut engine = Engine::new(Config::default());
    let before = wrapped(sender(), receiver(), &rtp(1, 7));
    let mut after = before.clone();
    assert_eq!(
        engine.process(
            at_ms(0),
            &Published {
                policy: &policy,
                generation: 1
            },
            &mut after
        ),
        Verdict::Return
    );
    assert_eq!((&after[0..6], &after[6..12]), (&before[6..12], &before[0..6]));
    assert_eq!((&after[26..30], &after[30..34]), (&before[30..34], &before[26..30]));
    assert_eq!(after[22], 64);
    assert_eq!(ones_complement(&after[14..34]), 0);
    assert_eq!(
        after[34..],
        before[34..],
        "UDP ports, GENEVE and everything inside stay"
    );
    assert_eq!(after[12..22], before[12..22]);
}

#[test]
fn what_no_rule_admits_is_dropped_under_its_own_reason() {
    let mut bench = Bench::new(rtp_policy(""));
    let stranger = SocketAddr::from(([10, 66, 0, 1], 40_000));
    assert_eq!(
        bench.offer(0, wrapped(stranger, receiver(), &rtp(0, 1))),
        Verdict::Drop(DropReason::SourceNotListed)
    );
    let elsewhere = SocketAddr::from(([10, 0, 9, 9], 7000));
    assert_eq!(
        bench.offer(0, wrapped(sender(), elsewhere, &rtp(0, 1))),
        Verdict::Drop(DropReason::NoRule)
    );
    assert_eq!(bench.send(0, b"no rtp at all"), Verdict::Drop(DropReason::NotRtp));
    let mut unused = Bench::new(rtp_policy(""));
    let reply = wrapped(receiver(), sender(), &rtp(0, 1));
    assert_eq!(unused.offer(0, reply), Verdict::Drop(DropReason::UnsolicitedReply));
}

#[test]
fn shadow_mode_judges_and_drops_nothing() {
    let mut bench = Bench::new(rtp_policy("enforce = false\n"));
    assert_eq!(bench.send(0, b"no rtp at all"), Verdict::Return);
    assert_eq!(bench.engine.counters().shadow_dropped_total(), 1);
    // What the rule would refuse goes by, so it is followed: a sound stream of a payload type that is not listed.
    let mut bench = Bench::new(rtp_policy("enforce = false\n[rule.rtp]\npayload_type = [96]\n"));
    for n in (0..100u16).filter(|n| *n != 50) {
        assert_eq!(bench.send(u64::from(n), &rtp(n, 7)), Verdict::Return);
    }
    bench.send(100, b"no rtp at all");
    let reasons: Vec<_> = bench.engine.counters().shadow_drops().collect();
    assert_eq!(reasons, [(DropReason::NotRtp, 1), (DropReason::RtpPayloadType, 99)]);
    assert_eq!(bench.engine.counters().shadow_dropped_total(), 100);
    let stream = bench.only_stream();
    assert_eq!((stream.packets, stream.transport.lost), (99, 1));
}

#[test]
fn one_lost_datagram_is_the_networks_fault() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in (0..100u16).filter(|n| *n != 50) {
        bench.send(u64::from(n), &rtp(n, 7));
    }
    let stream = bench.only_stream();
    assert_eq!(stream.transport.lost, 1);
    let errors = stream.ts.expect("in the clear").continuity_errors;
    assert_eq!((errors.source, errors.network, errors.unknown), (0, 1, 0));
}

#[test]
fn a_source_fault_degrades_the_stream_and_it_recovers() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in 0..300u16 {
        let mut packet = rtp(n, 7);
        if n == 50 {
            // The third TS packet becomes a null packet: its counter is missing from the PID.
            packet[12 + 2 * 188 + 1] = 0x1f;
            packet[12 + 2 * 188 + 2] = 0xff;
        }
        bench.send(u64::from(n), &packet);
    }
    let stream = bench.engine.streams().remove(0);
    assert_eq!(stream.state, StreamState::Degraded);
    assert_eq!(stream.ts.expect("in the clear").continuity_errors.source, 1);
    for n in 300..450u16 {
        let ms = 300 + u64::from(n - 300) * 100;
        bench.send(ms, &rtp(n, 7));
        bench.engine.tick(at_ms(ms), 16);
    }
    let stream = bench.only_stream();
    assert_eq!(
        (stream.state, stream.worst_state),
        (StreamState::Healthy, StreamState::Degraded)
    );
}

#[test]
fn a_block_holds_and_ends_in_probation() {
    let block =
        "[rule.ts]\ncontinuity = { max_incidents = 0, window = \"1s\", on_exceed = \"block\", hold = \"2s\" }\n";
    let mut bench = Bench::new(rtp_policy(block));
    for n in 0..20u16 {
        bench.send(u64::from(n), &rtp(n, 7));
    }
    let mut bad = rtp(20, 7);
    bad[12 + 3] = 0x10 | 0x0e;
    bench.send(20, &bad);
    // A block waits until it is known that nobody was injecting packets around the fault.
    let verdicts: Vec<Verdict> = (21..400u16).map(|n| bench.send(n.into(), &rtp(n, 7))).collect();
    let first = verdicts
        .iter()
        .position(|v| *v == Verdict::Drop(DropReason::StreamBlocked))
        .expect("it is blocked");
    assert!((50..=200).contains(&first), "blocked after {first} ms");
    assert!(
        verdicts[first..]
            .iter()
            .all(|v| *v == Verdict::Drop(DropReason::StreamBlocked))
    );
    bench.engine.tick(at_ms(2600), 16);
    for n in 400..500u16 {
        assert_eq!(bench.send(2600 + u64::from(n - 400), &rtp(n, 7)), Verdict::Return);
    }
    let stream = bench.only_stream();
    assert_eq!(
        (stream.state, stream.worst_state),
        (StreamState::Degraded, StreamState::Blocked)
    );
}

#[test]
fn a_second_ssrc_is_a_conflict_until_the_first_fell_silent() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in 0..10u16 {
        bench.send(u64::from(n), &rtp(n, 7));
    }
    assert_eq!(bench.send(11, &rtp(900, 8)), Verdict::Return);
    assert_eq!(bench.engine.streams()[0].findings.get("ssrc-conflict"), Some(&1));
    for n in 0..10u16 {
        bench.send(2000 + u64::from(n), &rtp(500 + n, 8));
    }
    let stream = bench.only_stream();
    assert_eq!((stream.identity.ssrc, stream.transport.resets), (Some(8), 1));
    assert_eq!(stream.ts.expect("in the clear").continuity_errors.source, 0);
}

#[test]
fn without_a_policy_protocols_show_themselves() {
    let mut bench = Bench::new(Policy::observe_all());
    let from = |port| SocketAddr::from(([10, 1, 1, 1], port));
    for n in 0..5u8 {
        bench.offer(u64::from(n), wrapped(from(1), receiver(), &ts_packet(17, n, n)));
        bench.offer(u64::from(n), wrapped(from(2), receiver(), &rtp(n.into(), 3)));
        bench.offer(u64::from(n), wrapped(from(3), receiver(), b"what is this"));
    }
    bench.engine.finish();
    assert_eq!(bench.engine.counters().streams, 3);
    let mut seen: Vec<_> = bench
        .engine
        .streams()
        .iter()
        .map(|s| (s.identity.protocol.name(), s.packets))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [("other", 5), ("rtp", 5), ("ts-udp", 5)]);
}

#[test]
fn a_new_policy_generation_decides_flows_anew() {
    let mut bench = Bench::new(rtp_policy(""));
    assert_eq!(bench.send(0, &rtp(0, 7)), Verdict::Return);
    let stricter = policy("[[rule]]\nname = \"other\"\nprotocol = \"rtp\"\nsource = [\"10.5.0.0/24\"]\n");
    let mut frame = wrapped(sender(), receiver(), &rtp(1, 7));
    let published = Published {
        policy: &stricter,
        generation: 2,
    };
    assert_eq!(
        bench.engine.process(at_ms(1), &published, &mut frame),
        Verdict::Drop(DropReason::SourceNotListed)
    );
}

#[test]
fn later_fragments_follow_the_first_and_orphans_take_the_default_action() {
    let fragment = |offset_and_flags: u16, id: u16, payload: &[u8]| {
        let mut inner = ipv4([10, 0, 0, 1], [10, 0, 9, 9], 17, payload);
        inner[4..6].copy_from_slice(&id.to_be_bytes());
        inner[6..8].copy_from_slice(&offset_and_flags.to_be_bytes());
        inner[10..12].fill(0);
        let checksum = ones_complement(&inner[..20]);
        inner[10..12].copy_from_slice(&checksum.to_be_bytes());
        wrap(&inner)
    };
    let mut bench = Bench::new(rtp_policy(""));
    let mut first = udp(40_000, 5000, &rtp(1, 7)[..64]);
    first[4..6].copy_from_slice(&200u16.to_be_bytes());
    assert_eq!(bench.offer(0, fragment(0x2000, 5, &first)), Verdict::Return);
    assert_eq!(bench.offer(1, fragment(9, 5, &[0; 64])), Verdict::Return);
    assert_eq!(
        bench.offer(2, fragment(9, 6, &[0; 64])),
        Verdict::Drop(DropReason::FragmentWithoutFirst)
    );
}

/// SRT data to a socket id that nobody negotiated.
fn srt_data(sequence: u32, socket_id: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    for word in [sequence, 0xe000_0001, 7, socket_id] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(&ts_packet(256, sequence as u8, 1));
    packet
}

#[test]
fn forged_socket_ids_neither_push_out_a_live_srt_stream_nor_keep_a_new_one_out() {
    let mut bench = Bench::new(policy(
        "[[rule]]\nname = \"srt\"\nprotocol = \"srt\"\nsource = [\"10.0.0.0/24\"]\ndestination = [\"10.0.9.9\"]\ndestination_port = [5000]\n",
    ));
    for n in 0..500u32 {
        assert_eq!(bench.send(n.into(), &srt_data(n, 1)), Verdict::Return);
        bench.send(n.into(), &srt_data(9, 1000 + n));
    }
    for n in 0..10u32 {
        bench.send(500 + u64::from(n), &srt_data(n, 2));
    }
    bench.engine.finish();
    let of = |packets: u64| {
        bench
            .engine
            .streams()
            .iter()
            .filter(|stream| stream.packets == packets)
            .count()
    };
    assert_eq!((of(500), of(10)), (1, 1));
    assert!(bench.engine.counters().streams <= 16);
}

#[test]
fn what_would_not_pass_whole_does_not_pass_in_parts() {
    let first_part = |payload: &[u8]| {
        let mut datagram = udp(40_000, 5000, payload);
        datagram[4..6].copy_from_slice(&1000u16.to_be_bytes());
        let mut inner = ipv4([10, 0, 0, 1], [10, 0, 9, 9], 17, &datagram);
        inner[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
        inner[10..12].fill(0);
        let checksum = ones_complement(&inner[..20]);
        inner[10..12].copy_from_slice(&checksum.to_be_bytes());
        wrap(&inner)
    };
    let mut bench = Bench::new(rtp_policy(""));
    assert_eq!(
        bench.offer(0, first_part(b"not RTP at all, but 32 bytes long")),
        Verdict::Drop(DropReason::NotRtp)
    );
    let mut bench = Bench::new(policy(
        "[[rule]]\nname = \"srt\"\nprotocol = \"srt\"\nsource = [\"10.0.0.0/24\"]\ndestination = [\"10.0.9.9\"]\ndestination_port = [5000]\nsrt = { stream_id = [\"live/*\"] }\n",
    ));
    let mut handshake = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for word in [5, 4, 0, 1500, 8192, 0xffff_ffff, 77, 1, 0, 0, 0, 0u32] {
        handshake.extend_from_slice(&word.to_be_bytes());
    }
    assert_eq!(
        bench.offer(1, first_part(&handshake)),
        Verdict::Drop(DropReason::SrtStreamId)
    );
}

#[test]
fn a_full_table_still_asks_what_one_packet_can_tell() {
    let config = Config {
        max_flows: 1,
        analyse: false,
        ..Config::default()
    };
    let mut bench = Bench {
        engine: Engine::new(config),
        policy: rtp_policy(""),
    };
    for n in 0..10u16 {
        bench.send(u64::from(n), &rtp(n, 7));
    }
    let other = SocketAddr::from(([10, 0, 0, 2], 40_000));
    assert_eq!(bench.offer(10, wrapped(other, receiver(), &rtp(0, 9))), Verdict::Return);
    assert_eq!(
        bench.offer(10, wrapped(other, receiver(), b"no rtp at all")),
        Verdict::Drop(DropReason::NotRtp)
    );
    assert_eq!(
        (bench.engine.counters().flows_refused, bench.engine.counters().streams),
        (2, 1)
    );
}

#[test]
fn the_appliances_own_blindness_is_not_charged_to_the_network() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in 0..200u16 {
        bench.send(n.into(), &rtp(n, 7));
    }
    bench.engine.blind();
    for n in 600..900u16 {
        bench.send(n.into(), &rtp(n, 7));
    }
    let stream = bench.only_stream();
    assert_eq!((stream.transport.lost, stream.transport.resets), (0, 1));
    assert_eq!(stream.worst_state, StreamState::Healthy);
}

#[test]
fn who_was_blind_and_missed_nothing_goes_on() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in 0..900u16 {
        if n % 3 == 0 {
            bench.engine.blind();
        }
        // What is missing in the end went by while nobody saw it.
        if !(700..750).contains(&n) {
            bench.send(n.into(), &rtp(n, 7));
        }
    }
    let stream = bench.only_stream();
    assert_eq!((stream.transport.lost, stream.transport.resets), (0, 1));
    assert_eq!(stream.worst_state, StreamState::Healthy);
}

#[test]
fn one_forged_packet_after_a_silence_takes_nothing_over() {
    let mut bench = Bench::new(rtp_policy(""));
    for n in 0..100u16 {
        bench.send(n.into(), &rtp(n, 7));
    }
    bench.send(1500, &rtp(900, 666));
    for n in 100..200u16 {
        bench.send(1501 + u64::from(n), &rtp(n, 7));
    }
    bench.engine.finish();
    let streams = bench.engine.streams();
    let genuine = streams
        .iter()
        .find(|stream| stream.identity.ssrc == Some(7))
        .expect("still there");
    assert_eq!((genuine.packets, genuine.transport.lost), (200, 0));
    assert!(genuine.findings.is_empty());
}
