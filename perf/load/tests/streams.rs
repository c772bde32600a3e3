//! The streams of a load are what they should be: the engine finds nothing in them, and finds what is taken out of them.

use std::net::Ipv4Addr;

use tidegate::engine::report::StreamReport;
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate::policy::{self, Policy};
use tidegate_load::{Frames, Lane, Load, Protocol, policy_toml};

/// Housekeeping, as a worker does it, nanoseconds.
const SWEEP: u64 = 5_000_000;

fn lane() -> Lane {
    Lane {
        interface: "unused".to_owned(),
        local_mac: [2, 0, 0, 0, 0, 1],
        peer_mac: [2, 0, 0, 0, 0, 2],
        local_ip: Ipv4Addr::new(10, 254, 0, 1),
        peer_ip: Ipv4Addr::new(10, 254, 0, 2),
        core: 0,
    }
}

fn policy_of(load: &Load) -> Policy {
    policy::parse("load.toml", &policy_toml(load, false)).expect("the load's policy")
}

/// Shows an engine so many seconds of every stream; `leave_out` tells what it does not get to see.
fn inspect(load: &Load, seconds: u64, leave_out: impl Fn(u32, u32) -> bool) -> Vec<StreamReport> {
    let frames = Frames::new(&lane(), load).expect("a load");
    let policy = policy_of(load);
    let published = Published {
        policy: &policy,
        generation: 1,
    };
    let mut engine = Engine::new(Config::default());
    let mut frame = frames.template().to_vec();
    let (mut now, mut swept) = (1_000_000_000_u64, 0);
    let apart = frames.interval() / u64::from(load.streams);
    for round in 0..(seconds * 1_000_000_000 / frames.interval()) as u32 {
        for stream in 0..load.streams {
            now += apart;
            if leave_out(stream, round) {
                continue;
            }
            frames.write(&mut frame, stream, frames.first_number(stream) + round, now);
            let verdict = engine.process(Timestamp::from_nanos(now), &published, &mut frame);
            assert_eq!(verdict, Verdict::Return, "stream {stream}, datagram {round}");
            if now >= swept {
                swept = now + SWEEP;
                engine.tick(Timestamp::from_nanos(now), 256);
                while engine.next_event().is_some() {}
            }
        }
    }
    engine.finish();
    engine.streams()
}

fn assert_sound(report: &StreamReport, what: &str) {
    assert!(report.tr101290.values().all(|count| *count == 0), "{what}: {:?}", report.tr101290);
    assert!(report.findings.values().all(|count| *count == 0), "{what}: {:?}", report.findings);
    let ts = report.ts.as_ref().expect("a transport stream");
    let errors = &ts.continuity_errors;
    assert_eq!((errors.source, errors.network, errors.unknown), (0, 0, 0), "{what}");
    let transport = &report.transport;
    assert_eq!(
        (transport.lost, transport.reordered, transport.duplicated, transport.resets),
        (0, 0, 0, 0),
        "{what}"
    );
}

#[test]
fn the_engine_finds_nothing_in_streams_of_either_protocol_any_size_and_rate() {
    for protocol in [Protocol::RtpTs, Protocol::SrtTs] {
        for (ts_packets, rate) in [(1, 3000.0), (2, 1000.0), (3, 700.0), (7, 75.0), (7, 300.0), (7, 1928.6), (7, 6000.0)] {
            let load = Load {
                protocol,
                ts_packets,
                streams: 3,
                stream_rate: Some(rate),
                ..Load::default()
            };
            let what = format!("{protocol:?}, {ts_packets} TS packets, {rate} a second");
            let reports = inspect(&load, 6, |_, _| false);
            assert_eq!(reports.len(), 3, "{what}");
            for report in &reports {
                assert_sound(report, &what);
                assert!(report.packets >= (rate * 5.9) as u64, "{what}: {}", report.packets);
                let pids: Vec<u16> = report.ts.iter().flat_map(|ts| ts.pids.iter().map(|pid| pid.pid)).collect();
                assert!([0, 0x20, 0x100, 0x101].iter().all(|pid| pids.contains(pid)), "{what}: {pids:?}");
            }
        }
    }
}

#[test]
fn a_datagram_left_out_is_found_and_only_where_it_was() {
    let load = Load {
        streams: 3,
        ..Load::default()
    };
    let reports = inspect(&load, 2, |stream, round| stream == 1 && round == 1000);
    let lost: Vec<u64> = reports.iter().map(|report| report.transport.lost).collect();
    assert_eq!(lost.iter().sum::<u64>(), 1, "{lost:?}");
    let network = |report: &StreamReport| report.ts.as_ref().map_or(0, |ts| ts.continuity_errors.network);
    assert!(reports.iter().any(|report| report.transport.lost == 1 && network(report) > 0));
}

#[test]
fn unlisted_sources_are_not_listed_and_listed_ones_are() {
    let load = Load {
        streams: 50,
        ..Load::default()
    };
    let policy = policy_of(&load);
    let published = Published {
        policy: &policy,
        generation: 1,
    };
    let frames = Frames::new(&lane(), &load).expect("a load");
    let mut engine = Engine::new(Config::default());
    let mut frame = frames.template().to_vec();
    for number in 0..5000 {
        frames.write_unlisted(&mut frame, number, 0);
        let verdict = engine.process(Timestamp::from_nanos(1_000_000_000), &published, &mut frame);
        assert_ne!(verdict, Verdict::Return, "unlisted {number}");
        frames.write(&mut frame, number % 50, number / 50, 0);
        let verdict = engine.process(Timestamp::from_nanos(1_000_000_000), &published, &mut frame);
        assert_eq!(verdict, Verdict::Return, "listed {number}");
    }
}
