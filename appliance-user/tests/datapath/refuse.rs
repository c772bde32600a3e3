//! Malformed packets of every kind: nothing comes back, and exactly one reason counts one, in the kernel or in a worker.

use std::collections::BTreeMap;
use std::time::Instant;

use tidegate_common::wire::protocol;

use crate::bench::{SOON, drops, number};
use crate::fixtures::*;
use crate::link::{Link, POLICY, stop};

/// What is wrong, the frame, and who drops it why.
type Case = (&'static str, Vec<u8>, &'static str);

fn edited(frame: Frame, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = frame.bytes();
    edit(&mut bytes);
    bytes
}

/// A frame whose UDP datagram, and hence IPv4 packet, ends after `geneve` bytes of GENEVE, all lengths agreeing.
fn cut(frame: Frame, geneve: usize) -> Vec<u8> {
    let (ipv4, udp, end) = (frame.ipv4_at(), frame.udp_at(), frame.geneve_at() + geneve);
    edited(frame, |bytes| {
        bytes.truncate(end);
        bytes[ipv4 + 2..ipv4 + 4].copy_from_slice(&((end - ipv4) as u16).to_be_bytes());
        bytes[udp + 4..udp + 6].copy_from_slice(&((end - udp) as u16).to_be_bytes());
        fix_checksum(&mut bytes[ipv4..]);
    })
}

fn outer() -> Vec<Case> {
    let media = || wrapped(media_v4());
    let header = |edit: fn(&mut [u8])| {
        edited(media(), |bytes| {
            edit(&mut bytes[14..]);
            fix_checksum(&mut bytes[14..]);
        })
    };
    vec![
        ("outer IHL 4", header(|ip| ip[0] = 0x44), "kernel outer-ipv4"),
        ("outer version 6", header(|ip| ip[0] = 0x65), "kernel outer-ipv4"),
        (
            "outer total length beyond the frame",
            header(|ip| ip[2] = 0x20),
            "kernel outer-ipv4",
        ),
        (
            "outer total length below the header",
            header(|ip| (ip[2], ip[3]) = (0, 19)),
            "kernel outer-ipv4",
        ),
        (
            "first outer fragment",
            header(|ip| ip[6] = 0x20),
            "kernel outer-fragment",
        ),
        (
            "outer UDP length beyond the packet",
            edited(media(), |b| b[38] = 0x20),
            "kernel outer-udp-length",
        ),
        (
            "outer UDP length below its header",
            edited(media(), |b| (b[38], b[39]) = (0, 7)),
            "kernel outer-udp-length",
        ),
        (
            "a frame that ends in the UDP header",
            edited(media(), |b| b.truncate(39)),
            "kernel truncated",
        ),
    ]
}

fn geneve() -> Vec<Case> {
    let at = wrapped(media_v4()).geneve_at();
    let byte = |offset: usize, value: u8| edited(wrapped(media_v4()), |bytes| bytes[at + offset] = value);
    let options = |options: Vec<u8>, critical| {
        Frame {
            options,
            critical,
            ..wrapped(media_v4())
        }
        .bytes()
    };
    let overlong = [option(0x0fff, 0x11, 1), vec![0x0f, 0xff, 0x12, 5, 0, 0, 0, 0]].concat();
    vec![
        ("version 1", byte(0, 0x48), "kernel geneve-version"),
        ("version 3", byte(0, 0xc8), "kernel geneve-version"),
        ("a control packet", byte(1, 0x80), "kernel geneve-control"),
        (
            "an unknown critical option",
            options(option(0x0fff, 0x91, 1), true),
            "kernel geneve-critical-option",
        ),
        (
            "a known option that claims to be critical",
            options(option(0x0108, 0x81, 2), true),
            "kernel geneve-critical-option",
        ),
        (
            "an option beyond the options' length",
            options(overlong.clone(), false),
            "worker geneve-options",
        ),
        (
            "the same, announced as critical",
            options(overlong, true),
            "kernel geneve-options",
        ),
        ("Ethernet inside", byte(2, 0x65), "kernel geneve-protocol"),
        ("ARP inside", byte(3, 0x06), "kernel geneve-protocol"),
        ("no GENEVE header", cut(wrapped(media_v4()), 0), "kernel truncated"),
        ("a cut GENEVE header", cut(wrapped(media_v4()), 7), "kernel truncated"),
        ("cut options", cut(wrapped(media_v4()), 8 + 20), "kernel truncated"),
        ("no inner packet", cut(wrapped(media_v4()), 8 + 32), "kernel truncated"),
        (
            "options longer than the packet",
            edited(wrapped(v4(SOURCE, DESTINATION, 253, &[])), |b| b[at] = 0x3f),
            "kernel truncated",
        ),
    ]
}

fn inner() -> Vec<Case> {
    let at = wrapped(media_v4()).inner_at();
    let v4_byte = |offset: usize, value: u8| edited(wrapped(media_v4()), |bytes| bytes[at + offset] = value);
    let v6_byte = |offset: usize, value: u8| edited(wrapped(media_v6()), |bytes| bytes[at + offset] = value);
    let short_tcp = {
        let mut segment = tcp(5004, 5000, 0);
        segment[12] = 0xf0;
        segment
    };
    let chain = extensions(20, protocol::UDP, &udp(5004, 5000, 8));
    vec![
        (
            "a cut inner IPv4 header",
            cut(wrapped(media_v4()), 40 + 19),
            "kernel truncated",
        ),
        (
            "a cut inner IPv6 header",
            cut(wrapped(media_v6()), 40 + 39),
            "kernel truncated",
        ),
        (
            "a cut inner IPv4 payload",
            cut(wrapped(media_v4()), 40 + 100),
            "kernel inner-ipv4",
        ),
        (
            "a cut inner IPv6 payload",
            cut(wrapped(media_v6()), 40 + 100),
            "kernel inner-ipv6",
        ),
        ("inner IHL 4", v4_byte(0, 0x44), "kernel inner-ipv4"),
        (
            "inner version 6 under the type of IPv4",
            v4_byte(0, 0x65),
            "kernel inner-ipv4",
        ),
        (
            "inner version 4 under the type of IPv6",
            v6_byte(0, 0x45),
            "kernel inner-ipv6",
        ),
        (
            "inner total length beyond the packet",
            v4_byte(2, 0x20),
            "kernel inner-ipv4",
        ),
        (
            "inner IPv6 length beyond the packet",
            v6_byte(4, 0x20),
            "kernel inner-ipv6",
        ),
        (
            "inner UDP length beyond the packet",
            v4_byte(24, 0x20),
            "worker inner-udp-length",
        ),
        (
            "inner UDP length below its header",
            edited(wrapped(media_v4()), |b| (b[at + 24], b[at + 25]) = (0, 7)),
            "worker inner-udp-length",
        ),
        (
            "an inner UDP header that is cut",
            wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &[0; 7])).bytes(),
            "worker truncated",
        ),
        (
            "an inner TCP header longer than its packet",
            wrapped(v4(SOURCE, DESTINATION, protocol::TCP, &short_tcp)).bytes(),
            "worker inner-tcp-header",
        ),
        (
            "20 inner extension headers",
            wrapped(v6(SOURCE6, DESTINATION6, protocol::DESTINATION_OPTIONS, &chain)).bytes(),
            "worker too-many-headers",
        ),
    ]
}

#[test]
fn each_malformed_packet_is_dropped_for_its_reason() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let mut expected = BTreeMap::<String, u64>::new();
    let mut wrong = Vec::new();
    for (name, frame, reason) in outer().into_iter().chain(geneve()).chain(inner()) {
        link.wire.send(&frame);
        *expected.entry(reason.to_owned()).or_default() += 1;
        let begun = Instant::now();
        let sum = expected.values().sum::<u64>();
        let mut counted = drops(&site.status());
        while counted.values().sum::<u64>() < sum && begun.elapsed() < SOON {
            std::thread::sleep(std::time::Duration::from_millis(2));
            counted = drops(&site.status());
        }
        if counted != expected {
            wrong.push(format!("{name}: want {expected:?}, counted {counted:?}"));
            expected = counted;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    link.silent();
    // After all that the next sound packet is as welcome as ever.
    assert!(link.send(&wrapped(media_v4()).bytes()).is_some());
    site.settled();
    stop(&site, process);
}

#[test]
fn what_is_not_for_the_appliance_is_left_to_the_kernel() {
    let link = Link::new(1, 1600);
    let (site, process) = link.serve(POLICY, &[]);
    let before = number(&site.settled(), "/kernel/packets/passed");
    let frames = [
        Frame {
            port: 6082,
            ..wrapped(media_v4())
        },
        Frame {
            protocol: 50,
            ..wrapped(media_v4())
        },
        Frame {
            vlans: vec![1, 2],
            ..wrapped(media_v4())
        },
        Frame {
            destination_mac: [0xff; 6],
            ..wrapped(media_v4())
        },
        Frame {
            flags_and_offset: 0x0010,
            ..wrapped(media_v4())
        },
    ];
    frames.iter().for_each(|frame| link.wire.send(&frame.bytes()));
    link.silent();
    let status = site.settled();
    assert!(number(&status, "/kernel/packets/passed") >= before + frames.len() as u64);
    assert_eq!(number(&status, "/kernel/packets/redirected"), 0);
    assert!(drops(&status).is_empty());
    stop(&site, process);
}
