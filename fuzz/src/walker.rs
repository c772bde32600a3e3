//! The walker from Ethernet to the inner payload, with the limits of the kernel and of user space.

use tidegate_common::hairpin;
use tidegate_common::walk::{self, Fragment, KernelLimits, Stop, UserLimits, Walk};

use super::packets::{ipv4, rtp, tcp, udp, wrapped};

const PORT: u16 = 6081;

/// Walks the input every way there is.
pub fn run(data: &[u8]) {
    let user = walk::frame::<UserLimits>(data, PORT);
    let kernel = walk::frame::<KernelLimits>(data, PORT);
    match (&kernel, &user) {
        (Ok(_), _) => assert_eq!(kernel, user, "the larger walker sees the same"),
        // What the kernel gives up, or takes for none of ours after one tag, user space may understand.
        (Err(Stop::BeyondLimits | Stop::NotForUs), _) => {}
        (Err(Stop::Malformed(_)), _) => assert!(user.is_err(), "what is malformed to one is not sound to the other"),
    }
    for walk in [walk::ethernet::<UserLimits>(data), walk::ip::<UserLimits>(data)]
        .into_iter()
        .flatten()
    {
        check(&walk, data);
    }
    if let Ok(walk) = user {
        check(&walk, data);
        turn_around(&walk, data);
    }
}

fn check(walk: &Walk, packet: &[u8]) {
    let inner_end = walk.inner_offset + walk.inner_length;
    assert!(inner_end <= packet.len());
    assert!(walk.inner_offset <= walk.payload_offset && walk.payload_offset + walk.payload_length <= inner_end);
    assert!(walk.inner_offset <= walk.transport_offset && walk.transport_offset <= walk.payload_offset);
    assert_eq!(walk.payload(packet).map(<[u8]>::len), Some(walk.payload_length));
    assert_eq!(walk.tuple().source.is_ipv4(), walk.tuple().destination.is_ipv4());
    if matches!(walk.fragment, Fragment::Later { .. }) {
        assert_eq!(walk.ports(), None);
    }
    if let Some(header) = walk.tcp(packet) {
        assert_eq!(walk.ports(), Some((header.source_port(), header.destination_port())));
    }
    let tuple = walk.tuple();
    assert_eq!(tuple.canonical(), (walk.key, walk.direction));
}

/// A frame that goes back is the same from GENEVE on, and turned around twice has its addresses again.
fn turn_around(walk: &Walk, frame: &[u8]) {
    let mut back = frame.to_vec();
    assert!(hairpin::turn_around(&mut back, walk));
    let geneve = walk.outer.map_or(0, |outer| outer.geneve);
    assert_eq!(back[geneve..], frame[geneve..]);
    let again = walk::frame::<UserLimits>(&back, PORT).ok();
    // A frame from a group address is none that could go back as unicast; the appliance's own never is.
    if frame[6] & 1 == 0 {
        assert_eq!(again.as_ref(), Some(walk));
    }
    assert!(hairpin::turn_around(&mut back, walk));
    assert_eq!(back[..12], frame[..12]);
}

/// UDP, TCP, an IPv6 packet with extension headers, and an ICMP error that quotes.
pub fn seeds() -> Vec<Vec<u8>> {
    let media = ipv4(
        17,
        [10, 0, 0, 1],
        [10, 0, 9, 9],
        &udp(5004, 5000, &rtp(33, 1, 7, &[0x47; 188])),
    );
    let segment = ipv4(6, [10, 0, 0, 1], [10, 0, 9, 9], &tcp([40_000, 1935], 2, 1, 0, b""));
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend_from_slice(&media[..28]);
    let error = ipv4(1, [10, 0, 9, 9], [10, 0, 0, 1], &error);
    let mut v6 = vec![0x60, 0, 0, 0, 0, 40, 0, 64];
    v6.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(2));
    v6.extend_from_slice(&[
        60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 9,
    ]);
    v6.extend_from_slice(&udp(5004, 5000, &[0; 8]));
    [media, segment, error, v6]
        .into_iter()
        .flat_map(|inner| [wrapped(&inner), inner])
        .collect()
}
