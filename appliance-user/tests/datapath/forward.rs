//! What comes back, and how: every shape of packet that a load balancer sends, returned with nothing changed but MACs, outer
//! addresses, TTL and the header checksum.

use std::net::{Ipv4Addr, Ipv6Addr};

use tidegate_common::wire::geneve::{CLASS_AWS, aws_options};
use tidegate_common::wire::protocol;

use crate::bench::{drops, number, over_queues};
use crate::fixtures::*;
use crate::link::{Link, POLICY, stop, udp_sum, with_udp_checksum};

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const UNLISTED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const UNLISTED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1);

/// An unknown option that a receiver may skip.
fn unknown() -> Vec<u8> {
    option(0x0fff, 0x11, 3)
}

fn known() -> Vec<u8> {
    aws_options(ENDPOINT, 0x1112_1314_1516_1718, 0x2122_2324).to_vec()
}

/// Inner packets and options of all kinds, each as a named frame.
fn shapes() -> Vec<(&'static str, Frame)> {
    let aws = known();
    let reversed = [&aws[24..32], &aws[12..24], &aws[..12]].concat();
    let with = |options: Vec<u8>| Frame {
        options,
        ..wrapped(media_v4())
    };
    let inner = |payload| wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &udp(5004, 5000, payload)));
    vec![
        ("IPv4", wrapped(media_v4())),
        ("IPv6", wrapped(media_v6())),
        (
            "802.1Q",
            Frame {
                vlans: vec![0x2064],
                ..wrapped(media_v4())
            },
        ),
        (
            "802.1Q, IPv6 inside",
            Frame {
                vlans: vec![7],
                ..wrapped(media_v6())
            },
        ),
        ("no option", with(Vec::new())),
        ("an unknown option", with(unknown())),
        (
            "an unknown option before the others",
            with([unknown(), known()].concat()),
        ),
        (
            "an unknown option behind the others",
            with([known(), unknown()].concat()),
        ),
        ("options in another order", with(reversed)),
        ("an empty option", with([option(CLASS_AWS, 9, 0), known()].concat())),
        (
            "more options than the kernel's program looks at",
            with(option(0x0fff, 0x11, 0).repeat(60)),
        ),
        (
            "IPv6 with an unknown option",
            Frame {
                options: unknown(),
                ..wrapped(media_v6())
            },
        ),
        ("a bare inner IPv4 header", wrapped(v4(SOURCE, DESTINATION, 253, &[]))),
        ("a bare inner IPv6 header", wrapped(v6(SOURCE6, DESTINATION6, 59, &[]))),
        ("an empty inner datagram", inner(0)),
        ("an inner packet of 1,500 bytes", inner(1472)),
        ("an odd inner length", inner(187)),
        (
            "inner TCP",
            wrapped(v4(SOURCE, DESTINATION, protocol::TCP, &tcp(5004, 5000, 100))),
        ),
        (
            "inner ICMP",
            wrapped(v4(SOURCE, DESTINATION, protocol::ICMP, &icmp(8, &[7; 56]))),
        ),
        (
            "inner IPv6 extension headers",
            wrapped(v6(
                SOURCE6,
                DESTINATION6,
                protocol::DESTINATION_OPTIONS,
                &extensions(6, protocol::UDP, &udp(5004, 5000, 99)),
            )),
        ),
        (
            "outer IPv4 options",
            Frame {
                ip_options: vec![1; 12],
                ..wrapped(media_v4())
            },
        ),
        (
            "the longest outer IPv4 header",
            Frame {
                ip_options: vec![1; 40],
                ..wrapped(media_v6())
            },
        ),
        (
            "outer TTL 1",
            Frame {
                ttl: 1,
                ..wrapped(media_v4())
            },
        ),
        (
            "outer TTL 64",
            Frame {
                ttl: 64,
                ..wrapped(media_v4())
            },
        ),
        (
            "outer without DF",
            Frame {
                flags_and_offset: 0,
                ..wrapped(media_v4())
            },
        ),
        (
            "padding behind the packet",
            Frame {
                padding: 22,
                ..wrapped(media_v4())
            },
        ),
    ]
}

/// Compares with an expectation made without any of the appliance's code for turning packets around.
fn assert_returned(name: &str, frame: &Frame, sent: &[u8], came: &[u8]) {
    let (ipv4, udp) = (frame.ipv4_at(), frame.udp_at());
    assert_eq!(came, returned(sent, ipv4), "{name}");
    assert_eq!(naive_checksum(&came[ipv4..udp]), 0, "{name}: header checksum");
    assert_eq!(came[udp..udp + 4], sent[udp..udp + 4], "{name}: UDP ports");
    if came[udp + 6..udp + 8] != [0, 0] {
        assert_eq!(udp_sum(came, ipv4, udp), 0, "{name}: UDP checksum");
    }
}

#[test]
fn every_shape_comes_back_unaltered() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let shapes = shapes();
    for (name, frame) in &shapes {
        for checksum in [false, true] {
            let (ipv4, udp) = (frame.ipv4_at(), frame.udp_at());
            let sent = if checksum {
                with_udp_checksum(frame.bytes(), ipv4, udp)
            } else {
                frame.bytes()
            };
            let came = link
                .send(&sent)
                .unwrap_or_else(|| panic!("{name} did not come back: {:?}", drops(&site.status())));
            assert_returned(name, frame, &sent, &came);
        }
    }
    link.silent();
    let status = site.settled();
    assert_eq!(
        number(&status, "/kernel/packets/redirected"),
        2 * shapes.len() as u64,
        "each through a worker"
    );
    assert_eq!(over_queues(&status, "/packets/returned"), 2 * shapes.len() as u64);
    assert_eq!(drops(&status).values().sum::<u64>(), 0);
    stop(&site, process);
}

#[test]
fn bursts_come_back_whole_and_in_order() {
    const ROUNDS: u16 = 40;
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let shapes = shapes();
    for round in 0..ROUNDS {
        let sent: Vec<Vec<u8>> = shapes
            .iter()
            .map(|(_, frame)| {
                let mut bytes = frame.bytes();
                let at = frame.ipv4_at();
                bytes[at + 4..at + 6].copy_from_slice(&round.to_be_bytes());
                fix_checksum(&mut bytes[at..]);
                bytes
            })
            .collect();
        let came = link.round_trip(&sent);
        assert_eq!(came.len(), sent.len(), "round {round}: {:?}", drops(&site.status()));
        for (((name, frame), sent), came) in shapes.iter().zip(&sent).zip(&came) {
            assert_returned(name, frame, sent, came);
        }
    }
    let status = site.settled();
    assert_eq!(
        over_queues(&status, "/packets/returned"),
        u64::from(ROUNDS) * shapes.len() as u64
    );
    stop(&site, process);
}

#[test]
fn an_unlisted_source_ends_in_the_kernel() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let frames = [
        wrapped(v4(UNLISTED, DESTINATION, protocol::UDP, &udp(5004, 5000, 188))),
        wrapped(v6(UNLISTED6, DESTINATION6, protocol::UDP, &udp(5004, 5000, 188))),
    ];
    for _ in 0..150 {
        frames.iter().for_each(|frame| link.wire.send(&frame.bytes()));
    }
    link.silent();
    let status = site.settled();
    assert_eq!(drops(&status), [("kernel source-not-listed".to_owned(), 300)].into());
    assert_eq!(over_queues(&status, "/packets/seen"), 0, "a worker saw it");
    // Listed, but not there: the kernel knows sources, the worker rules.
    let other = |port| {
        wrapped(v4(
            Ipv4Addr::new(10, 1, 3, 1),
            DESTINATION,
            protocol::UDP,
            &udp(5004, port, 188),
        ))
    };
    assert!(link.send(&other(5000).bytes()).is_some());
    link.wire.send(&other(5001).bytes());
    link.silent();
    assert_eq!(drops(&site.settled())["worker no-rule"], 1);
    stop(&site, process);
}

#[test]
fn a_default_of_return_sends_the_unlisted_back_from_the_kernel() {
    let link = Link::new(1, 9000);
    let (site, process) = link.serve(&POLICY.replace("\"drop\"", "\"return\""), &[]);
    let large = v4(UNLISTED, DESTINATION, protocol::UDP, &udp(5004, 5000, 8_400));
    let frames = [
        wrapped(v4(UNLISTED, DESTINATION, protocol::UDP, &udp(5004, 5000, 188))),
        wrapped(v6(UNLISTED6, DESTINATION6, protocol::UDP, &udp(5004, 5000, 188))),
        Frame {
            vlans: vec![9],
            ..wrapped(v4(UNLISTED, DESTINATION, protocol::UDP, &udp(5004, 5000, 1)))
        },
        Frame {
            ip_options: vec![1; 8],
            ..wrapped(large)
        },
    ];
    for frame in &frames {
        let sent = with_udp_checksum(frame.bytes(), frame.ipv4_at(), frame.udp_at());
        let came = link.send(&sent).expect("comes back");
        assert_returned("unlisted", frame, &sent, &came);
    }
    let status = site.settled();
    assert_eq!(number(&status, "/kernel/packets/returned"), frames.len() as u64);
    assert_eq!(over_queues(&status, "/packets/seen"), 0, "uninspected");
    stop(&site, process);
}

#[test]
fn icmp_errors_follow_the_flow_they_quote() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    assert!(link.send(&wrapped(media_v4()).bytes()).is_some() && link.send(&wrapped(media_v6()).bytes()).is_some());
    let (quoted, quoted6) = (media_v4(), media_v6());
    for (name, inner) in [
        (
            "unreachable",
            v4(ROUTER, SOURCE, protocol::ICMP, &icmp(3, &quoted[..28])),
        ),
        ("time exceeded", v4(ROUTER, SOURCE, protocol::ICMP, &icmp(11, &quoted))),
        (
            "packet too big",
            v6(ROUTER6, SOURCE6, protocol::ICMPV6, &icmp(2, &quoted6)),
        ),
    ] {
        let frame = wrapped(inner);
        let sent = frame.bytes();
        let came = link
            .send(&sent)
            .unwrap_or_else(|| panic!("{name}: {:?}", drops(&site.status())));
        assert_returned(name, &frame, &sent, &came);
    }
    // Errors go to the sender of what they quote; this one only borrows an admitted address.
    link.wire
        .send(&wrapped(v4(ROUTER, DESTINATION, protocol::ICMP, &icmp(3, &quoted))).bytes());
    link.silent();
    let status = site.settled();
    assert_eq!(drops(&status), [("kernel source-not-listed".to_owned(), 1)].into());
    assert_eq!(number(&status, "/kernel/notes/quote-admitted"), 3);
    stop(&site, process);
}

#[test]
fn fragments_follow_their_first() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let datagram = udp(5004, 5000, 2000);
    let (head, tail) = datagram.split_at(1480);
    let v4_part = |flags, part| wrapped(v4_part(SOURCE, DESTINATION, protocol::UDP, flags, part));
    let v6_part = |offset, more, id, part| {
        let inner = fragment_header(protocol::UDP, offset, more, id, part);
        wrapped(v6(SOURCE6, DESTINATION6, protocol::FRAGMENT, &inner))
    };
    let lone = [v4_part(185, tail), v6_part(185, false, 77, tail)];
    lone.iter().for_each(|frame| link.wire.send(&frame.bytes()));
    link.silent();
    assert_eq!(
        drops(&site.settled()),
        [("worker fragment-without-first".to_owned(), 2)].into()
    );
    for (name, frame) in [
        ("first, IPv4", v4_part(0x2000, head)),
        ("later, IPv4", v4_part(185, tail)),
        ("first, IPv6", v6_part(0, true, 78, head)),
        ("later, IPv6", v6_part(185, false, 78, tail)),
    ] {
        let sent = frame.bytes();
        let came = link
            .send(&sent)
            .unwrap_or_else(|| panic!("{name}: {:?}", drops(&site.status())));
        assert_returned(name, &frame, &sent, &came);
    }
    site.settled();
    stop(&site, process);
}

#[test]
fn jumbo_packets_come_back_whole() {
    let link = Link::new(1, 9000);
    let (site, process) = link.serve(POLICY, &[]);
    let inner = |length: usize| v4(SOURCE, DESTINATION, protocol::UDP, &udp(5004, 5000, length - 28));
    let inner6 = |length: usize| v6(SOURCE6, DESTINATION6, protocol::UDP, &udp(5004, 5000, length - 48));
    // Around one, two and three buffers of 4,096 bytes, and the largest that GWLB carries.
    let lengths = [
        1500, 3600, 3700, 3752, 3753, 3800, 4000, 4096, 7600, 7848, 7849, 8000, 8191, 8192, 8500,
    ];
    let mut sent = 0;
    for length in lengths {
        let shapes = [
            wrapped(inner(length)),
            wrapped(inner6(length)),
            Frame {
                vlans: vec![5],
                ip_options: vec![1; 40],
                ..wrapped(inner(length))
            },
        ];
        for frame in shapes {
            let bytes = with_udp_checksum(frame.bytes(), frame.ipv4_at(), frame.udp_at());
            let came = link
                .send(&bytes)
                .unwrap_or_else(|| panic!("{length}: {:#}", site.status()));
            assert_returned("jumbo", &frame, &bytes, &came);
            sent += 1;
        }
    }
    // Packets of several buffers between small ones, in one go: they straddle bursts.
    let mixed: Vec<Vec<u8>> = (0..300)
        .map(|i| wrapped(inner(if i % 3 == 0 { 100 + i } else { 8500 - i })).bytes())
        .collect();
    let came = link.round_trip(&mixed);
    assert_eq!(came.len(), mixed.len(), "{:#}", site.status());
    for (sent, came) in mixed.iter().zip(&came) {
        assert!(*came == returned(sent, 14), "altered, or out of order");
    }
    let status = site.settled();
    assert_eq!(over_queues(&status, "/packets/returned"), sent + mixed.len() as u64);
    assert_eq!(drops(&status).values().sum::<u64>(), 0);
    stop(&site, process);
}
