//! The XDP program, decision by decision: a fixture packet and the action and counter it must come to, in the kernel's own
//! test run. Every packet is shown in one piece and again with shortened linear parts, so that the slow cursor of packets of
//! several buffers answers the same.
//!
//! These tests need root and the program; without either they fail and say so.
#![cfg(feature = "appliance")]

#[path = "testrun/cost.rs"]
mod cost;
#[path = "../../common/tests/fixtures/mod.rs"]
mod fixtures;
mod testrun;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fixtures::*;
use ipnet::IpNet;
use testrun::{Bench, Run, now};
use tidegate_common::drop_reason::DropReason;
use tidegate_common::maps::{Active, Config, Counter, Counters, DefaultAction, FailureAction, MAPS, drop_index};
use tidegate_common::wire::ethernet;
use tidegate_common::wire::geneve::CLASS_AWS;
use tidegate_common::wire::protocol;

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

const HEARTBEAT_NS: u64 = 10_000_000_000;
const UNLISTED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// How a packet must end, and so where it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Pass,
    Drop(DropReason),
    Redirect,
    Return,
    BypassReturn,
    BypassPass,
}

impl End {
    fn action(self) -> u32 {
        match self {
            End::Pass | End::BypassPass => PASS,
            End::Drop(_) => DROP,
            End::Redirect => REDIRECT,
            End::Return | End::BypassReturn => TX,
        }
    }

    fn index(self) -> usize {
        match self {
            End::Pass => Counter::Passed as usize,
            End::Drop(reason) => drop_index(reason),
            End::Redirect => Counter::Redirected as usize,
            End::Return => Counter::Returned as usize,
            End::BypassReturn => Counter::BypassReturned as usize,
            End::BypassPass => Counter::BypassPassed as usize,
        }
    }
}

fn settings() -> Config {
    Config {
        active: Active::new(1, 0).word(),
        heartbeat_ns: HEARTBEAT_NS,
        geneve_port: 6081,
        on_failure: FailureAction::Return as u8,
        default_action: [DefaultAction::Drop as u8, DefaultAction::Return as u8],
        ..Config::default()
    }
}

/// A bench with 10.1.0.0/16 and 2001:db8:1::/48 listed in slot 0, nothing in slot 1, no socket and no beat.
fn bench() -> Bench {
    let mut bench = Bench::load();
    bench.configure(&settings());
    bench.list(0, IpAddr::from([10, 1, 0, 0]), 16, None);
    bench.list(0, IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0)), 48, None);
    bench
}

/// The same with a worker: a socket, and a beat of just now.
fn bench_with_worker() -> Bench {
    let mut bench = bench();
    bench.open_socket();
    bench.beat(now());
    bench
}

/// What the counters did during one run.
fn difference(before: &Counters, after: &Counters) -> Counters {
    let mut difference = Counters::default();
    for (i, slot) in difference.0.iter_mut().enumerate() {
        *slot = after.0[i] - before.0[i];
    }
    difference
}

/// Shows one packet in all cuts and checks action, bytes and counters each time.
fn check(bench: &Bench, name: &str, packet: &[u8], ipv4_at: usize, end: End) {
    let expected = match end {
        End::Return | End::BypassReturn => returned(packet, ipv4_at),
        _ => packet.to_vec(),
    };
    let cuts = (14..packet.len())
        .filter(|cut| *cut < 200 || cut % 64 == 0)
        .chain([packet.len()]);
    for linear in cuts {
        let before = bench.counters();
        let Run {
            action, packet: output, ..
        } = match bench.try_run(packet, linear, 1) {
            Ok(run) => run,
            Err(error) => panic!("{name}, {linear} bytes linear: the kernel refuses the run: {error}"),
        };
        let counted = difference(&before, &bench.counters());
        assert_eq!(
            action,
            end.action(),
            "{name}, {linear} of {} bytes linear",
            packet.len()
        );
        assert!(
            output == expected,
            "{name}, {linear} bytes linear: wrong bytes\n{output:02x?}\n{expected:02x?}"
        );
        assert_eq!(counted.get(Counter::Seen), 1, "{name}, {linear} bytes linear");
        assert_eq!(
            counted.0[end.index()],
            1,
            "{name}, {linear} bytes linear: counted elsewhere: {counted:?}"
        );
        assert!(counted.reconciles(), "{name}, {linear} bytes linear: {counted:?}");
        if linear == packet.len() {
            assert_eq!(
                counted.get(Counter::ColdWalk),
                0,
                "{name}: the slow cursor without need"
            );
        }
    }
}

fn check_frame(bench: &Bench, name: &str, frame: &Frame, end: End) {
    check(bench, name, &frame.bytes(), frame.ipv4_at(), end);
}

/// A frame's bytes with one of them changed.
fn patched(frame: &Frame, at: usize, value: u8) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes[at] = value;
    bytes
}

#[test]
fn verified_instructions_stay_within_the_budget() {
    let bench = Bench::load();
    let verified = bench.verified_instructions().expect("a kernel since 5.16 tells it");
    println!("verified instructions: {verified}");
    assert!(verified < 100_000, "{verified}");
}

#[test]
fn maps_have_the_layout_that_user_space_expects() {
    let bench = Bench::load();
    for map in MAPS {
        let layout = bench.layout(map.name).unwrap_or_else(|| panic!("no map {}", map.name));
        assert_eq!(layout, (map.key_size, map.value_size, map.max_entries), "{}", map.name);
    }
}

#[test]
fn what_is_not_for_us_passes_untouched() {
    let bench = bench_with_worker();
    let usual = wrapped(media_v4());
    let with = |change: fn(&mut Frame)| {
        let mut frame = usual.clone();
        change(&mut frame);
        frame
    };
    let mut arp = vec![0xff; 6];
    arp.extend(GWLB_MAC);
    arp.extend([0x08, 0x06]);
    arp.resize(60, 0);
    check(&bench, "ARP", &arp, 14, End::Pass);
    let mut ssh = ethernet::Ethernet::build(APPLIANCE_MAC, GWLB_MAC, ethernet::IPV4)
        .bytes()
        .to_vec();
    ssh.extend(v4(GWLB, APPLIANCE, protocol::TCP, &tcp(40_000, 22, 0)));
    check(&bench, "SSH", &ssh, 14, End::Pass);
    let mut outer6 = ethernet::Ethernet::build(APPLIANCE_MAC, GWLB_MAC, ethernet::IPV6)
        .bytes()
        .to_vec();
    outer6.extend(v6(SOURCE6, DESTINATION6, protocol::UDP, &udp(1, 6081, 40)));
    check(&bench, "GENEVE over IPv6", &outer6, 14, End::Pass);
    for (name, frame) in [
        ("another UDP port", with(|frame| frame.port = 6082)),
        ("TCP to the GENEVE port", with(|frame| frame.protocol = protocol::TCP)),
        (
            "multicast MAC",
            with(|frame| frame.destination_mac = [1, 0, 0x5e, 1, 2, 3]),
        ),
        ("broadcast MAC", with(|frame| frame.destination_mac = [0xff; 6])),
        (
            "multicast address",
            with(|frame| frame.destination = Ipv4Addr::new(239, 1, 2, 3)),
        ),
        (
            "broadcast address",
            with(|frame| frame.destination = Ipv4Addr::BROADCAST),
        ),
        ("no address", with(|frame| frame.source = Ipv4Addr::UNSPECIFIED)),
        ("later outer fragment", with(|frame| frame.flags_and_offset = 0x0007)),
        ("two VLAN tags", with(|frame| frame.vlans = vec![5, 6])),
    ] {
        check_frame(&bench, name, &frame, End::Pass);
    }
}

#[test]
fn malformed_outer_headers_are_dropped_by_reason() {
    use DropReason::{OuterFragment, OuterIpv4, OuterUdpLength, Truncated};
    let bench = bench_with_worker();
    let frame = wrapped(media_v4());
    let (ip, udp) = (frame.ipv4_at(), frame.udp_at());
    let total = frame.bytes().len() - ip;
    for (name, bytes, reason) in [
        ("Ethernet alone", frame.bytes()[..14].to_vec(), Truncated),
        ("cut in the IPv4 header", frame.bytes()[..ip + 12].to_vec(), Truncated),
        ("cut in the UDP header", frame.bytes()[..udp + 4].to_vec(), Truncated),
        ("IPv4 version 5", patched(&frame, ip, 0x55), OuterIpv4),
        ("IPv4 header of 16 bytes", patched(&frame, ip, 0x44), OuterIpv4),
        (
            "IPv4 longer than the frame",
            patched(&frame, ip + 3, (total + 1) as u8),
            OuterIpv4,
        ),
        (
            "cut in the inner packet",
            frame.bytes()[..ip + total - 1].to_vec(),
            OuterIpv4,
        ),
        ("first fragment", patched(&frame, ip + 6, 0x20), OuterFragment),
        (
            "UDP length 7",
            [
                patched(&frame, udp + 4, 0)[..udp + 5].to_vec(),
                vec![7],
                frame.bytes()[udp + 6..].to_vec(),
            ]
            .concat(),
            OuterUdpLength,
        ),
        (
            "UDP longer than IPv4",
            patched(&frame, udp + 5, (total - 19) as u8),
            OuterUdpLength,
        ),
    ] {
        check(&bench, name, &bytes, ip, End::Drop(reason));
    }
    let mut short = frame.bytes();
    short[ip + 2..ip + 4].copy_from_slice(&19u16.to_be_bytes());
    check(&bench, "IPv4 shorter than its header", &short, ip, End::Drop(OuterIpv4));
    let mut tagged = wrapped(media_v4());
    tagged.vlans = vec![100];
    check(
        &bench,
        "cut in the VLAN tag",
        &tagged.bytes()[..16],
        18,
        End::Drop(Truncated),
    );
}

#[test]
fn malformed_geneve_is_dropped_by_reason() {
    use DropReason::{GeneveControl, GeneveCriticalOption, GeneveOptions, GeneveProtocol, GeneveVersion, Truncated};
    let bench = bench_with_worker();
    let usual = wrapped(media_v4());
    let with = |change: &dyn Fn(&mut Frame)| {
        let mut frame = usual.clone();
        change(&mut frame);
        frame
    };
    check(
        &bench,
        "version 1",
        &patched(&usual, usual.geneve_at(), 0x48),
        14,
        End::Drop(GeneveVersion),
    );
    check(
        &bench,
        "options beyond the datagram",
        &patched(&usual, usual.geneve_at(), 63),
        14,
        End::Drop(Truncated),
    );
    check_frame(
        &bench,
        "control",
        &with(&|frame| frame.control = true),
        End::Drop(GeneveControl),
    );
    check_frame(
        &bench,
        "Ethernet inside",
        &with(&|frame| frame.payload_type = 0x6558),
        End::Drop(GeneveProtocol),
    );
    let critical = |options: Vec<u8>| {
        with(&move |frame| {
            frame.critical = true;
            frame.options = options.clone();
        })
    };
    check_frame(
        &bench,
        "unknown critical option",
        &critical([option(CLASS_AWS, 1, 2), option(0x0107, 0x85, 1)].concat()),
        End::Drop(GeneveCriticalOption),
    );
    let mut overrun = option(CLASS_AWS, 1, 2);
    overrun[3] = 3;
    check_frame(
        &bench,
        "options that do not add up",
        &critical(overrun),
        End::Drop(GeneveOptions),
    );
    let mut headless = with(&|frame| {
        frame.options.clear();
        frame.inner.clear();
    });
    check_frame(&bench, "nothing inside", &headless, End::Drop(Truncated));
    headless.inner = media_v4()[..10].to_vec();
    check_frame(&bench, "half an IPv4 header inside", &headless, End::Drop(Truncated));
    // The datagram ends inside the GENEVE header while the frame goes on.
    let mut bytes = usual.bytes();
    let udp = usual.udp_at();
    bytes[udp + 4..udp + 6].copy_from_slice(&12u16.to_be_bytes());
    check(&bench, "half a GENEVE header", &bytes, 14, End::Drop(Truncated));
}

#[test]
fn malformed_inner_headers_are_dropped_by_reason() {
    use DropReason::{InnerIpv4, InnerIpv6, Truncated};
    let bench = bench_with_worker();
    let four = wrapped(media_v4());
    let six = wrapped(media_v6());
    let (at, at6) = (four.inner_at(), six.inner_at());
    for (name, bytes, reason) in [
        ("IPv6 said to be IPv4", patched(&four, at, 0x65), InnerIpv4),
        ("header of 16 bytes", patched(&four, at, 0x44), InnerIpv4),
        ("longer than the datagram", patched(&four, at + 3, 217), InnerIpv4),
        ("shorter than its header", patched(&four, at + 3, 19), InnerIpv4),
        ("IPv4 said to be IPv6", patched(&six, at6, 0x45), InnerIpv6),
        (
            "payload longer than the datagram",
            patched(&six, at6 + 5, 197),
            InnerIpv6,
        ),
    ] {
        check(&bench, name, &bytes, 14, End::Drop(reason));
    }
    let mut cut = wrapped(media_v6());
    cut.inner.truncate(39);
    check_frame(&bench, "half an IPv6 header", &cut, End::Drop(Truncated));
}

#[test]
fn admitted_packets_go_to_the_worker_untouched() {
    let bench = bench_with_worker();
    let with = |change: &dyn Fn(&mut Frame)| {
        let mut frame = wrapped(media_v4());
        change(&mut frame);
        frame
    };
    for (name, frame) in [
        ("IPv4", wrapped(media_v4())),
        ("IPv6", wrapped(media_v6())),
        ("802.1Q", with(&|frame| frame.vlans = vec![100])),
        ("outer IPv4 options", with(&|frame| frame.ip_options = vec![1; 40])),
        ("Ethernet padding", with(&|frame| frame.padding = 30)),
        ("no GENEVE options", with(&|frame| frame.options.clear())),
        (
            "unknown options",
            with(&|frame| frame.options.extend(option(0x0107, 5, 31))),
        ),
        ("options in another order", with(&|frame| frame.options.rotate_left(12))),
        (
            "63 empty options",
            with(&|frame| frame.options = option(0x0107, 5, 0).repeat(63)),
        ),
        (
            "eight options, one said to be critical",
            with(&|frame| {
                frame.critical = true;
                frame.options = option(0x0107, 5, 2).repeat(8);
            }),
        ),
        (
            "inner fragment",
            wrapped(v4_part(SOURCE, DESTINATION, protocol::UDP, 0x2005, &[7; 64])),
        ),
        (
            "inner TCP",
            wrapped(v4(SOURCE, DESTINATION, protocol::TCP, &tcp(1, 2, 3))),
        ),
        (
            "five extension headers",
            wrapped(v6(
                SOURCE6,
                DESTINATION6,
                protocol::DESTINATION_OPTIONS,
                &extensions(5, protocol::UDP, &udp(1, 2, 3)),
            )),
        ),
    ] {
        check_frame(&bench, name, &frame, End::Redirect);
    }
    assert_eq!(bench.counters().get(Counter::BeyondKernelWalk), 0);
}

#[test]
fn jumbo_frames_are_walked_alike() {
    let bench = bench_with_worker();
    let frame = wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &udp(5004, 5000, 3000)));
    let bytes = frame.bytes();
    for linear in [14, 60, 128, 2048] {
        let run = bench.try_run(&bytes, linear, 1).expect("the kernel runs the program");
        assert_eq!(run.action, REDIRECT, "{linear} bytes linear");
        assert!(run.packet == bytes, "{linear} bytes linear");
    }
    let counters = bench.counters();
    assert!(counters.reconciles());
    assert_eq!(
        (counters.get(Counter::Redirected), counters.get(Counter::ColdWalk)),
        (4, 2)
    );
}

#[test]
fn what_the_kernel_cannot_walk_goes_to_the_worker_and_is_counted() {
    let mut bench = bench_with_worker();
    let mut frame = wrapped(media_v4());
    frame.critical = true;
    frame.options = option(0x0107, 5, 0).repeat(9);
    check_frame(&bench, "nine options to look at", &frame, End::Redirect);
    let beyond = bench.counters().get(Counter::BeyondKernelWalk);
    assert!(beyond > 0 && beyond == bench.counters().get(Counter::Seen));
    bench.beat(0);
    check_frame(&bench, "nine options in bypass", &frame, End::BypassReturn);
}

#[test]
fn unlisted_sources_take_the_default_action_of_the_slot_in_force() {
    let mut bench = bench_with_worker();
    let four = wrapped(v4(UNLISTED, DESTINATION, protocol::UDP, &udp(5004, 5000, 188)));
    let six = wrapped(v6(ROUTER6, DESTINATION6, protocol::UDP, &udp(5004, 5000, 188)));
    // Five extension headers cannot be followed here, which is no way round the whitelist.
    let hidden = extensions(5, protocol::UDP, &udp(1, 2, 3));
    let hidden = wrapped(v6(ROUTER6, DESTINATION6, protocol::DESTINATION_OPTIONS, &hidden));
    let mut tagged = four.clone();
    tagged.vlans = vec![7];
    for frame in [&four, &six, &hidden, &tagged] {
        check_frame(
            &bench,
            "not listed, drop",
            frame,
            End::Drop(DropReason::SourceNotListed),
        );
    }
    bench.configure(&Config {
        active: Active::new(2, 1).word(),
        ..settings()
    });
    for frame in [&four, &six, &hidden, &tagged] {
        check_frame(&bench, "not listed, return", frame, End::Return);
    }
    check_frame(
        &bench,
        "listed in the other slot only",
        &wrapped(media_v4()),
        End::Return,
    );
    bench.list(1, IpAddr::V4(UNLISTED), 32, None);
    check_frame(&bench, "listed in this slot", &four, End::Redirect);
}

#[test]
fn errors_about_admitted_flows_are_admitted() {
    let bench = bench_with_worker();
    let unlisted = v4(UNLISTED, DESTINATION, protocol::UDP, &udp(1, 2, 8));
    let quote = &media_v4()[..28];
    let quote6 = &media_v6()[..48];
    let dropped = End::Drop(DropReason::SourceNotListed);
    for (name, inner, end) in [
        (
            "port unreachable",
            v4(ROUTER, SOURCE, protocol::ICMP, &icmp(3, quote)),
            End::Redirect,
        ),
        (
            "time exceeded",
            v4(ROUTER, SOURCE, protocol::ICMP, &icmp(11, quote)),
            End::Redirect,
        ),
        ("echo", v4(ROUTER, SOURCE, protocol::ICMP, &icmp(8, quote)), dropped),
        ("redirect", v4(ROUTER, SOURCE, protocol::ICMP, &icmp(5, quote)), dropped),
        (
            "error about a flow nobody lists",
            v4(ROUTER, UNLISTED, protocol::ICMP, &icmp(3, &unlisted)),
            dropped,
        ),
        (
            "error sent to another than it quotes",
            v4(ROUTER, DESTINATION, protocol::ICMP, &icmp(3, quote)),
            dropped,
        ),
        (
            "quote cut short",
            v4(ROUTER, SOURCE, protocol::ICMP, &icmp(3, &quote[..19])),
            dropped,
        ),
        (
            "UDP that looks like an error",
            v4(ROUTER, SOURCE, protocol::UDP, &icmp(3, quote)),
            dropped,
        ),
        (
            "packet too big",
            v6(ROUTER6, SOURCE6, protocol::ICMPV6, &icmp(2, quote6)),
            End::Redirect,
        ),
        (
            "IPv6 error behind an extension header",
            v6(
                ROUTER6,
                SOURCE6,
                protocol::DESTINATION_OPTIONS,
                &extensions(4, protocol::ICMPV6, &icmp(1, quote6)),
            ),
            End::Redirect,
        ),
        (
            "IPv6 echo",
            v6(ROUTER6, SOURCE6, protocol::ICMPV6, &icmp(128, quote6)),
            dropped,
        ),
    ] {
        let before = bench.counters().get(Counter::QuoteAdmitted);
        check_frame(&bench, name, &wrapped(inner), end);
        assert_eq!(
            bench.counters().get(Counter::QuoteAdmitted) > before,
            end == End::Redirect,
            "{name}"
        );
    }
}

#[test]
fn a_stale_beat_takes_the_failure_action() {
    let mut frames = vec![
        wrapped(media_v4()),
        wrapped(media_v6()),
        wrapped(media_v4()),
        wrapped(media_v4()),
    ];
    frames[2].vlans = vec![9];
    frames[3].ip_options = vec![1; 8];
    for (action, end) in [
        (FailureAction::Return, End::BypassReturn),
        (FailureAction::Drop, End::Drop(DropReason::WorkerDead)),
        (FailureAction::Pass, End::BypassPass),
    ] {
        let mut bench = bench();
        bench.open_socket();
        bench.configure(&Config {
            on_failure: action as u8,
            ..settings()
        });
        for beat in [0, now() - HEARTBEAT_NS - 1_000_000_000] {
            bench.beat(beat);
            for frame in &frames {
                check_frame(&bench, action.name(), frame, end);
            }
        }
        // The whitelist holds in bypass too.
        let unlisted = wrapped(v4(UNLISTED, DESTINATION, protocol::UDP, &udp(1, 2, 8)));
        check_frame(
            &bench,
            "not listed, in bypass",
            &unlisted,
            End::Drop(DropReason::SourceNotListed),
        );
    }
}

#[test]
fn a_fresh_beat_without_a_socket_takes_the_failure_action_too() {
    for (action, end) in [
        (FailureAction::Return, End::BypassReturn),
        (FailureAction::Drop, End::Drop(DropReason::WorkerDead)),
        (FailureAction::Pass, End::BypassPass),
    ] {
        let mut bench = bench();
        bench.configure(&Config {
            on_failure: action as u8,
            ..settings()
        });
        bench.beat(now());
        check_frame(&bench, action.name(), &wrapped(media_v4()), end);
        let counters = bench.counters();
        assert_eq!(counters.get(Counter::NoSocket), counters.get(Counter::Seen));
    }
}

#[test]
fn a_beat_from_the_future_is_fresh() {
    let mut bench = bench_with_worker();
    bench.configure(&Config {
        heartbeat_ns: 1,
        ..settings()
    });
    bench.beat(now() + 60_000_000_000);
    check_frame(
        &bench,
        "a worker that beat after the clock was read",
        &wrapped(media_v4()),
        End::Redirect,
    );
}

#[test]
fn a_prefix_may_have_a_failure_action_of_its_own() {
    let mut bench = bench();
    bench.list(0, IpAddr::from([10, 1, 2, 0]), 24, Some(FailureAction::Drop));
    bench.list(0, IpAddr::from([10, 1, 3, 0]), 24, Some(FailureAction::Pass));
    bench.list(0, IpAddr::V6(SOURCE6), 128, Some(FailureAction::Drop));
    let from = |last: [u8; 2]| {
        wrapped(v4(
            Ipv4Addr::new(10, 1, last[0], last[1]),
            DESTINATION,
            protocol::UDP,
            &udp(1, 2, 8),
        ))
    };
    for (name, frame, end) in [
        ("longest prefix, drop", from([2, 9]), End::Drop(DropReason::WorkerDead)),
        ("longest prefix, pass", from([3, 9]), End::BypassPass),
        (
            "the wide prefix leaves it to the settings",
            from([4, 9]),
            End::BypassReturn,
        ),
        ("IPv6 host", wrapped(media_v6()), End::Drop(DropReason::WorkerDead)),
    ] {
        check_frame(&bench, name, &frame, end);
    }
    bench.configure(&Config {
        on_failure: FailureAction::Drop as u8,
        ..settings()
    });
    bench.list(0, IpAddr::from([10, 1, 5, 0]), 24, Some(FailureAction::Return));
    check_frame(&bench, "its own return over drop", &from([5, 9]), End::BypassReturn);
}

/// Numbers that look random and are the same in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A prefix of one of a few addresses, so that many nest.
fn any_prefix(numbers: &mut Numbers) -> IpNet {
    const LENGTHS: [[u8; 10]; 2] = [
        [0, 1, 8, 15, 16, 17, 24, 30, 31, 32],
        [0, 1, 15, 16, 17, 32, 64, 65, 127, 128],
    ];
    let [low, high] = [numbers.below(3) as u8, [0, 10, 127, 255][numbers.below(4)]];
    let bytes: [u8; 16] = std::array::from_fn(|at| {
        if at % 4 == 0 {
            high
        } else {
            [0, low, 0xff][numbers.below(3)]
        }
    });
    let is_v6 = numbers.below(2);
    let length = LENGTHS[is_v6][numbers.below(10)];
    let [a, b, c, d, ..] = bytes;
    let address = match is_v6 {
        0 => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(bytes),
    };
    IpNet::new(address, length).expect("a length of the family").trunc()
}

/// Addresses at the borders of a prefix, within and without.
fn borders(prefix: &IpNet) -> Vec<IpAddr> {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let bits = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            bits.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let bits = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            bits.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).to_vec()
        }
    }
}

#[test]
fn the_longest_listed_prefix_decides_whatever_is_listed() {
    let mut bench = Bench::load();
    bench.configure(&settings());
    let mut numbers = Numbers(0x0074_6964_6567_6174);
    let (mut hits, mut misses) = (0, 0);
    for round in 0..40 {
        let count = numbers.below(if round % 4 == 0 { 300 } else { 12 });
        let listed: Vec<(IpNet, Option<FailureAction>)> = (0..count)
            .map(|_| {
                let actions = [None, Some(FailureAction::Return), Some(FailureAction::Pass)];
                (any_prefix(&mut numbers), actions[numbers.below(3)])
            })
            .collect();
        bench.unlist(0);
        bench.list_all(0, &listed);
        // What an earlier policy left in the other slot says nothing.
        bench.unlist(1);
        bench.list_all(1, &[(any_prefix(&mut numbers), None)]);
        let others: Vec<IpNet> = (0..20).map(|_| any_prefix(&mut numbers)).collect();
        let prefixes = listed.iter().take(40).map(|(prefix, _)| prefix).chain(&others);
        for source in prefixes.flat_map(borders) {
            let holding = listed.iter().filter(|(prefix, _)| prefix.contains(&source));
            // Of a prefix that is listed twice the later counts, which is what `max_by_key` takes.
            let action = match holding.max_by_key(|(prefix, _)| prefix.prefix_len()) {
                None => DROP,
                Some((_, Some(FailureAction::Pass))) => PASS,
                Some(_) => TX,
            };
            let inner = match source {
                IpAddr::V4(source) => v4(source, DESTINATION, protocol::UDP, &udp(1, 2, 8)),
                IpAddr::V6(source) => v6(source, DESTINATION6, protocol::UDP, &udp(1, 2, 8)),
            };
            assert_eq!(
                bench.run(&wrapped(inner).bytes()).action,
                action,
                "{source} in round {round}: {listed:?}"
            );
            *(if action == DROP { &mut misses } else { &mut hits }) += 1;
        }
    }
    assert!(hits > 500 && misses > 500, "{hits} {misses}");
}

#[test]
fn bypass_is_entered_and_left_once_a_transition() {
    let mut bench = bench_with_worker();
    let packet = wrapped(media_v4()).bytes();
    let transitions = |bench: &Bench| {
        let counters = bench.counters();
        (counters.get(Counter::BypassEntered), counters.get(Counter::BypassLeft))
    };
    for round in 1..=3 {
        bench.beat(0);
        for _ in 0..5 {
            assert_eq!(bench.run(&packet).action, TX);
        }
        assert_eq!((transitions(&bench), bench.is_dark()), ((round, round - 1), true));
        assert_eq!(bench.log_records(), 1, "one record for a transition, none for a packet");
        bench.beat(now());
        for _ in 0..5 {
            assert_eq!(bench.run(&packet).action, REDIRECT);
        }
        assert_eq!((transitions(&bench), bench.is_dark()), ((round, round), false));
        assert_eq!(bench.log_records(), 0);
    }
    assert!(bench.counters().reconciles());
}

#[test]
fn a_program_nobody_configured_passes_everything() {
    let bench = Bench::load();
    check_frame(
        &bench,
        "GENEVE before there are settings",
        &wrapped(media_v4()),
        End::Pass,
    );
}
