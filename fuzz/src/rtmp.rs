//! RTMP: the parsers on any bytes, and a client's bytes in segments of any cut and order, which must lead to the same verdict
//! as in order. And several connections with the same ports, some of whose segments never arrive: what the rule refuses must
//! not reach a receiver on the connection that it has.

use std::sync::OnceLock;

use tidegate::engine::media::rtmp::amf0::Amf0;
use tidegate::engine::media::rtmp::chunk::{COMMAND_AMF0, COMMAND_AMF3, ChunkReader, Message};
use tidegate::engine::media::rtmp::{Command, handshake};
use tidegate::engine::report::RtmpReport;
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate::policy::{self, Policy};
use zeroize::Zeroizing;

use super::{Take, packets};

const RULE: &str = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"encoders\"\nprotocol = \"rtmp\"\n\
    source = [\"10.0.0.0/24\"]\ndestination_port = [1935]\n[rule.rtmp]\napplication = [\"live\"]\nstream_key_file = \"keys\"\n";
/// The client's initial sequence number: it wraps within the handshake.
const ISN: u32 = u32::MAX - 1000;
const SYN: u8 = 2;
const ACK: u8 = 0x10;
/// Pieces between holes that the engine keeps of a connection are more than these.
const PIECES: usize = 12;
/// Steps of a plan of connections.
const STEPS: usize = 32;
/// How far from its first byte the receiver takes what comes.
const RECEIVED: usize = 1 << 16;

/// The input is a plan of cuts and then the client's bytes behind the handshake.
pub fn run(data: &[u8]) {
    parsers(data);
    connections(data);
    let mut input = Take(data);
    let flags = input.byte();
    let plan: Vec<u16> = (0..usize::from(flags >> 4).min(PIECES)).map(|_| input.word()).collect();
    let mut client = match flags & 3 {
        0 => Vec::new(),
        _ => std::iter::once(3)
            .chain(std::iter::repeat_n(7, handshake::LENGTH - 1))
            .collect(),
    };
    client.extend_from_slice(input.0);
    if client.is_empty() {
        return;
    }
    let in_order = verdict(client.chunks(1000).enumerate().map(|(n, piece)| (n * 1000, piece)));
    let cut = pieces(&client, &plan);
    assert_eq!(verdict(cut.into_iter()), in_order, "the same bytes, the same verdict");
}

fn parsers(data: &[u8]) {
    let mut values = Amf0::new(data);
    while values.value().is_ok() {}
    let (mut reader, mut rest) = (ChunkReader::default(), data);
    while let Ok(Some((taken, message))) = reader.read(rest) {
        assert!(taken > 0);
        rest = &rest[taken..];
        let _ = message.map(|message| Command::parse(&message).is_ok());
    }
    assert!(reader.memory() <= 4 * data.len() + 4096);
    for kind in [COMMAND_AMF0, COMMAND_AMF3] {
        let _ = Command::parse(&Message::new(kind, 0, data.to_vec()));
    }
}

/// Cuts where the plan says; the low bits say which pieces change places and which come twice.
fn pieces<'a>(client: &'a [u8], plan: &[u16]) -> Vec<(usize, &'a [u8])> {
    let mut cuts: Vec<usize> = plan
        .iter()
        .map(|cut| usize::from(*cut) * client.len() / 65_536)
        .collect();
    cuts.extend([0, client.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut pieces: Vec<(usize, &[u8])> = cuts
        .windows(2)
        .map(|pair| (pair[0], &client[pair[0]..pair[1]]))
        .collect();
    for (n, cut) in plan.iter().enumerate() {
        let (one, other) = (n % pieces.len(), usize::from(cut & 15) % pieces.len());
        if cut & 16 != 0 {
            pieces.swap(one, other);
        }
        if cut & 32 != 0 && pieces.len() < 2 * PIECES {
            pieces.insert(one, pieces[other]);
        }
    }
    pieces
}

/// What a connection with these segments comes to under the rule.
fn verdict<'a>(pieces: impl Iterator<Item = (usize, &'a [u8])>) -> Option<RtmpReport> {
    let mut engine = Engine::new(Config {
        max_flows: 4,
        ..Config::default()
    });
    let published = Published {
        policy: rule(),
        generation: 1,
    };
    let mut send = |flags, sequence: u32, payload: &[u8]| {
        let segment = packets::tcp([40_000, 1935], flags, sequence, 1, payload);
        let packet = packets::ipv4(6, [10, 0, 0, 1], [10, 0, 9, 9], &segment);
        engine.process_bare(Timestamp::from_nanos(1), &published, &packet);
    };
    send(SYN, ISN, b"");
    for (at, piece) in pieces {
        send(ACK, ISN.wrapping_add(1).wrapping_add(at as u32), piece);
    }
    assert!(engine.counters().reconciles());
    engine.streams().pop().and_then(|stream| stream.rtmp)
}

fn rule() -> &'static Policy {
    static RULES: OnceLock<Policy> = OnceLock::new();
    RULES.get_or_init(|| {
        let policy = policy::parse("rtmp.toml", RULE).expect("a valid policy");
        policy
            .with_secrets(&mut |_| Ok(Zeroizing::new(b"cam-*\n".to_vec())))
            .expect("a list of keys")
    })
}

/// A string in AMF0.
fn text(value: &str) -> Vec<u8> {
    [&[2, 0, value.len() as u8][..], value.as_bytes()].concat()
}

/// A command in one chunk.
fn chunk(body: &[u8]) -> Vec<u8> {
    [&[3, 0, 0, 0, 0, 0, body.len() as u8, 20, 0, 0, 0, 0][..], body].concat()
}

fn connect(application: &str) -> Vec<u8> {
    let app = [&[0, 3][..], b"app", &text(application)].concat();
    chunk(&[text("connect"), vec![0; 9], vec![3], app, vec![0, 0, 9]].concat())
}

fn about(command: &str, key: &str) -> Vec<u8> {
    chunk(&[text(command), vec![0; 9], vec![5], text(key), text("live")].concat())
}

/// What a client sends to publish.
fn publication(application: &str, key: &str) -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.resize(handshake::LENGTH, 7);
    bytes.extend(connect(application));
    bytes.extend(about("publish", key));
    bytes
}

/// The receiver behind the guard: TCP with one connection at a time, whose first copy of a byte counts.
#[derive(Default)]
struct Receiver {
    first: Option<u32>,
    bytes: Vec<Option<u8>>,
}

impl Receiver {
    fn in_order(&self) -> Vec<u8> {
        self.bytes.iter().map_while(|byte| *byte).collect()
    }

    /// Its answer: flags and acknowledgement.
    fn take(&mut self, flags: u8, sequence: u32, payload: &[u8]) -> Option<(u8, u32)> {
        if flags & SYN != 0 {
            let first = sequence.wrapping_add(1);
            let fresh = self.first.is_none();
            self.first.get_or_insert(first);
            return fresh.then_some((SYN | ACK, first));
        }
        let first = self.first?;
        let at = sequence.wrapping_sub(first) as usize;
        if at <= RECEIVED {
            self.bytes.resize(self.bytes.len().max(at + payload.len()), None);
            for (place, byte) in self.bytes[at..].iter_mut().zip(payload) {
                place.get_or_insert(*byte);
            }
        }
        Some((ACK, first.wrapping_add(self.in_order().len() as u32)))
    }
}

/// The input says which segments go to which of three connections, and which of them never arrive.
fn connections(data: &[u8]) {
    let mut input = Take(data);
    let heard = input.byte() & 1 != 0;
    let base = u32::from(input.word()) << 16 | u32::from(input.word());
    let isns = [
        base,
        base.wrapping_add(u32::from(input.word())),
        u32::MAX,
        base.wrapping_add(1 << 30),
    ];
    let asked = [
        publication("live", "cam-1"),
        publication("vod", "cam-1"),
        publication("live", "other"),
    ];
    let mut engine = Engine::new(Config {
        max_flows: 4,
        ..Config::default()
    });
    let published = Published {
        policy: rule(),
        generation: 1,
    };
    let mut receiver = Receiver::default();
    for _ in 0..STEPS {
        if input.0.is_empty() {
            break;
        }
        let step = input.byte();
        let isn = isns[usize::from(step & 3)];
        let arrives = step & 32 == 0;
        let bytes = &asked[usize::from(step >> 6) % asked.len()];
        let first = isn.wrapping_add(1);
        let chunks = bytes.chunks(1000).enumerate();
        let segments: Vec<(u8, u32, &[u8])> = match step >> 2 & 7 {
            0 | 1 => vec![(SYN, isn, &[])],
            2 => vec![(ACK, isn, &[])],
            3 => {
                receiver = Receiver::default();
                Vec::new()
            }
            4 => {
                let which = usize::from(input.byte() & 3);
                let one = chunks.skip(which).take(1);
                one.map(|(n, piece)| (ACK, first.wrapping_add(n as u32 * 1000), piece))
                    .collect()
            }
            _ => chunks
                .map(|(n, piece)| (ACK, first.wrapping_add(n as u32 * 1000), piece))
                .collect(),
        };
        for (flags, sequence, payload) in segments {
            let segment = packets::tcp([40_000, 1935], flags, sequence, 1, payload);
            let packet = packets::ipv4(6, [10, 0, 0, 1], [10, 0, 9, 9], &segment);
            let passed = engine.process_bare(Timestamp::from_nanos(1), &published, &packet) == Verdict::Return;
            let answer = (passed && arrives)
                .then(|| receiver.take(flags, sequence, payload))
                .flatten();
            if let Some((flags, acknowledgement)) = answer.filter(|_| heard) {
                let segment = packets::tcp([1935, 40_000], flags, 1, acknowledgement, &[]);
                let packet = packets::ipv4(6, [10, 0, 9, 9], [10, 0, 0, 1], &segment);
                engine.process_bare(Timestamp::from_nanos(1), &published, &packet);
            }
        }
        let got = receiver.in_order();
        let refused = asked[1..].iter().any(|bytes| got.starts_with(bytes));
        assert!(!refused, "the receiver has what the rule refuses");
    }
}

/// A publication that the rule admits, one that it does not, a player, and one that begins like TLS.
pub fn seeds() -> Vec<Vec<u8>> {
    let plan = [0x51, 0xc0, 0x31, 0xc8, 0x00, 0xd0, 0x12, 0xe0, 0x35, 0xf0, 0x21];
    let sent = |parts: &[Vec<u8>]| [&plan[..], &parts.concat()].concat();
    vec![
        sent(&[
            connect("live"),
            about("releaseStream", "cam-1"),
            about("publish", "cam-1"),
        ]),
        sent(&[
            connect("live"),
            vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 16, 0],
            about("publish", "other"),
        ]),
        sent(&[connect("live"), about("play", "cam-2")]),
        [&[0][..], b"\x16\x03\x01\x02\x00\x01"].concat(),
        // A stray segment, a SYN of -1, and what is refused; a decoy that nobody gets, and what is refused at the real number.
        vec![1, 0, 0, 0, 0, 0, 0, 8, 2, 0x56],
        vec![0, 0, 0, 3, 0xe8, 0, 0, 0, 0x23, 0x37, 0x54],
    ]
}
