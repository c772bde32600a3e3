//! The walker on made and on arbitrary packets: what it finds in sound ones, that nothing makes it panic or read past the
//! end, and that cursors which reach the same bytes in other ways come to the same answer.

mod fixtures;

use std::cell::Cell;
use std::net::IpAddr;

use fixtures::*;
use proptest::prelude::*;
use tidegate_common::cursor::{Cursor, SliceCursor};
use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::Tuple;
use tidegate_common::hairpin;
use tidegate_common::walk::{self, Fragment, KernelLimits, Stop, UserLimits, Walk};
use tidegate_common::wire::geneve::CLASS_AWS;
use tidegate_common::wire::protocol;

const PORT: u16 = 6081;

/// A packet of two buffers read byte by byte, as the kernel's slow cursor sees one: an independent way to the same bytes.
/// It remembers the furthest byte that was asked for.
struct SplitCursor<'a> {
    linear: &'a [u8],
    rest: &'a [u8],
    furthest: Cell<usize>,
}

impl<'a> SplitCursor<'a> {
    fn new(packet: &'a [u8], at: usize) -> Self {
        let (linear, rest) = packet.split_at(at.min(packet.len()));
        SplitCursor {
            linear,
            rest,
            furthest: Cell::new(0),
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        match at.checked_sub(self.linear.len()) {
            None => self.linear.get(at).copied(),
            Some(behind) => self.rest.get(behind).copied(),
        }
    }
}

impl Cursor for SplitCursor<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (i, slot) in bytes.iter_mut().enumerate() {
            *slot = self.byte(offset.checked_add(i)?)?;
        }
        self.furthest.set(self.furthest.get().max(offset + N));
        Some(bytes)
    }

    fn reaches(&self, end: usize) -> bool {
        end <= self.linear.len() + self.rest.len()
    }
}

fn walked(frame: &Frame) -> Walk {
    walk::frame::<UserLimits>(&frame.bytes(), PORT).expect("a sound packet")
}

fn stopped(frame: &Frame) -> Stop {
    walk::frame::<UserLimits>(&frame.bytes(), PORT).expect_err("a packet to stop at")
}

/// The short way through the usual shape is one with the long way: for a load balancer's packet with any byte changed to
/// anything, with any length, and with its lengths changed together.
#[test]
fn the_usual_way_leads_where_the_long_way_does() {
    let agrees = |bytes: &[u8]| {
        let long = walk::frame_in::<UserLimits, _>(&SliceCursor::new(bytes), PORT);
        assert_eq!(walk::frame::<UserLimits>(bytes, PORT), long, "{bytes:02x?}");
    };
    for padding in [0, 9] {
        let bytes = Frame {
            padding,
            ..wrapped(media_v4())
        }
        .bytes();
        for place in 0..120.min(bytes.len()) {
            for value in 0..=u8::MAX {
                let mut other = bytes.clone();
                other[place] = value;
                agrees(&other);
            }
        }
        for length in 0..bytes.len() {
            agrees(&bytes[..length]);
        }
        // Outer IP, outer UDP, inner IP, inner UDP, each around the others.
        for changes in 0..625u16 {
            let mut other = bytes.clone();
            for (n, place) in [16, 38, 84, 106].into_iter().enumerate() {
                let change = i32::from(changes / 5u16.pow(n as u32) % 5) - 2;
                let field = i32::from(u16::from_be_bytes([other[place], other[place + 1]])) + change;
                other[place..place + 2].copy_from_slice(&(field as u16).to_be_bytes());
            }
            agrees(&other);
        }
    }
}

#[test]
fn a_load_balancers_packet_is_understood() {
    for vlans in [vec![], vec![100], vec![100, 200]] {
        let frame = Frame {
            vlans: vlans.clone(),
            padding: 11,
            ..wrapped(media_v4())
        };
        let bytes = frame.bytes();
        let walk = walked(&frame);
        let outer = walk.outer.expect("it was wrapped");
        assert_eq!((outer.vlan, outer.ipv4), (vlans.first().copied(), frame.ipv4_at()));
        assert_eq!((outer.geneve, outer.end), (frame.geneve_at(), bytes.len() - 11));
        assert_eq!(walk.tuple().endpoint, Some(ENDPOINT));
        let encapsulation = walk::encapsulation::<UserLimits>(&bytes, &outer).expect("sound options");
        assert_eq!(encapsulation.endpoint, Some(ENDPOINT));
        assert_eq!(encapsulation.attachment, Some(0x1112_1314_1516_1718));
        assert_eq!(encapsulation.cookie, Some(0x2122_2324));
        assert_eq!(
            (walk.inner_offset, walk.inner_length),
            (frame.inner_at(), frame.inner.len())
        );
        assert_eq!(
            (walk.tuple().source.ip(), walk.tuple().destination.ip()),
            (IpAddr::from(SOURCE), IpAddr::from(DESTINATION))
        );
        assert_eq!(
            (walk.protocol(), walk.ports(), walk.fragment),
            (17, Some((5004, 5000)), Fragment::None)
        );
        assert_eq!(walk.payload(&bytes), Some(&udp(5004, 5000, 188)[8..]));
        assert_eq!(walk.quoted::<UserLimits>(&bytes), None);
        let tuple = walk.tuple();
        assert_eq!(tuple.endpoint, Some(ENDPOINT));
        assert_eq!(
            (tuple.source.to_string().as_str(), tuple.destination.port()),
            ("10.1.2.3:5004", 5000)
        );
    }
}

#[test]
fn options_may_come_in_any_order_or_not_at_all() {
    let mut frame = wrapped(media_v4());
    frame.options.rotate_left(12);
    assert_eq!(walked(&frame).tuple().endpoint, Some(ENDPOINT));
    frame.options = [option(0x0107, 1, 2), frame.options.clone(), option(0x0107, 9, 0)].concat();
    assert_eq!(walked(&frame).tuple().endpoint, Some(ENDPOINT));
    frame.options = option(CLASS_AWS, 1, 1);
    assert_eq!(walked(&frame).tuple().endpoint, None, "an endpoint id has eight bytes");
    frame.options.clear();
    assert_eq!(walked(&frame).tuple().endpoint, None);
    frame.options = option(0x0107, 5, 0).repeat(63);
    assert_eq!(walked(&frame).payload_length, 188);
}

#[test]
fn options_that_do_not_add_up_or_must_be_known_are_refused() {
    let mut frame = wrapped(media_v4());
    frame.options[27] = 2;
    assert_eq!(stopped(&frame), Stop::Malformed(DropReason::GeneveOptions));
    frame.options = option(0x0107, 0x80, 0);
    assert_eq!(
        walked(&frame).payload_length,
        188,
        "only where the header announces a critical option"
    );
    frame.critical = true;
    assert_eq!(stopped(&frame), Stop::Malformed(DropReason::GeneveCriticalOption));
}

#[test]
fn extension_headers_are_followed_as_far_as_the_limits_go() {
    let inner = |count| {
        let payload = extensions(count, protocol::UDP, &udp(7, 8, 9));
        v6(SOURCE6, DESTINATION6, protocol::DESTINATION_OPTIONS, &payload)
    };
    for count in [1, 4, 16] {
        let walk = walked(&wrapped(inner(count)));
        assert_eq!(
            (walk.protocol(), walk.ports(), walk.payload_length),
            (17, Some((7, 8)), 9)
        );
    }
    assert_eq!(stopped(&wrapped(inner(17))), Stop::BeyondLimits);
    let five = wrapped(inner(5)).bytes();
    let cursor = SliceCursor::new(&five);
    assert_eq!(
        walk::frame_in::<KernelLimits, _>(&cursor, PORT),
        Err(Stop::BeyondLimits)
    );
    let outer = walk::outer::<KernelLimits, _>(&cursor, PORT).expect("sound outer headers");
    let admitted = walk::inner::<KernelLimits, _>(&cursor, &outer).expect("admission stops before them");
    assert_eq!(admitted.source, IpAddr::from(SOURCE6));
    // An authentication header counts its length in other units (RFC 4302 2.2): 4 + 2 words are 24 bytes.
    let mut authenticated = vec![protocol::UDP, 4];
    authenticated.resize(24, 0);
    authenticated.extend(udp(7, 8, 9));
    let walk = walked(&wrapped(v6(
        SOURCE6,
        DESTINATION6,
        protocol::AUTHENTICATION,
        &authenticated,
    )));
    assert_eq!((walk.ports(), walk.payload_length), (Some((7, 8)), 9));
    // ESP hides what follows.
    let walk = walked(&wrapped(v6(SOURCE6, DESTINATION6, 50, &[0; 32])));
    assert_eq!((walk.protocol(), walk.ports(), walk.payload_length), (50, None, 32));
}

#[test]
fn fragments_are_told_apart() {
    let first = walked(&wrapped(v4_part(
        SOURCE,
        DESTINATION,
        protocol::UDP,
        0x2000,
        &udp(5, 6, 100)[..64],
    )));
    assert_eq!(
        (first.fragment, first.ports()),
        (Fragment::First { id: 0x4321 }, Some((5, 6)))
    );
    assert_eq!(
        first.payload_length, 56,
        "what is here, not what the datagram's length says"
    );
    let later = walked(&wrapped(v4_part(SOURCE, DESTINATION, protocol::UDP, 0x0008, &[9; 44])));
    assert_eq!(
        (later.fragment, later.ports(), later.payload_length),
        (Fragment::Later { id: 0x4321 }, None, 44)
    );
    let six = |offset, more| {
        let payload = fragment_header(protocol::UDP, offset, more, 0xdead_beef, &udp(5, 6, 40));
        walked(&wrapped(v6(SOURCE6, DESTINATION6, protocol::FRAGMENT, &payload)))
    };
    assert_eq!(
        (six(0, true).fragment, six(0, true).ports()),
        (Fragment::First { id: 0xdead_beef }, Some((5, 6)))
    );
    assert_eq!(
        (six(1, true).fragment, six(1, true).ports()),
        (Fragment::Later { id: 0xdead_beef }, None)
    );
    assert_eq!((six(9, false).protocol(), six(9, false).payload_length), (17, 48));
    assert_eq!(
        (six(0, false).fragment, six(0, false).ports()),
        (Fragment::None, Some((5, 6))),
        "atomic, RFC 6946"
    );
}

#[test]
fn impossible_transports_are_refused() {
    let udp_with = |length: u16| {
        let mut payload = udp(1, 2, 20);
        payload[4..6].copy_from_slice(&length.to_be_bytes());
        wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &payload))
    };
    for length in [0, 7, 29, u16::MAX] {
        assert_eq!(
            stopped(&udp_with(length)),
            Stop::Malformed(DropReason::InnerUdpLength),
            "{length}"
        );
    }
    assert_eq!(walked(&udp_with(20)).payload_length, 12);
    let tcp_with = |words: u8| {
        let mut payload = tcp(1, 2, 8);
        payload[12] = words << 4;
        wrapped(v4(SOURCE, DESTINATION, protocol::TCP, &payload))
    };
    for words in [0, 4, 8, 15] {
        assert_eq!(
            stopped(&tcp_with(words)),
            Stop::Malformed(DropReason::InnerTcpHeader),
            "{words}"
        );
    }
    assert_eq!(
        (walked(&tcp_with(7)).payload_length, walked(&tcp_with(7)).ports()),
        (0, Some((1, 2)))
    );
    let short = wrapped(v4(SOURCE, DESTINATION, protocol::UDP, &[0; 7]));
    assert_eq!(stopped(&short), Stop::Malformed(DropReason::Truncated));
}

#[test]
fn errors_name_the_flow_that_they_quote() {
    let router = std::net::Ipv4Addr::new(198, 51, 100, 1);
    let quoted = |inner| {
        let frame = wrapped(inner);
        walked(&frame).quoted::<UserLimits>(&frame.bytes())
    };
    let of_v4 = quoted(v4(router, SOURCE, protocol::ICMP, &icmp(3, &media_v4()[..28])));
    let expected = Tuple {
        endpoint: Some(ENDPOINT),
        protocol: 17,
        source: (SOURCE, 5004).into(),
        destination: (DESTINATION, 5000).into(),
    };
    assert_eq!(of_v4, Some(expected));
    let of_v6 = quoted(v6(SOURCE6, SOURCE6, protocol::ICMPV6, &icmp(1, &media_v6()[..48])));
    assert_eq!(of_v6.map(|tuple| tuple.destination), Some((DESTINATION6, 5000).into()));
    for inner in [
        v4(router, SOURCE, protocol::ICMP, &icmp(8, &media_v4())),
        v4(router, SOURCE, protocol::ICMP, &icmp(3, &media_v4()[..22])),
        v4(router, SOURCE, protocol::ICMP, &icmp(3, &media_v6())),
        v4_part(router, SOURCE, protocol::ICMP, 0x2000, &icmp(3, &media_v4())),
    ] {
        assert_eq!(quoted(inner), None);
    }
}

#[test]
fn packets_that_were_never_wrapped_share_the_inner_steps() {
    for inner in [media_v4(), media_v6()] {
        let bare = walk::ip::<UserLimits>(&inner).expect("a sound packet");
        let mut framed = wrapped(inner.clone()).bytes()[..12].to_vec();
        framed.extend(if inner[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
        framed.extend(&inner);
        framed.extend([0; 7]);
        let ethernet = walk::ethernet::<UserLimits>(&framed).expect("a sound frame");
        let wrapped = walked(&wrapped(inner.clone()));
        assert_eq!((bare.outer, ethernet.outer), (None, None));
        assert_eq!(
            (bare.ports(), bare.payload_length),
            (wrapped.ports(), wrapped.payload_length)
        );
        assert_eq!(ethernet.payload(&framed), bare.payload(&inner));
        assert_eq!(
            ethernet.tuple(),
            Tuple {
                endpoint: None,
                ..wrapped.tuple()
            }
        );
    }
    assert_eq!(walk::ethernet::<UserLimits>(&[0xff; 60]), Err(Stop::NotForUs));
    assert_eq!(walk::ip::<UserLimits>(&[0x50; 60]), Err(Stop::NotForUs));
    assert_eq!(walk::ip::<UserLimits>(&[]), Err(Stop::Malformed(DropReason::Truncated)));
}

#[test]
fn every_cut_of_a_frame_is_refused_without_a_panic() {
    for frame in [
        wrapped(media_v4()),
        wrapped(media_v6()),
        Frame {
            vlans: vec![3],
            ..wrapped(media_v4())
        },
    ] {
        let bytes = frame.bytes();
        for cut in 0..bytes.len() {
            let stop = walk::frame::<UserLimits>(&bytes[..cut], PORT).expect_err("a cut frame");
            assert!(
                matches!(stop, Stop::Malformed(DropReason::Truncated | DropReason::OuterIpv4)),
                "{cut} bytes: {stop:?}"
            );
        }
    }
}

/// The structure of a frame, mostly sound, with a few bytes changed and its end cut.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let inner = prop_oneof![
        Just(media_v4()),
        Just(media_v6()),
        (0usize..20).prop_map(|count| {
            v6(
                SOURCE6,
                DESTINATION6,
                protocol::DESTINATION_OPTIONS,
                &extensions(count.max(1), 17, &udp(1, 2, 3)),
            )
        }),
        (any::<u16>(), any::<bool>(), any::<u32>()).prop_map(|(offset, more, id)| {
            let payload = fragment_header(17, offset % 0x2000, more, id, &udp(1, 2, 30));
            v6(SOURCE6, DESTINATION6, protocol::FRAGMENT, &payload)
        }),
        any::<u16>().prop_map(|flags| v4_part(SOURCE, DESTINATION, 17, flags, &udp(1, 2, 30))),
        any::<u8>().prop_map(|kind| v4(SOURCE, DESTINATION, protocol::ICMP, &icmp(kind, &media_v4()[..40]))),
        any::<u8>().prop_map(|kind| v6(SOURCE6, SOURCE6, protocol::ICMPV6, &icmp(kind, &media_v6()[..60]))),
        Just(v4(SOURCE, DESTINATION, protocol::TCP, &tcp(1, 2, 3))),
    ];
    let options = prop::collection::vec((any::<u16>(), any::<u8>(), 0u8..4), 0..12).prop_map(|options| {
        options
            .into_iter()
            .flat_map(|(class, kind, words)| option(class, kind, words))
            .collect::<Vec<u8>>()
    });
    let frame = (
        inner,
        prop_oneof![Just(None), options.prop_map(Some)],
        0usize..3,
        any::<bool>(),
        0usize..30,
    );
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (frame, edits, any::<prop::sample::Index>(), prop::bool::weighted(0.2)).prop_map(
        |((inner, options, vlans, critical, padding), edits, cut, cuts)| {
            let mut frame = wrapped(inner);
            frame.vlans = vec![5; vlans];
            frame.critical = critical;
            frame.padding = padding;
            if let Some(options) = options {
                frame.options = options;
            }
            let mut bytes = frame.bytes();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

fn packets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..400)]
}

/// Everything that a walk promises about itself.
fn check_promises(walk: &Walk, packet: &[u8]) -> Result<(), TestCaseError> {
    let inner_end = walk.inner_offset + walk.inner_length;
    prop_assert!(inner_end <= packet.len());
    prop_assert!(walk.payload_offset >= walk.inner_offset && walk.payload_offset + walk.payload_length <= inner_end);
    prop_assert!(
        walk.payload(packet)
            .is_some_and(|payload| payload.len() == walk.payload_length)
    );
    prop_assert_eq!(walk.tuple().source.is_ipv4(), walk.tuple().destination.is_ipv4());
    if let Some(outer) = walk.outer {
        prop_assert!(outer.ipv4 < outer.geneve && outer.geneve < walk.inner_offset);
        prop_assert!(inner_end <= outer.end && outer.end <= packet.len());
        let endpoint = walk::encapsulation::<UserLimits>(packet, &outer).map(|all| all.endpoint);
        prop_assert_eq!(endpoint, Ok(walk.tuple().endpoint));
    }
    if matches!(walk.fragment, Fragment::Later { .. }) {
        prop_assert_eq!(walk.ports(), None);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic_and_what_it_finds_is_inside(packet in packets()) {
        if let Ok(walk) = walk::frame::<UserLimits>(&packet, PORT) {
            check_promises(&walk, &packet)?;
        }
        if let Ok(walk) = walk::ethernet::<UserLimits>(&packet) {
            check_promises(&walk, &packet)?;
        }
        if let Ok(walk) = walk::ip::<UserLimits>(&packet) {
            check_promises(&walk, &packet)?;
        }
    }

    #[test]
    fn cursors_agree(packet in packets(), split in 0usize..300) {
        let slice = SliceCursor::new(&packet);
        let cursor = SplitCursor::new(&packet, split);
        prop_assert_eq!(
            walk::frame_in::<KernelLimits, _>(&slice, PORT),
            walk::frame_in::<KernelLimits, _>(&cursor, PORT)
        );
        prop_assert_eq!(
            walk::frame_in::<UserLimits, _>(&slice, PORT),
            walk::frame_in::<UserLimits, _>(&cursor, PORT)
        );
        prop_assert_eq!(walk::frame::<UserLimits>(&packet, PORT), walk::frame_in::<UserLimits, _>(&slice, PORT));
        prop_assert_eq!(walk::ip_in::<UserLimits, _>(&slice, 0), walk::ip_in::<UserLimits, _>(&cursor, 0));
        prop_assert!(cursor.furthest.get() <= packet.len());
    }

    /// What the kernel admits or refuses, the worker's longer walk does not contradict.
    #[test]
    fn the_kernels_steps_agree_with_the_whole_walk(packet in packets()) {
        let cursor = SliceCursor::new(&packet);
        let whole = walk::frame::<UserLimits>(&packet, PORT);
        let admitted = walk::outer::<KernelLimits, _>(&cursor, PORT).and_then(|outer| {
            walk::inner::<KernelLimits, _>(&cursor, &outer).map(|inner| (outer, inner))
        });
        match (admitted, whole) {
            (Ok((outer, inner)), Ok(walk)) => {
                prop_assert_eq!(Some(outer), walk.outer);
                prop_assert_eq!((inner.source, inner.destination), (walk.tuple().source.ip(), walk.tuple().destination.ip()));
                prop_assert_eq!((inner.offset, inner.end - inner.offset), (walk.inner_offset, walk.inner_length));
                let quoted = walk::quoted_source::<KernelLimits, _>(&cursor, &inner);
                if let Some(quoted) = quoted {
                    prop_assert!(inner.may_quote());
                    prop_assert_eq!(quoted, inner.destination);
                }
            }
            // The kernel skips options that nobody calls critical, and never looks at the transport.
            (Ok(_), Err(Stop::Malformed(reason))) => prop_assert!(matches!(
                reason,
                DropReason::GeneveOptions | DropReason::InnerUdpLength | DropReason::InnerTcpHeader | DropReason::Truncated
            )),
            (Ok(_), Err(stop)) => prop_assert_eq!(stop, Stop::BeyondLimits),
            (Err(Stop::NotForUs), Ok(walk)) => {
                // Only user space follows a second tag.
                prop_assert_eq!(walk.outer.map(|outer| outer.ipv4), Some(22));
            }
            (Err(Stop::BeyondLimits), _) => {}
            (Err(Stop::NotForUs), Err(_)) => {}
            // Both refuse; the whole walk may have found the options at fault first.
            (Err(Stop::Malformed(reason)), whole) => prop_assert!(
                whole == Err(Stop::Malformed(reason)) || whole == Err(Stop::Malformed(DropReason::GeneveOptions)),
                "{:?}, {:?}", reason, whole
            ),
        }
    }

    #[test]
    fn a_returned_packet_differs_only_where_it_must(packet in mutated(), ttl in any::<u8>()) {
        let mut packet = packet;
        if let Ok(outer) = walk::outer::<UserLimits, _>(&SliceCursor::new(&packet), PORT) {
            packet[outer.ipv4 + 8] = ttl;
            fix_checksum(&mut packet[outer.ipv4..]);
            let before = packet.clone();
            prop_assert!(hairpin::turn_outer_around(&mut packet, &outer));
            prop_assert_eq!(&packet, &returned(&before, outer.ipv4));
            // There and back again, but for the TTL.
            prop_assert!(hairpin::turn_outer_around(&mut packet, &outer));
            prop_assert_eq!(&packet[..outer.ipv4 + 8], &before[..outer.ipv4 + 8]);
            prop_assert_eq!(&packet[outer.ipv4 + 12..], &before[outer.ipv4 + 12..]);
            let header = usize::from(packet[outer.ipv4] & 15) * 4;
            prop_assert_eq!(naive_checksum(&packet[outer.ipv4..outer.ipv4 + header]), 0);
        }
    }
}

#[test]
fn a_frame_that_is_not_the_one_walked_is_left_alone() {
    let frame = wrapped(media_v4());
    let walk = walked(&frame);
    let mut short = frame.bytes()[..30].to_vec();
    assert!(!hairpin::turn_around(&mut short, &walk));
    assert_eq!(short, frame.bytes()[..30]);
    let bare = walk::ip::<UserLimits>(&media_v4()).expect("a sound packet");
    let mut bytes = frame.bytes();
    assert!(!hairpin::turn_around(&mut bytes, &bare));
    assert_eq!(bytes, frame.bytes());
    // A wrong checksum is not made right in passing.
    bytes[frame.ipv4_at() + 10] ^= 1;
    assert!(hairpin::turn_around(&mut bytes, &walk));
    let sum = naive_checksum(&bytes[frame.ipv4_at()..frame.udp_at()]);
    assert!(sum != 0 && sum != 0xffff, "{sum:04x}");
}
