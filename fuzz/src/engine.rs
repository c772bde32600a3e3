//! The engine fed with sequences of packets and steps of time, by a rule of every protocol or by none.
//!
//! Every packet ends in one way and is counted there; a frame that goes back is the same from GENEVE on, and others are not
//! touched; flows, streams and memory stay within what the engine was given, and all of it comes back when the flows are idle.

use std::sync::OnceLock;

use tidegate::engine::event::EVENT_CAPACITY;
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate::policy::{self, Policy};
use tidegate_common::walk::{self, UserLimits};
use zeroize::Zeroizing;

use super::{Take, packets, srt};

/// A rule of every protocol, each on a port of its own.
pub const POLICY: &str = r##"version = 1
default_action = "drop"
[[rule]]
name = "rtp"
protocol = "rtp"
source = ["10.0.0.0/24"]
destination_port = [5000]
[rule.rtp]
payload_type = [33, 96]
max_ssrc = 2
[rule.ts]
continuity = { max_incidents = 1, window = "1s", on_exceed = "block", hold = "2s" }
tr101290 = { priority = 3, max_violations = 1, window = "1s" }
malformed_ts = "drop"
bitrate = { min = "1Mbps", max = "25Mbps", window = "1s" }
[[rule]]
name = "fec"
protocol = "rtp-fec"
source = ["10.0.0.0/24"]
destination_port = [5010]
[[rule]]
name = "rist"
protocol = "rist"
source = ["10.0.0.0/24"]
destination_port = [5020]
enforce = false
[[rule]]
name = "srt"
protocol = "srt"
source = ["10.0.0.0/24"]
destination_port = [5030]
[rule.srt]
stream_id = ["#!::r=*", ""]
passphrase_file = "secret"
[[rule]]
name = "ts"
protocol = "ts-udp"
source = ["10.0.0.0/24"]
destination_port = [5040]
[[rule]]
name = "rtmp"
protocol = "rtmp"
source = ["10.0.0.0/24"]
destination_port = [1935]
[rule.rtmp]
application = ["live"]
stream_key_file = "secret"
[[rule]]
name = "any"
protocol = "any"
source = ["10.0.0.0/24"]
destination_port = [5050]
"##;
const PORTS: [u16; 8] = [5000, 5010, 5012, 5020, 5030, 5040, 1935, 5050];
/// Where whole tables are sent, and their table_ids.
const TABLE_PIDS: [(u16, u8); 6] = [(0, 0), (256, 2), (257, 2), (1, 1), (17, 0x42), (258, 0xfc)];
const FLOWS: usize = 8;
/// What streams may hold beyond their first packets; little, so that running out of it is found too.
const MEMORY: usize = 1 << 20;
/// Longer than any flow may be idle.
const IDLE_NS: u64 = 400_000_000_000;

/// The first byte chooses the policy; each step then is a byte that says what, and what that takes.
pub fn run(data: &[u8]) {
    let mut input = Take(data);
    let mut bench = Bench::new(input.byte());
    while !input.0.is_empty() {
        bench.step(&mut input);
        assert!(bench.engine.counters().reconciles());
        assert!(bench.engine.counters().flows <= FLOWS as u64);
    }
    bench.finish();
}

struct Bench {
    engine: Engine,
    policies: [&'static Policy; 2],
    generation: u64,
    now: u64,
    /// Continuity counters of the PIDs that carry tables.
    counters: [u8; TABLE_PIDS.len()],
}

impl Bench {
    fn new(choice: u8) -> Bench {
        let by_rule = policies();
        Bench {
            engine: Engine::new(Config {
                max_flows: FLOWS,
                memory: MEMORY,
                ..Config::default()
            }),
            policies: match choice % 3 {
                0 => [&by_rule[0], &by_rule[0]],
                1 => [&by_rule[1], &by_rule[1]],
                _ => [&by_rule[0], &by_rule[1]],
            },
            generation: 1,
            now: 1_000_000_000,
            counters: [0; TABLE_PIDS.len()],
        }
    }

    fn step(&mut self, input: &mut Take<'_>) {
        let what = input.byte();
        // One of eight ports, either way, two sources for each.
        let choice = input.byte();
        match what & 7 {
            0 => {
                let length = usize::from(input.word() % 2048);
                self.bare(input.bytes(length));
            }
            1 => self.datagram(choice, &payload(input)),
            2 if what & 8 != 0 && choice & 0x20 != 0 => {
                let sequence = input.word();
                for (place, datagram) in self.tables(input).chunks(7).enumerate() {
                    let sequence = sequence.wrapping_add(place as u16);
                    self.datagram(choice, &packets::rtp(33, sequence, 1, &datagram.concat()));
                }
            }
            2 => {
                let (sequence, ssrc) = (input.word(), u32::from(input.byte() & 3));
                let kind = if what & 8 == 0 { 33 } else { 96 };
                self.datagram(choice, &packets::rtp(kind, sequence, ssrc, &media(input)));
            }
            3 => {
                let (sequence, id) = (u32::from(input.word()), u32::from(input.byte() & 3));
                self.datagram(choice, &packets::srt_data(sequence, id, &media(input)));
            }
            4 => {
                let (flags, sequence) = (input.byte(), u32::from(input.word()));
                let payload = payload(input);
                let ports = ends(choice);
                let segment = packets::tcp([ports.0.1, ports.1.1], flags, sequence, sequence, &payload);
                self.inner(choice, &packets::ipv4(6, ports.0.0, ports.1.0, &segment));
            }
            5 => {
                // From a microsecond to over an hour.
                self.now += 1000u64 << (choice & 31);
                self.engine.tick(Timestamp::from_nanos(self.now), FLOWS);
            }
            6 if what & 8 == 0 => self.engine.blind(),
            6 => self.generation += 1,
            _ => {
                let length = usize::from(input.word() % 2048);
                self.frame(input.bytes(length).to_vec());
            }
        }
        self.now += u64::from(what >> 4) * 100_000;
    }

    /// Whole tables: a PAT, PMTs, a CAT, an SDT and splice sections of what the input says, each with its CRC-32.
    fn tables(&mut self, input: &mut Take<'_>) -> Vec<[u8; 188]> {
        let mut tables = Vec::new();
        for _ in 0..input.byte() & 15 {
            let (kind, version) = (usize::from(input.byte()), input.byte());
            let place = kind % TABLE_PIDS.len();
            let (pid, table_id) = TABLE_PIDS[place];
            let programme = u16::from(input.byte() & 3);
            let length = usize::from(input.byte()) << (kind >> 6);
            let listed = input.bytes(length);
            let body = match table_id {
                0 => listed.iter().flat_map(|n| [0, n & 3, 0xe1, n >> 7]).collect(),
                // Components of any type on a few PIDs, without descriptors.
                2 => [0xe1, version & 3, 0xf0, 0]
                    .into_iter()
                    .chain(
                        listed
                            .chunks(2)
                            .flat_map(|c| [c[0], 0xe1, *c.last().unwrap_or(&2), 0xf0, 0]),
                    )
                    .collect(),
                _ => listed.to_vec(),
            };
            let section = packets::section(table_id, programme, version, &body);
            tables.extend(packets::ts_section(pid, &mut self.counters[place], &section));
        }
        tables
    }

    fn datagram(&mut self, choice: u8, payload: &[u8]) {
        let (from, to) = ends(choice);
        self.inner(
            choice,
            &packets::ipv4(17, from.0, to.0, &packets::udp(from.1, to.1, payload)),
        );
    }

    fn inner(&mut self, choice: u8, packet: &[u8]) {
        if choice & 0x80 == 0 {
            self.bare(packet);
        } else {
            self.frame(packets::wrapped(packet));
        }
    }

    fn published(&self) -> Published<'static> {
        Published {
            policy: self.policies[usize::from(self.generation.is_multiple_of(2))],
            generation: self.generation,
        }
    }

    fn bare(&mut self, packet: &[u8]) {
        let published = self.published();
        self.engine
            .process_bare(Timestamp::from_nanos(self.now), &published, packet);
    }

    fn frame(&mut self, mut frame: Vec<u8>) {
        let before = frame.clone();
        let geneve = walk::frame::<UserLimits>(&before, 6081)
            .ok()
            .and_then(|walk| walk.outer);
        let published = self.published();
        let verdict = self
            .engine
            .process(Timestamp::from_nanos(self.now), &published, &mut frame);
        match (verdict, geneve) {
            (Verdict::Return, Some(outer)) => assert_eq!(frame[outer.geneve..], before[outer.geneve..]),
            (Verdict::Return, None) => panic!("returned what is not GENEVE"),
            _ => assert_eq!(frame, before, "only what goes back is changed"),
        }
    }

    fn finish(mut self) {
        self.engine.finish();
        let counters = self.engine.counters();
        assert_eq!(self.engine.streams().len() as u64, counters.streams);
        assert!(counters.memory_left <= MEMORY as u64);
        let events = std::iter::from_fn(|| self.engine.next_event()).count();
        assert!(events <= EVENT_CAPACITY);
        // A flow that has streams to age may take more than one round.
        for _ in 0..4 {
            self.now += IDLE_NS;
            self.engine.tick(Timestamp::from_nanos(self.now), FLOWS);
        }
        let counters = self.engine.counters();
        assert_eq!((counters.flows, counters.streams), (0, 0));
        assert_eq!(counters.memory_left, MEMORY as u64, "what idle flows held comes back");
        assert!(counters.reconciles());
    }
}

type End = ([u8; 4], u16);

fn ends(choice: u8) -> (End, End) {
    let sender = ([10, 0, 0, 1 + (choice >> 3 & 1)], 40_000);
    let receiver = ([10, 9, 9, 9], PORTS[usize::from(choice & 7)]);
    if choice & 0x40 == 0 {
        (sender, receiver)
    } else {
        (receiver, sender)
    }
}

fn payload(input: &mut Take<'_>) -> Vec<u8> {
    let length = usize::from(input.word() % 2048);
    input.bytes(length).to_vec()
}

/// Up to seven TS packets of a few bytes each.
fn media(input: &mut Take<'_>) -> Vec<u8> {
    let mut media = Vec::new();
    for _ in 0..input.byte() & 7 {
        let (flags, counter) = (input.byte(), input.byte());
        // Tables, two components, null packets.
        let pid = [0, 1, 16, 17, 256, 257, 258, 0x1fff][usize::from(flags & 7)];
        let length = usize::from(input.byte() & 63);
        let mut packet = packets::ts_packet(pid, flags & 8 != 0, counter, input.bytes(length));
        packet[0] ^= u8::from(flags & 0x80 != 0);
        packet[1] |= (flags & 0x40) << 1;
        packet[3] |= flags & 0x20;
        media.extend_from_slice(&packet);
    }
    media
}

fn policies() -> &'static [Policy; 2] {
    static POLICIES: OnceLock<[Policy; 2]> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let rules = policy::parse("fuzz.toml", POLICY).expect("a valid policy");
        let rules = rules.with_secrets(&mut |_| Ok(Zeroizing::new(srt::PASSPHRASE.as_bytes().to_vec())));
        [rules.expect("a passphrase and a key"), Policy::observe_all()]
    })
}

/// A stream of each protocol, its packets a few milliseconds apart.
pub fn seeds() -> Vec<Vec<u8>> {
    let media = [1, 4, 0, 0];
    let rtp: Vec<u8> = (0..40u8)
        .flat_map(|n| [&[0x22, 0x80, 0, n, 1][..], &media].concat())
        .collect();
    let clear: Vec<u8> = (0..40u8)
        .flat_map(|n| [&[0x23, 4, 0, n, 1][..], &media].concat())
        .collect();
    let conclusion = packets::srt_conclusion();
    let sized = |what: u8, choice: u8, payload: &[u8]| {
        [&[what, choice][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
    };
    let handshake = sized(1, 4, &conclusion);
    let ts = sized(1, 5, &packets::ts_packet(256, false, 0, b""));
    let report = sized(1, 0, &[0x80, 201, 0, 1, 0, 0, 0, 1]);
    let opened = [4, 6, 2, 0, 0, 0, 0];
    let client = [&[4, 6, 0x10, 0, 1][..], &2048u16.to_be_bytes(), &[3; 2047]].concat();
    let pause = [5, 21];
    let ciphered = srt::vectors().into_iter().step_by(3).map(|[keys, data]| {
        [
            &[0][..],
            &sized(1, 4, &keys),
            &sized(1, 4, &data),
            &pause,
            &sized(1, 4, &data),
        ]
        .concat()
    });
    let mut seeds = vec![
        [&[0][..], &rtp, &pause, &report, &rtp].concat(),
        [&[0][..], &handshake, &clear, &pause, &clear].concat(),
        [&[1][..], &rtp, &clear].concat(),
        [&[2][..], &ts.repeat(5), &[14, 0], &ts].concat(),
        [&[0][..], &opened, &client, &pause, &[6, 0], &client].concat(),
    ];
    // PAT and PMTs of two programmes, then PMTs that change, once every few milliseconds.
    let whole = |n: u8| {
        let sections = [
            &[0, 0, 1, 2, 1, 0x82][..],
            &[1, n, 1, 4, 0x1b, 2, 0x0f, 3],
            &[2, n, 2, 2, 6, n],
        ]
        .concat();
        [&[0x2a, 0x20, 0, n, 3][..], &sections].concat()
    };
    seeds.push([&[1][..], &(0..40).flat_map(whole).collect::<Vec<_>>()].concat());
    seeds.extend(ciphered);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_with_whole_tables_reaches_them() {
        let components = |seed: Vec<u8>| {
            let mut input = Take(&seed);
            let mut bench = Bench::new(input.byte());
            while !input.0.is_empty() {
                bench.step(&mut input);
            }
            let streams = bench.engine.streams();
            let analyses = streams
                .iter()
                .filter_map(|stream| stream.ts.as_ref()?.analysis.as_ref());
            let programmes = analyses.flat_map(|analysis| &analysis.tables.programmes);
            programmes.map(|programme| programme.components.len()).sum::<usize>()
        };
        assert_eq!(seeds().into_iter().map(components).max(), Some(3));
    }
}
