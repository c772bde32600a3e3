//! Proves that traffic really crosses the simulator, and that it catches every way in which an appliance can be wrong.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use common::{Echo, SOON, config, send_numbered, set_ttl, start, topology};
use tidegate_gwlb::wire::Fault;
use tidegate_gwlb::{Config, Direction, ImpairConfig, Report};
use tidegate_lab::Topology;

const SOURCE: &str = "10.10.0.2:4000";
const SINK: &str = "10.20.0.2:5000";

/// `sent` is the sum of what may become of a packet, per flow, per target and in all.
fn assert_balanced(report: &Report) {
    for counts in report.flows.iter().map(|flow| &flow.counts).chain([&report.total]) {
        assert_eq!(
            counts.sent,
            counts.returned_ok + counts.altered + counts.missing + counts.late + counts.in_flight
        );
        let came = counts.received + counts.impaired.duplicated;
        assert_eq!(
            came,
            counts.impaired.dropped + counts.impaired.overflowed + counts.sent + counts.send_failed
        );
        assert_eq!(
            counts.delivered + counts.delivery_failed,
            counts.returned_ok + counts.late
        );
    }
    let sum = |field: fn(&tidegate_gwlb::report::TargetCounters) -> u64| {
        report.targets.iter().map(|target| field(&target.counters)).sum::<u64>()
    };
    assert_eq!(sum(|target| target.sent), report.total.sent);
    assert_eq!(sum(|target| target.returned_ok), report.total.returned_ok);
    assert_eq!(sum(|target| target.missing), report.total.missing);
    assert_eq!(report.unhandled.tun_drops, 0);
    assert!(report.targets.iter().all(|target| target.counters.socket_drops == 0));
}

/// Carries so many bytes over TCP from source to sink and back.
fn tcp_echo(topology: &Topology, sink: &str, bytes: usize) {
    let listener = topology
        .sink
        .run_in(|| TcpListener::bind(sink).expect("bind"))
        .expect("enter");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        let mut received = vec![0; bytes];
        stream.read_exact(&mut received).expect("receive");
        stream.write_all(&received).expect("send back");
    });
    let address = sink.parse().expect("address");
    let mut stream = topology
        .source
        .run_in(|| TcpStream::connect_timeout(&address, SOON))
        .expect("enter")
        .expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    let data: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
    stream.write_all(&data).expect("send");
    let mut back = vec![0; bytes];
    stream.read_exact(&mut back).expect("receive");
    assert!(back == data, "TCP bytes differ");
    server.join().expect("server");
}

#[test]
fn udp_tcp_and_both_families_get_through_and_all_of_it_returns() {
    let topology = topology(1);
    let directory = tempfile::tempdir().expect("tempdir");
    let capture = directory.path().join("sent.pcap");
    let stop = start(
        &topology,
        Config {
            pcap: Some(capture.clone()),
            ..config(&topology)
        },
    );
    let echo = Echo::honest(&topology.appliances[0]);
    assert_eq!(
        send_numbered(&topology, SOURCE, SINK, 300),
        (0..300).collect::<Vec<_>>()
    );
    assert_eq!(
        send_numbered(&topology, "[fd00:10::2]:4000", "[fd00:20::2]:5000", 300),
        (0..300).collect::<Vec<_>>()
    );
    tcp_echo(&topology, "10.20.0.2:6000", 200_000);
    tcp_echo(&topology, "[fd00:20::2]:6000", 200_000);
    let report = stop();
    drop(echo);
    assert_balanced(&report);
    assert!(report.is_final);
    assert_eq!((report.total.returned_ok, report.total.altered), (report.total.sent, 0));
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!(report.rtt_us.count, report.total.sent);
    // A packet needs at least a microsecond, and the echo sleeps 200 at a time; a second would be absurd.
    for times in report.flows.iter().map(|flow| flow.rtt_us).chain([report.rtt_us]) {
        assert!(times.p50 > 1.0 && times.max < 1_000_000.0, "{times:?}");
        assert!(times.p50 <= times.p99 && times.p99 <= times.max * 1.01, "{times:?}");
    }
    assert_eq!(
        report.flows.len(),
        6,
        "two of UDP, and two of TCP in two directions each"
    );
    let udp: Vec<_> = report.flows.iter().filter(|flow| flow.protocol == "udp").collect();
    assert!(
        udp.iter()
            .all(|flow| flow.counts.sent == 300 && flow.direction == Direction::Forward)
    );
    let tcp: Vec<_> = report.flows.iter().filter(|flow| flow.protocol == "tcp").collect();
    assert!(tcp.iter().all(|flow| flow.counts.sent_bytes > 200_000));
    assert_eq!((&tcp[0].cookie, &tcp[0].source), (&tcp[1].cookie, &tcp[1].destination));
    assert_ne!(
        (&tcp[0].endpoint, tcp[0].entropy_port),
        (&tcp[1].endpoint, tcp[1].entropy_port)
    );
    tshark_agrees(&capture, report.total.sent);
}

/// The capture of what was sent, read by an independent dissector: the three options everywhere, no bad checksum.
fn tshark_agrees(capture: &std::path::Path, frames: u64) {
    let count = |filter: &str| {
        let output = Command::new("tshark")
            .args([
                "-o",
                "ip.check_checksum:TRUE",
                "-o",
                "udp.check_checksum:TRUE",
                "-Y",
                filter,
                "-r",
            ])
            .arg(capture)
            .output()
            .expect("tshark is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64
    };
    let whole = "geneve && geneve.version == 0 && udp.dstport == 6081 && len(geneve.options) == 32 \
        && geneve.option.class == 0x0108 && geneve.option.type == 1 && geneve.option.type == 2 && geneve.option.type == 3";
    assert_eq!(count(whole), frames);
    assert_eq!(
        count("ip.checksum.status == Bad || udp.checksum.status == Bad || _ws.malformed"),
        0
    );
}

/// Sends 50 datagrams through an appliance that treats every tenth one wrongly, and returns the report.
fn with_every_tenth(wrong: fn(&mut Vec<u8>) -> usize) -> Report {
    let topology = topology(1);
    let stop = start(
        &topology,
        Config {
            return_timeout: Duration::from_millis(300),
            ..config(&topology)
        },
    );
    let mut number = 0;
    let echo = Echo::start(&topology.appliances[0], move |frame| {
        number += 1;
        if number % 10 == 0 { wrong(frame) } else { 1 }
    });
    let arrived = send_numbered(&topology, SOURCE, SINK, 50);
    assert_eq!(echo.seen.load(Ordering::Relaxed), 50);
    let report = stop();
    assert_balanced(&report);
    assert_eq!(arrived.len() as u64, report.total.delivered);
    report
}

/// Every tenth packet is caught with exactly these faults, and none of them is delivered.
fn assert_caught(wrong: fn(&mut Vec<u8>) -> usize, faults: &[Fault]) {
    let report = with_every_tenth(wrong);
    assert_eq!(report.faults.keys().copied().collect::<Vec<_>>(), faults);
    assert!(report.faults.values().all(|fault| fault.count == 5));
    let example = &report.faults[&faults[0]].example;
    assert!(
        example.sent.is_some() && example.flow.contains("10.10.0.2:4000 -> 10.20.0.2:5000"),
        "{example:?}"
    );
    assert_eq!(
        (report.total.returned_ok, report.total.altered, report.total.missing),
        (45, 5, 0)
    );
}

/// Makes the outer UDP checksum zero, so that a case is about one fault alone.
fn no_checksum(frame: &mut [u8]) {
    frame[40..42].fill(0);
}

#[test]
fn one_altered_inner_byte_is_caught() {
    let wrong = |frame: &mut Vec<u8>| {
        no_checksum(frame);
        frame[14 + 68 + 100] ^= 0x01;
        1
    };
    assert_caught(wrong, &[Fault::InnerChanged]);
    let report = with_every_tenth(wrong);
    assert_eq!(report.faults[&Fault::InnerChanged].example.differs_at, Some(40 + 100));
}

#[test]
fn an_altered_option_is_caught() {
    assert_caught(
        |frame| {
            no_checksum(frame);
            frame[14 + 28 + 39] ^= 0x80;
            1
        },
        &[Fault::GeneveHeaderChanged],
    );
}

#[test]
fn swapped_ports_are_caught() {
    assert_caught(
        |frame| {
            frame[34..38].rotate_left(2);
            1
        },
        &[Fault::UdpPortsSwapped],
    );
}

#[test]
fn a_wrong_ttl_is_caught() {
    assert_caught(
        |frame| {
            set_ttl(frame, 63);
            1
        },
        &[Fault::TtlNot64],
    );
}

#[test]
fn a_bad_header_checksum_is_caught() {
    assert_caught(
        |frame| {
            frame[25] ^= 0x10;
            1
        },
        &[Fault::Ipv4ChecksumInvalid],
    );
}

#[test]
fn a_bad_udp_checksum_is_caught() {
    assert_caught(
        |frame| {
            frame[41] ^= 0x10;
            1
        },
        &[Fault::UdpChecksumInvalid],
    );
}

#[test]
fn addresses_that_were_not_swapped_are_caught() {
    assert_caught(
        |frame| {
            frame[26..34].rotate_left(4);
            1
        },
        &[Fault::OuterAddressesNotSwapped],
    );
}

#[test]
fn a_cut_packet_is_caught() {
    assert_caught(
        |frame| {
            no_checksum(frame);
            frame.truncate(frame.len() - 4);
            1
        },
        &[Fault::LengthsInconsistent, Fault::InnerChanged],
    );
}

#[test]
fn a_dropped_packet_is_missing() {
    let report = with_every_tenth(|_| 0);
    assert_eq!((report.total.returned_ok, report.total.missing), (45, 5));
    assert!(report.faults.is_empty());
}

#[test]
fn a_packet_returned_twice_is_caught_and_delivered_once() {
    let report = with_every_tenth(|_| 2);
    assert_eq!((report.total.returned_ok, report.total.delivered), (50, 50));
    assert_eq!(report.faults[&Fault::NotSent].count, 5);
    assert_eq!(report.targets[0].counters.not_sent, 5);
}

#[test]
fn what_comes_after_its_time_is_late_not_missing() {
    let report = with_every_tenth(|_| {
        thread::sleep(Duration::from_millis(400));
        1
    });
    assert_eq!((report.total.missing, report.total.altered), (0, 0));
    assert!(report.total.late >= 5, "{:?}", report.total);
    assert_eq!(report.total.returned_ok + report.total.late, 50);
}

#[test]
fn without_an_appliance_everything_is_missing_and_nothing_arrives() {
    let topology = topology(1);
    let stop = start(
        &topology,
        Config {
            return_timeout: Duration::from_millis(200),
            ..config(&topology)
        },
    );
    assert!(send_numbered(&topology, SOURCE, SINK, 20).is_empty());
    let begun = Instant::now();
    let report = stop();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_balanced(&report);
    assert_eq!(
        (report.total.sent, report.total.missing, report.total.in_flight),
        (20, 20, 0)
    );
}

#[test]
fn impairment_is_counted_as_the_receiver_sees_it() {
    let topology = topology(1);
    let impair = ImpairConfig {
        loss: 4.0,
        reorder: 5.0,
        reorder_gap: 2,
        duplicate: 3.0,
        delay: Duration::from_millis(20),
        ports: vec![5000],
        ..ImpairConfig::default()
    };
    let stop = start(
        &topology,
        Config {
            impair,
            ..config(&topology)
        },
    );
    let _echo = Echo::honest(&topology.appliances[0]);
    let arrived = send_numbered(&topology, SOURCE, SINK, 2000);
    let spared = send_numbered(&topology, "10.10.0.2:4001", "10.20.0.2:5001", 100);
    let report = stop();
    assert_balanced(&report);
    assert_eq!(spared, (0..100).collect::<Vec<_>>(), "another port is left alone");
    let (mut seen, mut highest, mut reordered) = (vec![0u32; 2000], None, 0);
    for number in arrived {
        seen[number as usize] += 1;
        // RFC 4737: a later-sent packet was there first. A duplicate's second copy is not a reordering.
        reordered += u64::from(seen[number as usize] == 1 && highest.is_some_and(|highest| number < highest));
        highest = highest.max(Some(number));
    }
    let times = |wanted| seen.iter().filter(|count| **count == wanted).count() as u64;
    let counts = report.flows[0].counts.impaired;
    assert_eq!(
        (counts.dropped, counts.duplicated, counts.reordered),
        (times(0), times(2), reordered)
    );
    assert!(
        counts.dropped > 20 && counts.duplicated > 20 && counts.reordered > 40,
        "{counts:?}"
    );
}

#[test]
fn full_frames_of_gwlb_cross_a_jumbo_link() {
    let options = tidegate_lab::TopologyOptions {
        inner_mtu: 8500,
        appliance_mtu: 8568,
        ..tidegate_lab::TopologyOptions::default()
    };
    let topology = Topology::build(&options).expect("the lab (needs root)");
    let stop = start(&topology, config(&topology));
    let _echo = Echo::honest(&topology.appliances[0]);
    tcp_echo(&topology, "10.20.0.2:6000", 500_000);
    let report = stop();
    assert_balanced(&report);
    assert_eq!((report.total.returned_ok, report.total.missing), (report.total.sent, 0));
    let largest = report.total.sent_bytes / report.total.sent;
    assert!(largest > 3000, "on average {largest} bytes: jumbo frames were used");
}
