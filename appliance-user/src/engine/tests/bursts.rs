//! A burst is decided about as its packets one by one: nothing that is looked up ahead may decide anything.

use proptest::prelude::*;

use super::*;

/// What a step sends.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// The next packet of one of so many senders.
    Media { sender: u8 },
    /// The same with another number or another SSRC.
    Strange { sender: u8, number: u16, ssrc: u32 },
    /// A packet of a sender that no rule lists.
    Unlisted(u8),
    /// What a router says of a sender's packet.
    Error { sender: u8 },
    /// The first part of a datagram, or another one.
    Part { sender: u8, first: bool },
    /// Bare TS packets, or RTCP, from a sender's address.
    Other { sender: u8, rtcp: bool },
    /// A frame cut short, or with a byte changed.
    Broken { sender: u8, place: u16, value: u8 },
}

fn sent() -> impl Strategy<Value = Sent> {
    let sender = || 0u8..12;
    prop_oneof![
        12 => sender().prop_map(|sender| Sent::Media { sender }),
        1 => (sender(), any::<u16>(), 0u32..3).prop_map(|(sender, number, ssrc)| Sent::Strange { sender, number, ssrc }),
        1 => any::<u8>().prop_map(Sent::Unlisted),
        1 => sender().prop_map(|sender| Sent::Error { sender }),
        1 => (sender(), any::<bool>()).prop_map(|(sender, first)| Sent::Part { sender, first }),
        1 => (sender(), any::<bool>()).prop_map(|(sender, rtcp)| Sent::Other { sender, rtcp }),
        2 => (sender(), any::<u16>(), any::<u8>()).prop_map(|(sender, place, value)| Sent::Broken { sender, place, value }),
    ]
}

fn of(sender: u8, payload: &[u8]) -> Vec<u8> {
    wrapped(SocketAddr::from(([10, 0, 0, sender], 40_000)), receiver(), payload)
}

/// The frame of a step; `numbers` are the senders' own.
fn frame(sent: Sent, numbers: &mut [u16; 12]) -> Vec<u8> {
    let mut next = |sender: u8| {
        let number = &mut numbers[usize::from(sender)];
        *number = number.wrapping_add(1);
        rtp(*number, 7)
    };
    match sent {
        Sent::Media { sender } => of(sender, &next(sender)),
        Sent::Strange { sender, number, ssrc } => of(sender, &rtp(number, ssrc)),
        Sent::Unlisted(last) => wrapped(SocketAddr::from(([172, 16, 0, last], 1)), receiver(), &rtp(1, 1)),
        Sent::Error { sender } => {
            let quoted = ipv4([10, 0, 0, sender], [10, 0, 9, 9], 17, &udp(40_000, 5000, &[0; 8]));
            let message = [&[3, 3, 0, 0, 0, 0, 0, 0], quoted.as_slice()].concat();
            wrap(&ipv4([10, 0, 9, 9], [10, 0, 0, sender], 1, &message))
        }
        Sent::Part { sender, first } => {
            let payload = if first {
                udp(40_000, 5000, &next(sender))
            } else {
                vec![0; 64]
            };
            let mut inner = ipv4([10, 0, 0, sender], [10, 0, 9, 9], 17, &payload);
            inner[6..8].copy_from_slice(&if first { [0x20, 0] } else { [0, 9] });
            wrap(&inner)
        }
        Sent::Other { sender, rtcp: true } => of(sender, &[0x80, 201, 0, 1, 0, 0, 0, 7]),
        Sent::Other { sender, rtcp: false } => of(sender, &ts_packet(256, 0, 0)),
        Sent::Broken { sender, place, value } => {
            let mut frame = of(sender, &next(sender));
            let place = usize::from(place) % frame.len();
            frame[place] = value;
            if value.is_multiple_of(3) {
                frame.truncate(place);
            }
            frame
        }
    }
}

fn engine(observes: bool) -> Engine {
    Engine::new(Config {
        // Fewer than there are senders: flows make room for one another, also within a burst.
        max_flows: if observes { 4 } else { 8 },
        seed: 5,
        keep_gone: true,
        ..Config::default()
    })
}

/// Everything that an engine tells.
fn told(engine: &mut Engine) -> String {
    engine.finish();
    let events: Vec<_> = std::iter::from_fn(|| engine.next_event()).collect();
    format!("{:#?}\n{:#?}\n{events:#?}", engine.counters(), engine.streams())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_burst_is_decided_about_as_its_packets(
        bursts in prop::collection::vec((prop::collection::vec(sent(), 0..40), 0u64..1500), 1..12),
        observes in any::<bool>(),
    ) {
        let policy = if observes { Policy::observe_all() } else { rtp_policy("enforce = true") };
        let published = Published { policy: &policy, generation: 1 };
        let (mut one, mut other) = (engine(observes), engine(observes));
        let (mut numbers, mut ms) = ([0; 12], 0);
        for (burst, pause) in bursts {
            ms += pause;
            let mut frames: Vec<Vec<u8>> = burst.into_iter().map(|sent| frame(sent, &mut numbers)).collect();
            let mut singly = frames.clone();
            let expected: Vec<Verdict> = singly
                .iter_mut()
                .map(|frame| one.process(at_ms(ms), &published, frame))
                .collect();
            let (mut decided, mut verdicts) = (Vec::new(), Vec::new());
            other.process_burst(at_ms(ms), &published, &mut frames, Vec::as_mut_slice, |frame, verdict| {
                decided.push(frame.clone());
                verdicts.push(verdict);
            });
            prop_assert_eq!(&decided, &singly);
            prop_assert_eq!(verdicts, expected);
            prop_assert_eq!(frames, singly);
            one.tick(at_ms(ms), 16);
            other.tick(at_ms(ms), 16);
        }
        prop_assert_eq!(told(&mut one), told(&mut other));
    }
}
