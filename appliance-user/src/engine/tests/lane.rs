//! The short lane decides nothing: whatever goes into it and out of it, an engine without it tells the same.

use proptest::prelude::*;

use super::scenarios::BLOCK;
use super::*;
use crate::engine::counters::Counters;
use crate::engine::event::StreamEvent;

/// The packets of one sender, of whom there are so few that most go on from each other.
const SENDERS: u8 = 3;
const SSRC: u32 = 8;

/// What a step does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many packets that only go on.
    Media { sender: u8, count: u8 },
    /// One that is changed in this way.
    Odd(u8, Odd),
    /// RTCP beside media, on the port after it, or FEC.
    Companion { sender: u8, port: u16, kind: u8 },
    /// The sender's numbers, or its time stamps, jump.
    Jump { sender: u8, numbers: u16, stamps: u32 },
    /// The engine did not see everything.
    Blind,
    /// Another policy, or the same one under another number.
    Policy(u8),
    /// Nothing comes for some time.
    Pause(u16),
}

#[derive(Clone, Copy, Debug)]
enum Odd {
    Ssrc(u32),
    Type(u8),
    Marker,
    Padding,
    Extension,
    Csrc,
    /// A counter is wrong by the sender's fault.
    Fault,
    Sync,
    Short(u16),
    /// The other way.
    Reply,
    /// The first part of a datagram.
    Part,
    Version,
    Again,
    Early(u16),
}

fn odd() -> impl Strategy<Value = Odd> {
    prop_oneof![
        (0u32..4).prop_map(|low| Odd::Ssrc(SSRC + low)),
        prop_oneof![Just(96), Just(72), any::<u8>()].prop_map(Odd::Type),
        Just(Odd::Marker),
        Just(Odd::Padding),
        Just(Odd::Extension),
        Just(Odd::Csrc),
        Just(Odd::Fault),
        Just(Odd::Fault),
        Just(Odd::Sync),
        (0u16..1340).prop_map(Odd::Short),
        Just(Odd::Reply),
        Just(Odd::Part),
        Just(Odd::Version),
        Just(Odd::Again),
        (1u16..5).prop_map(Odd::Early),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let sender = || 0..SENDERS;
    prop_oneof![
        12 => (sender(), 1u8..30).prop_map(|(sender, count)| Step::Media { sender, count }),
        8 => (sender(), odd()).prop_map(|(sender, odd)| Step::Odd(sender, odd)),
        2 => (sender(), 0u16..5, 0u8..4).prop_map(|(sender, port, kind)| Step::Companion { sender, port, kind }),
        1 => (sender(), any::<u16>(), any::<u32>()).prop_map(|(sender, numbers, stamps)| Step::Jump { sender, numbers, stamps }),
        1 => (sender(), 0u16..3, any::<u32>()).prop_map(|(sender, numbers, stamps)| Step::Jump { sender, numbers, stamps }),
        1 => Just(Step::Blind),
        1 => (0u8..8).prop_map(Step::Policy),
        1 => prop_oneof![0u16..100, 0u16..4000].prop_map(Step::Pause),
    ]
}

/// Policies that differ in what they say of the senders, or in nothing.
fn policies() -> Vec<Policy> {
    let of = |protocol: &str, extra: &str| {
        policy(&format!(
            "[[rule]]\nname = \"studio\"\nprotocol = \"{protocol}\"\nsource = [\"10.0.0.0/24\"]\ndestination_port = [5000]\n{extra}"
        ))
    };
    let block = format!("enforce = true\nsilence = \"1s\"\n{BLOCK}");
    vec![
        of("rtp", &block),
        of("rtp", "enforce = true\nrtp = { payload_type = [33] }"),
        of("rtp", "rtp = { payload_type = [96], max_ssrc = 2 }"),
        of("rtp", "enforce = true\nts = { malformed_ts = \"drop\" }"),
        of("rtp-fec", &block.replace("enforce = true", "enforce = false")),
        of("rist", &block),
        of("any", ""),
        Policy::observe_all(),
    ]
}

/// Two engines, one of which has no short lane, and what they are given.
struct Twins {
    engines: [Engine; 2],
    policies: Vec<Policy>,
    policy: usize,
    generation: u64,
    ms: u64,
    numbers: [u16; SENDERS as usize],
    stamps: [u32; SENDERS as usize],
}

impl Twins {
    fn new(policy: u8) -> Self {
        let config = Config {
            max_flows: 16,
            seed: 5,
            keep_gone: true,
            ..Config::default()
        };
        let mut without = Engine::new(config);
        without.without_lane = true;
        let policies = policies();
        Twins {
            engines: [Engine::new(config), without],
            policy: usize::from(policy) % policies.len(),
            policies,
            generation: 1,
            ms: 0,
            numbers: [0; SENDERS as usize],
            stamps: [0; SENDERS as usize],
        }
    }

    /// A sender's next packet.
    fn next(&mut self, sender: u8) -> Vec<u8> {
        let place = usize::from(sender);
        self.numbers[place] = self.numbers[place].wrapping_add(1);
        self.stamps[place] = self.stamps[place].wrapping_add(90);
        let mut packet = rtp(self.numbers[place], SSRC);
        packet[4..8].copy_from_slice(&self.stamps[place].to_be_bytes());
        packet
    }

    fn offer(&mut self, frame: &[u8]) {
        let published = Published {
            policy: &self.policies[self.policy],
            generation: self.generation,
        };
        let [one, other] = self.engines.each_mut().map(|engine| {
            let mut frame = frame.to_vec();
            let verdict = engine.process(at_ms(self.ms), &published, &mut frame);
            (verdict, frame)
        });
        assert!(one == other, "at {} ms: {:?} and {:?}", self.ms, one.0, other.0);
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
        for engine in &mut self.engines {
            engine.tick(at_ms(self.ms), 16);
        }
    }

    fn odd(&mut self, sender: u8, odd: Odd) {
        let (from, to) = (address(sender), receiver());
        let mut packet = match odd {
            Odd::Again => rtp(self.numbers[usize::from(sender)], SSRC),
            Odd::Early(ahead) => rtp(self.numbers[usize::from(sender)].wrapping_add(1 + ahead), SSRC),
            _ => self.next(sender),
        };
        match odd {
            Odd::Ssrc(ssrc) => packet[8..12].copy_from_slice(&ssrc.to_be_bytes()),
            Odd::Type(kind) => packet[1] = kind,
            Odd::Marker => packet[1] |= 0x80,
            Odd::Padding => {
                packet[0] |= 0x20;
                packet.extend([0, 0, 0, 4]);
            }
            Odd::Extension => {
                packet[0] |= 0x10;
                packet.splice(12..12, [0xab, 0xcd, 0, 1, 1, 2, 3, 4]);
            }
            Odd::Csrc => {
                packet[0] |= 1;
                packet.splice(12..12, [1, 2, 3, 4]);
            }
            Odd::Fault => packet[12 + 3] ^= 8,
            Odd::Sync => packet[12 + 188] = 0x46,
            Odd::Short(length) => packet.resize(usize::from(length), 0),
            Odd::Version => packet[0] = 0x40,
            Odd::Reply => return self.offer(&wrapped(to, from, &packet)),
            Odd::Part => {
                let mut inner = ipv4([10, 0, 0, sender], [10, 0, 9, 9], 17, &udp(40_000, 5000, &packet));
                inner[6..8].copy_from_slice(&[0x20, 0]);
                return self.offer(&wrap(&inner));
            }
            Odd::Again | Odd::Early(_) => {}
        }
        self.offer(&wrapped(from, to, &packet));
    }

    fn companion(&mut self, sender: u8, port: u16, kind: u8) {
        let payload = match kind {
            0 => vec![0x80, 201, 0, 1, 0, 0, 0, SSRC as u8],
            1 => [&[0x81, 203, 0, 1], &SSRC.to_be_bytes()[..]].concat(),
            2 => [&[0x81, 205, 0, 3, 0, 0, 0, 1], &SSRC.to_be_bytes()[..], &[0, 1, 0, 0]].concat(),
            _ => {
                let base = self.numbers[usize::from(sender)].to_be_bytes();
                let header = [&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &base[..]].concat();
                [&header[..], &[0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0], &[0; 1316]].concat()
            }
        };
        let to = SocketAddr::new(receiver().ip(), 5000 + port);
        self.offer(&wrapped(address(sender), to, &payload));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Media { sender, count } => {
                for n in 0..count {
                    let packet = self.next(sender);
                    self.offer(&wrapped(address(sender), receiver(), &packet));
                    self.pass(u64::from(n % 2));
                }
            }
            Step::Odd(sender, odd) => self.odd(sender, odd),
            Step::Companion { sender, port, kind } => self.companion(sender, port, kind),
            Step::Jump {
                sender,
                numbers,
                stamps,
            } => {
                let (number, stamp) = (
                    &mut self.numbers[usize::from(sender)],
                    &mut self.stamps[usize::from(sender)],
                );
                *number = number.wrapping_add(numbers);
                *stamp = stamp.wrapping_add(stamps);
            }
            Step::Blind => self.engines.iter_mut().for_each(Engine::blind),
            Step::Policy(policy) => {
                self.policy = usize::from(policy) % self.policies.len();
                self.generation += 1;
            }
            Step::Pause(ms) => self.pass(u64::from(ms)),
        }
    }

    /// What both tell: it must be the same. How many packets took the lane.
    fn compare(mut self) -> u64 {
        let last: Vec<_> = self.engines.iter().map(|engine| engine.activity().clone()).collect();
        assert_eq!(last[0], last[1]);
        let [one, other] = self
            .engines
            .each_mut()
            .map(|engine| -> (Counters, _, Vec<StreamEvent>) {
                engine.finish();
                let events = core::iter::from_fn(|| engine.next_event()).collect();
                (engine.counters(), engine.streams(), events)
            });
        assert_eq!(format!("{one:#?}"), format!("{other:#?}"));
        let [with, without] = self.engines;
        assert_eq!(without.in_lane, 0);
        with.in_lane
    }
}

fn address(sender: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, sender], 40_000))
}

#[test]
fn usual_packets_take_the_lane_and_odd_ones_do_not() {
    for policy in [0, 1, 4, 6, 7] {
        let mut twins = Twins::new(policy);
        twins.step(Step::Media { sender: 0, count: 20 });
        let before = twins.engines[0].in_lane;
        assert!(before >= 16, "policy {policy}: {before}");
        for odd in [
            Odd::Type(96),
            Odd::Padding,
            Odd::Extension,
            Odd::Csrc,
            Odd::Short(12 + 188),
            Odd::Part,
            Odd::Reply,
            Odd::Version,
        ] {
            twins.step(Step::Odd(0, odd));
        }
        assert_eq!(twins.engines[0].in_lane, before, "policy {policy}");
        twins.step(Step::Odd(0, Odd::Marker));
        twins.compare();
    }
    for policy in [2, 3, 5] {
        let mut twins = Twins::new(policy);
        twins.step(Step::Media { sender: 0, count: 20 });
        assert_eq!(twins.compare(), 0, "policy {policy}");
    }
}

#[test]
fn a_stream_is_blocked_and_held_in_the_lane_too() {
    let mut twins = Twins::new(0);
    twins.step(Step::Media { sender: 0, count: 29 });
    twins.step(Step::Odd(0, Odd::Fault));
    for _ in 0..200 {
        twins.step(Step::Media { sender: 0, count: 29 });
    }
    let dropped = twins.engines[0].counters().dropped[DropReason::StreamBlocked.index()];
    assert!(dropped > 1000, "{dropped}");
    let counters = twins.engines[0].counters();
    assert!(counters.returned > 1000, "it comes back: {counters:?}");
    assert!(twins.compare() > 5000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn an_engine_without_the_lane_tells_the_same(
        steps in prop::collection::vec(step(), 1..60),
        policy in 0u8..8,
    ) {
        let mut twins = Twins::new(policy);
        for step in steps {
            twins.step(step);
        }
        twins.compare();
    }
}
