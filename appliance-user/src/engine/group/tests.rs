//! Groups from outside: packets into one engine, or into several that exchange their messages.

use std::net::{IpAddr, SocketAddr};

use crate::engine::event::StreamChange;
use crate::engine::group::{GroupBody, GroupKey, MESSAGE_CAPACITY, Post};
use crate::engine::report::{RtpReport, StreamProtocol, StreamReport, StreamState};
use crate::engine::time::Timestamp;
use crate::engine::{Config, Engine, Published};
use crate::policy::{self, Policy};

pub(crate) const SSRC: u32 = 7;

/// A bare IPv4 UDP packet without checksums.
pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) else {
        panic!("IPv4 here")
    };
    let mut packet = vec![0x45, 0];
    packet.extend(((28 + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 61, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let mut sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    for field in [source.port(), destination.port(), (8 + payload.len()) as u16, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

pub(crate) fn media(sequence: u16, ssrc: u32) -> Vec<u8> {
    stamped(sequence, u32::from(sequence) * 90, ssrc)
}

fn stamped(sequence: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 33];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    let mut ts = [0x5a; 188];
    ts[..4].copy_from_slice(&[0x47, 1, 0, 0x10 | sequence as u8 & 0x0f]);
    ts[4..6].copy_from_slice(&sequence.to_be_bytes());
    packet.extend(ts);
    packet
}

pub(crate) fn fec(sequence: u16, base: u16, row: bool, offset: u8, count: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(base.to_be_bytes());
    packet.extend([
        0,
        0,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        if row { 0x40 } else { 0 },
        offset,
        count,
        0,
    ]);
    packet.extend([0; 188]);
    packet
}

fn rtcp(count: u8, kind: u8, words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x80 | count, kind];
    bytes.extend((words.len() as u16).to_be_bytes());
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes
}

fn sender_report(ssrc: u32, packets: u32) -> Vec<u8> {
    rtcp(0, 200, &[ssrc, 0x1111_2222, 0x3333_4444, 0, packets, packets * 188])
}

fn bye(ssrc: u32) -> Vec<u8> {
    let mut bytes = rtcp(0, 201, &[ssrc]);
    bytes.extend(rtcp(1, 203, &[ssrc]));
    bytes
}

pub(crate) fn at_ms(ms: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000)
}

pub(crate) fn sender(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

pub(crate) fn receiver(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 9, 9], port))
}

pub(crate) fn policy(protocol: &str, extra: &str) -> Policy {
    let text = format!(
        "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"r\"\nprotocol = \"{protocol}\"\n\
         source = [\"10.0.0.0/16\"]\ndestination = [\"10.0.9.0/24\"]\ndestination_port = [5000]\n{extra}"
    );
    policy::parse("test.toml", &text).expect("a valid policy")
}

/// Workers that exchange messages as their drivers would.
struct Fleet {
    engines: Vec<Engine>,
    policy: Policy,
    messages: usize,
}

impl Fleet {
    fn new(workers: usize, policy: Policy) -> Fleet {
        let engine = |worker| {
            Engine::new(Config {
                worker,
                workers,
                group_seed: 11,
                seed: worker as u64,
                keep_gone: true,
                analyse: false,
                ..Config::default()
            })
        };
        Fleet {
            engines: (0..workers).map(engine).collect(),
            policy,
            messages: 0,
        }
    }

    /// A packet reaches a worker.
    fn send(&mut self, worker: usize, ms: u64, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        let published = Published {
            policy: &self.policy,
            generation: 1,
        };
        let workers = self.engines.len();
        let engine = &mut self.engines[worker % workers];
        engine.process_bare(at_ms(ms), &published, &udp(source, destination, payload));
        self.exchange(ms);
    }

    fn media(&mut self, worker: usize, ms: u64, sequence: u16) {
        self.send(worker, ms, sender(4000), receiver(5000), &media(sequence, SSRC));
    }

    fn exchange(&mut self, ms: u64) {
        loop {
            let next = self.engines.iter_mut().find_map(Engine::next_message);
            let Some(message) = next else { return };
            self.messages += 1;
            self.engines[message.to].take_message(at_ms(ms), &message);
        }
    }

    fn tick(&mut self, ms: u64) {
        for engine in &mut self.engines {
            engine.tick(at_ms(ms), 64);
        }
        self.exchange(ms);
    }

    /// Time passes in steps until everything has settled.
    fn settle(&mut self, from: u64) {
        for step in 1..40 {
            self.tick(from + step * 25);
        }
    }

    fn streams(&mut self) -> Vec<StreamReport> {
        self.engines.iter().flat_map(Engine::streams).collect()
    }

    fn stream(&mut self, protocol: StreamProtocol) -> (StreamReport, RtpReport) {
        let streams = self.streams();
        let mut found = streams.into_iter().filter(|s| s.identity.protocol == protocol);
        let stream = found.next().expect("a stream");
        assert!(found.next().is_none(), "only one {protocol:?}");
        let rtp = stream.rtp.clone().expect("figures of RTP");
        (stream, rtp)
    }

    fn events(&mut self) -> Vec<StreamChange> {
        let fetch = |engine: &mut Engine| core::iter::from_fn(|| engine.next_event()).collect::<Vec<_>>();
        self.engines
            .iter_mut()
            .flat_map(fetch)
            .map(|event| event.change)
            .collect()
    }
}

/// Media of four matrices of 5 by 4 with FEC on P+2 and P+4, each on a worker of its own, with numbers left out.
fn protected_stream(fleet: &mut Fleet, protected: bool, missing: &[u16]) {
    let mut fec_number = 0;
    for n in 0..80u16 {
        let ms = u64::from(n) * 5;
        if !missing.contains(&n) {
            fleet.media(0, ms, n);
        }
        if protected && n % 5 == 4 {
            fleet.send(2, ms, sender(4004), receiver(5004), &fec(n / 5, n - 4, true, 1, 5));
        }
        if protected && n % 20 == 19 {
            for column in 0..5 {
                fec_number += 1;
                let packet = fec(fec_number, n - 19 + column, false, 5, 4);
                fleet.send(1, ms, sender(4002), receiver(5002), &packet);
            }
        }
        fleet.tick(ms);
    }
    fleet.settle(400);
}

/// A row's single, a pair that columns solve, and a square that nothing does.
pub(crate) const MISSING: [u16; 7] = [3, 21, 22, 46, 47, 51, 52];

#[test]
fn fec_that_meets_its_media_at_home_tells_what_it_could_rebuild() {
    for workers in [1, 2, 3, 4] {
        let mut fleet = Fleet::new(workers, policy("rtp-fec", ""));
        protected_stream(&mut fleet, true, &MISSING);
        let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
        assert_eq!(
            (stream.transport.lost, stream.transport.recoverable),
            (7, Some(3)),
            "{workers} workers"
        );
        assert!(!rtp.partial);
        let fec: Vec<_> = fleet
            .streams()
            .into_iter()
            .filter(|s| s.identity.protocol == StreamProtocol::RtpFec)
            .map(|s| (s.rtp.as_ref().unwrap().fec.unwrap(), s.rtp.unwrap().partial))
            .collect();
        let total = |f: fn(&super::super::report::FecReport) -> u64| fec.iter().map(|(fec, _)| f(fec)).sum::<u64>();
        assert_eq!(
            (total(|f| f.columns), total(|f| f.rows), total(|f| f.malformed)),
            (20, 16, 0)
        );
        assert!(fec.iter().all(|(fec, partial)| fec.width == 5 && !partial));
        let (shed, refused) = fleet.engines[0].group_losses();
        assert_eq!((shed, refused), (0, 0));
        assert!(fleet.engines.iter().map(Engine::groups_memory).sum::<usize>() < 64 * 1024);
    }
}

#[test]
fn what_is_not_here_is_partial_and_nothing_is_guessed() {
    let mut fleet = Fleet::new(1, policy("rtp-fec", ""));
    protected_stream(&mut fleet, false, &MISSING);
    let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
    assert_eq!((stream.transport.lost, stream.transport.recoverable), (7, Some(0)));
    assert!(rtp.partial, "FEC without which the rule cannot be");
    let mut alone = Fleet::new(1, policy("rtp-fec", ""));
    for n in 0..10 {
        alone.send(
            0,
            n,
            sender(4004),
            receiver(5004),
            &fec(n as u16, n as u16 * 5, true, 1, 5),
        );
    }
    let (stream, rtp) = alone.stream(StreamProtocol::RtpFec);
    assert!(
        rtp.partial && stream.transport.recoverable.is_none(),
        "FEC without media"
    );
    let mut plain = Fleet::new(1, policy("rtp", ""));
    protected_stream(&mut plain, false, &MISSING);
    let (stream, rtp) = plain.stream(StreamProtocol::Rtp);
    assert!(!rtp.partial && stream.transport.recoverable.is_none());
}

#[test]
fn fec_shows_itself_without_a_policy() {
    let mut fleet = Fleet::new(1, Policy::observe_all());
    protected_stream(&mut fleet, true, &MISSING);
    let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
    // The first row came before anybody knew of FEC.
    assert_eq!((stream.transport.lost, stream.transport.recoverable), (7, Some(2)));
    assert!(rtp.partial, "the first loss could have been rebuilt");
    let streams = fleet.streams();
    let fec = |s: &StreamReport| s.rtp.as_ref().and_then(|rtp| rtp.fec);
    let counts: Vec<_> = streams
        .iter()
        .filter_map(fec)
        .map(|fec| (fec.columns, fec.rows))
        .collect();
    assert_eq!(counts, [(0, 16), (20, 0)], "the first packets are counted");
}

#[test]
fn fec_that_shows_itself_before_the_first_loss_is_not_partial() {
    let mut fleet = Fleet::new(1, Policy::observe_all());
    protected_stream(&mut fleet, true, &[43]);
    let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
    assert_eq!((stream.transport.lost, stream.transport.recoverable), (1, Some(1)));
    assert!(!rtp.partial);
}

#[test]
fn a_late_packet_is_lost_and_there_is_nothing_left_to_rebuild() {
    let mut fleet = Fleet::new(1, policy("rtp-fec", ""));
    for n in 0..40u16 {
        let ms = u64::from(n) * 10;
        if n != 12 {
            fleet.media(0, ms, n);
        }
        if n == 30 {
            fleet.media(0, ms, 12);
            fleet.send(0, ms, sender(4004), receiver(5004), &fec(0, 10, true, 1, 5));
        }
    }
    fleet.settle(400);
    let (stream, _) = fleet.stream(StreamProtocol::Rtp);
    let transport = stream.transport;
    assert_eq!((transport.lost, transport.late, transport.recoverable), (1, 1, Some(0)));
}

#[test]
fn rtcp_finds_its_stream_on_another_worker() {
    for workers in [1, 3] {
        let mut fleet = Fleet::new(workers, policy("rtp", ""));
        for n in 0..4000u16 {
            if n % 100 != 99 {
                fleet.media(0, n.into(), n);
            }
            if n % 1000 == 500 {
                // A sender's and, 30 ms later, a receiver's report that waited 20 ms.
                let mut report = sender_report(SSRC, u32::from(n) + 1);
                report.extend(rtcp(1, 202, &[SSRC, u32::from_be_bytes(*b"\x01\x03a@"), 0x6200_0000]));
                fleet.send(1, n.into(), sender(4001), receiver(5001), &report);
            }
            if n % 1000 == 530 {
                let delay = 65_536 / 50;
                let words = [99, SSRC, 0x4000_0005, 9, 77, 0x2222_3333, delay];
                fleet.send(2, n.into(), receiver(5001), sender(4001), &rtcp(1, 201, &words));
            }
        }
        fleet.settle(4000);
        let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
        let told = rtp.rtcp.expect("RTCP");
        assert_eq!(stream.transport.lost, 39, "the last one is not known to be missing");
        assert_eq!(
            (told.sender_reports, told.sent_packets, told.missing),
            (4, 3000, Some(30)),
            "{workers} workers"
        );
        assert_eq!(told.sent_octets, 3000 * 188);
        assert_eq!(
            (told.receiver_reports, told.cumulative_lost, told.receiver_jitter),
            (4, Some(5), Some(77))
        );
        assert_eq!(told.fraction_lost_percent, Some(25.0));
        let round_trip = told.round_trip_ms.expect("a round trip");
        assert!((round_trip - 10.0).abs() < 0.1, "{round_trip}");
        assert_eq!(rtp.jitter_ms, Some(0.0));
        assert_eq!(rtp.payload_types, [33]);
        assert!(workers == 1 || fleet.messages < 200, "{} messages", fleet.messages);
    }
}

/// Media of 1 s without a loss, and when sender reports go by, before which media packet each.
fn reported(workers: usize, rules: Policy, reports: &[u16]) -> Fleet {
    let mut fleet = Fleet::new(workers, rules);
    for n in 0..1000u16 {
        let ms = 10 + u64::from(n);
        if reports.contains(&n) {
            fleet.send(1, ms - 1, sender(4001), receiver(5001), &sender_report(SSRC, n.into()));
        }
        fleet.media(0, ms, n);
    }
    fleet
}

#[test]
fn nothing_is_missing_on_a_sound_stream_wherever_the_reports_are() {
    for workers in [1, 3] {
        for reports in [[0, 400, 900], [1, 2, 3], [100, 500, 999]] {
            for rules in [policy("rtp", ""), Policy::observe_all()] {
                let mut fleet = reported(workers, rules, &reports);
                let sent = u64::from(reports[2] - reports[0]);
                let (_, rtp) = fleet.stream(StreamProtocol::Rtp);
                let told = rtp.rtcp.expect("RTCP");
                assert_eq!(
                    (told.sender_reports, told.sent_packets, told.missing),
                    (3, sent, Some(0)),
                    "{workers} workers, {reports:?}"
                );
                let (_, rtcp) = fleet.stream(StreamProtocol::Rtcp);
                let own = rtcp.rtcp.expect("RTCP");
                assert_eq!(
                    (own.sent_packets, own.compared_packets, own.missing),
                    (sent, 0, None),
                    "media does not come on the port of RTCP"
                );
            }
        }
    }
}

#[test]
fn rtcp_on_the_medias_port_is_the_streams_too() {
    let mut fleet = Fleet::new(1, policy("rtp", ""));
    for n in 0..100u16 {
        fleet.media(0, n.into(), n);
    }
    fleet.send(0, 100, sender(4000), receiver(5000), &sender_report(SSRC, 100));
    let (_, rtp) = fleet.stream(StreamProtocol::Rtp);
    assert_eq!(rtp.rtcp.expect("RTCP").sender_reports, 1);
}

#[test]
fn retransmission_requests_and_echoes_of_rist_are_counted() {
    const RIST: u32 = u32::from_be_bytes(*b"RIST");
    let mut fleet = Fleet::new(1, policy("rist", ""));
    for n in 0..50u16 {
        fleet.send(0, n.into(), sender(4000), receiver(5000), &media(n, 6));
    }
    let back = |words: &[u32], count, kind| [rtcp(0, 201, &[9]), rtcp(count, kind, words)].concat();
    let nack = back(&[9, 6, 0x000a_0003], 1, 205);
    fleet.send(0, 60, receiver(5001), sender(4001), &nack);
    let range = back(&[7, RIST, 0x0014_0004], 0, 204);
    fleet.send(0, 61, receiver(5001), sender(4001), &range);
    fleet.send(0, 70, receiver(5001), sender(4001), &back(&[6, RIST, 1, 2, 0], 2, 204));
    fleet.send(
        0,
        85,
        sender(4001),
        receiver(5001),
        &back(&[6, RIST, 1, 2, 5000], 3, 204),
    );
    let (_, rtp) = fleet.stream(StreamProtocol::Rist);
    let told = rtp.rtcp.expect("RTCP");
    assert_eq!((told.nacks, told.nacked_packets), (2, 8));
    assert_eq!(told.round_trip_ms, Some(10.0));
}

/// RIST without a rule: every tenth packet is lost, asked for at once and comes again after 200 ms, but for two.
#[test]
fn the_first_request_shows_that_there_is_longer_to_wait() {
    const NEVER: [u16; 2] = [120, 340];
    for workers in [1, 3] {
        for (asks, expected) in [(true, [2, 0]), (false, [2 + 14, 14])] {
            let mut fleet = Fleet::new(workers, Policy::observe_all());
            for ms in 0..1000u16 {
                let lost = |n: u16| n.is_multiple_of(10) && n > 50;
                let at = u64::from(ms);
                if ms < 500 && !lost(ms) {
                    fleet.send(0, at, sender(4000), receiver(5000), &media(ms, 6));
                }
                let asked = ms.saturating_sub(30);
                if ms % 200 == 5 {
                    let report = sender_report(6, u32::from(ms.min(500)));
                    fleet.send(1, at, sender(4001), receiver(5001), &report);
                }
                if asks && asked < 500 && lost(asked) {
                    let request = [rtcp(0, 201, &[9]), rtcp(1, 205, &[9, 6, u32::from(asked) << 16])].concat();
                    fleet.send(1, at, receiver(5001), sender(4001), &request);
                }
                let again = ms.saturating_sub(200);
                if again < 500 && lost(again) && !NEVER.contains(&again) {
                    fleet.send(0, at, sender(4000), receiver(5000), &media(again, 7));
                }
                fleet.tick(at);
            }
            for step in 0..40 {
                fleet.tick(1000 + step * 100);
            }
            let (stream, rtp) = fleet.stream(StreamProtocol::Rist);
            let told = rtp.rtcp.expect("RTCP");
            assert_eq!(
                (told.sender_reports, told.missing),
                (5, None),
                "what was repeated is not missing"
            );
            let transport = stream.transport;
            assert_eq!([transport.lost, transport.late], expected, "asks: {asks}");
        }
    }
}

#[test]
fn a_bye_lets_a_newcomer_in_early() {
    for says_bye in [true, false] {
        let mut fleet = Fleet::new(1, policy("rtp", ""));
        for n in 0..100u16 {
            fleet.media(0, n.into(), n);
        }
        if says_bye {
            fleet.send(0, 100, sender(4001), receiver(5001), &bye(SSRC));
        }
        for n in 0..200u16 {
            fleet.send(0, 110 + u64::from(n), sender(4000), receiver(5000), &media(700 + n, 8));
        }
        let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
        let conflicts = stream.findings.get("ssrc-conflict").copied().unwrap_or(0);
        let told = fleet.events().iter().any(|event| matches!(event, StreamChange::Bye));
        if says_bye {
            assert_eq!(
                (stream.identity.ssrc, stream.transport.resets, conflicts),
                (Some(8), 1, 0)
            );
            assert_eq!(rtp.rtcp.expect("RTCP").byes, 1);
        } else {
            assert_eq!((stream.identity.ssrc, conflicts), (Some(SSRC), 200));
        }
        assert_eq!(told, says_bye);
    }
}

#[test]
fn a_forged_bye_breaks_nothing_and_is_found() {
    let mut fleet = Fleet::new(1, policy("rtp", ""));
    for n in 0..1000u16 {
        fleet.media(0, n.into(), n);
        if n == 500 {
            fleet.send(0, n.into(), sender(4001), receiver(5001), &bye(SSRC));
        }
        // The forger's own stream, at once and for as long as it likes.
        if n >= 500 {
            fleet.send(
                0,
                n.into(),
                sender(4000),
                receiver(5000),
                &media(n.wrapping_mul(3), 666),
            );
        }
    }
    let (stream, _) = fleet.stream(StreamProtocol::Rtp);
    assert_eq!((stream.identity.ssrc, stream.packets), (Some(SSRC), 1000));
    assert_eq!((stream.transport.lost, stream.transport.resets), (0, 0));
    assert_eq!(stream.findings.get("bye-with-media"), Some(&1));
    assert!(stream.findings.get("ssrc-conflict").is_some_and(|n| *n > 400));
    assert_eq!(stream.worst_state, StreamState::Healthy);
}

#[test]
fn a_jump_of_the_time_stamps_is_a_finding() {
    let mut fleet = Fleet::new(1, policy("rtp", ""));
    for n in 0..200u16 {
        let timestamp = u32::from(n) * 90 + if n < 100 { 0 } else { 1 << 30 };
        fleet.send(0, n.into(), sender(4000), receiver(5000), &stamped(n, timestamp, SSRC));
    }
    let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
    assert_eq!(stream.findings.get("rtp-timestamp-jump"), Some(&1));
    assert_eq!((rtp.timestamp_jumps, rtp.signalled_timestamp_jumps), (1, 0));
}

pub(crate) fn pair_policy(extra: &str) -> Policy {
    let path =
        |source: &str| format!("{{ source = \"{source}\", destination = \"10.0.9.9\", destination_port = 5000 }}");
    let paths = [path("10.0.1.0/24"), path("10.0.2.0/24")].join(", ");
    policy("rtp", &format!("[rule.rtp]\npaths = [{paths}]\n{extra}"))
}

/// Both paths of a pair, the second `skew` ms later, with numbers left out.
fn pair(fleet: &mut Fleet, skew: u64, missing: [&[u16]; 2], second: bool) {
    let source = |path: u8| SocketAddr::from(([10, 0, path, 1], 4000));
    for ms in 0..1600u64 {
        if ms < 1000 && !missing[0].contains(&(ms as u16)) {
            fleet.send(0, ms, source(1), receiver(5000), &media(ms as u16, SSRC));
        }
        if let Some(n) = ms.checked_sub(skew).filter(|n| *n < 1000 && second)
            && !missing[1].contains(&(n as u16))
        {
            fleet.send(1, ms, source(2), receiver(5000), &media(n as u16, SSRC));
        }
        if ms % 20 == 0 {
            fleet.tick(ms);
        }
    }
    fleet.settle(1600);
}

#[test]
fn what_one_path_lost_and_the_other_brought_is_no_loss() {
    for workers in [1, 2, 3] {
        for skew in [0, 30, 300] {
            let limit = "[rule.ts]\nnetwork_loss = { max_packets = 2, window = \"1s\", on_exceed = \"alert\" }\n";
            let mut fleet = Fleet::new(workers, pair_policy(limit));
            pair(
                &mut fleet,
                skew,
                [&[10, 200, 201, 500], &[11, 201, 500, 700, 701]],
                true,
            );
            let reports = fleet.streams();
            assert_eq!(reports.len(), 2);
            for stream in reports {
                let rtp = stream.rtp.expect("figures");
                let merged = rtp.seamless.expect("a pair");
                assert_eq!(
                    (merged.lost, merged.path_lost),
                    (2, [4, 5]),
                    "{workers} workers, skew {skew}"
                );
                assert!(
                    (merged.skew_ms.expect("a skew") - skew as f64).abs() < 1.0,
                    "{:?}",
                    merged.skew_ms
                );
                assert!(!rtp.partial);
                let own = if stream.identity.source.unwrap().ip() == IpAddr::from([10, 0, 1, 1]) {
                    4
                } else {
                    5
                };
                assert_eq!(stream.transport.lost, own, "the path's own loss stays with it");
                assert_eq!(stream.worst_state, StreamState::Healthy, "two are allowed");
            }
        }
    }
}

#[test]
fn what_neither_path_brought_is_network_loss() {
    let limit = "[rule.ts]\nnetwork_loss = { max_packets = 2, window = \"1s\", on_exceed = \"alert\" }\n";
    let mut fleet = Fleet::new(2, pair_policy(limit));
    pair(&mut fleet, 10, [&[300, 301, 302], &[300, 301, 302]], true);
    for stream in fleet.streams() {
        assert_eq!(stream.worst_state, StreamState::Degraded);
    }
}

#[test]
fn one_path_alone_is_partial() {
    let mut fleet = Fleet::new(1, pair_policy(""));
    pair(&mut fleet, 0, [&[300, 301, 302], &[]], false);
    let (stream, rtp) = fleet.stream(StreamProtocol::Rtp);
    let merged = rtp.seamless.expect("a pair");
    assert_eq!((merged.lost, stream.transport.lost), (0, 3));
    assert!(rtp.partial);
}

#[test]
fn the_post_is_bounded_and_every_worker_names_the_same_home() {
    let key = |port| GroupKey {
        rule: None,
        endpoint: Some(1),
        destination: Some(receiver(port)),
        ssrc: 0,
    };
    let posts: Vec<Post> = (0..4).map(|worker| Post::new(worker, 4, 99)).collect();
    let mut homes = [0; 4];
    for port in 0..1000 {
        let home = posts[0].home(&key(port));
        assert!(posts.iter().all(|post| post.home(&key(port)) == home));
        homes[home] += 1;
    }
    assert!(homes.iter().all(|share| *share > 150), "{homes:?}");
    let mut post = Post::new(0, 2, 99);
    for _ in 0..3 * MESSAGE_CAPACITY {
        let body = GroupBody::Rtcp {
            ssrc: 1,
            note: super::RtcpNote::Bye,
        };
        post.send(1, at_ms(0), key(1), body);
    }
    assert_eq!(post.shed(), 2 * MESSAGE_CAPACITY as u64);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_comes_in_whatever_order_stays_within_its_bounds(
        packets in proptest::collection::vec(
            (0usize..3, 0u8..7, proptest::prelude::any::<u16>(), proptest::prelude::any::<[u8; 3]>(), 0u64..40), 1..300),
        paired in proptest::prelude::any::<bool>(),
    ) {
        let rules = if paired { pair_policy("") } else { policy("rtp-fec", "") };
        let mut fleet = Fleet::new(3, rules);
        let (mut ms, mut sequence) = (0, 60_000u16);
        for (worker, kind, number, [a, b, c], pause) in packets {
            ms += pause;
            let path = SocketAddr::from(([10, 0, 1 + a % 2, 1], 4000));
            match kind {
                0..3 => {
                    sequence = sequence.wrapping_add(1 + u16::from(a & b & 3));
                    fleet.send(0, ms, path, receiver(5000), &media(sequence, SSRC + u32::from(c / 250)));
                }
                3 => fleet.send(0, ms, path, receiver(5000), &stamped(number, u32::from(number) << 16, SSRC)),
                4 => fleet.send(worker, ms, path, receiver(5002), &fec(number, sequence.wrapping_sub(a.into()), c & 1 == 0, b, c)),
                5 => fleet.send(worker, ms, path, receiver(5001), &rtcp(a & 3, 200 + b % 8, &[SSRC, number.into(), 7, 8, 9, 10, 11, 12])),
                _ => fleet.tick(ms),
            }
        }
        fleet.settle(ms);
        for stream in fleet.streams() {
            let transport = stream.transport;
            proptest::prop_assert!(transport.recoverable.is_none_or(|n| n <= transport.lost));
            if let Some(merged) = stream.rtp.and_then(|rtp| rtp.seamless) {
                let [a, b] = merged.path_lost;
                proptest::prop_assert!(merged.lost <= a + b, "{merged:?}");
            }
        }
        proptest::prop_assert!(fleet.engines.iter().all(|engine| engine.groups_memory() < 256 * 1024));
        proptest::prop_assert!(fleet.engines.iter().all(|engine| engine.group_losses() == (0, 0)));
    }
}
