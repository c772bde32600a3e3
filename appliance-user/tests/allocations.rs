//! The packet path allocates nothing once it is warm, as a counting allocator sees it; and what does allocate, how much.
//!
//! RTP, SRT in the clear and ciphered with both key lengths, and TS in UDP, with tables, clocks and splice information, go
//! through one engine as a worker drives it: packets, time that passes, events that are fetched. What this thread allocates
//! meanwhile is the engine's.

use std::hint::black_box;

use allocation_counter::measure;
use tidegate::engine::report::{StreamReport, StreamState};
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate::policy::Policy;
use tidegate_fixtures::part::is_sound;
use tidegate_fixtures::rtp::RtpSender;
use tidegate_fixtures::srt::{Encryption, SrtSender};
use tidegate_fixtures::ts_udp::TsSender;
use tidegate_fixtures::{INTERVAL, Sender, multiplex, policies};

/// Streams of each kind.
const OF_EACH: u16 = 2;
/// Kinds of streams: RTP, SRT three times, TS in UDP.
const KINDS: u16 = 5;
const STREAMS: usize = (OF_EACH * KINDS) as usize;
/// Packets before anything counts: 1.5 s of every stream, so that each of its tables came.
const WARM: usize = 30_000;
/// Packets over which nothing may be allocated: over 5 s of every stream, so that what comes rarely came too.
const MEASURED: usize = 100_000;
/// Packets in each case in which something is to be expected.
const DISTURBED: usize = 8_000;
/// Packets until what is held back has been told: 2.3 s of every stream, and a finding is held back for two.
const SETTLING: usize = 45_000;
/// Allocations that one missing packet, the new tables of one stream and a new stream may cost.
const OF_MISSING: u64 = 16;
const OF_TABLES: usize = 16;
const OF_STREAM: usize = 60;
/// Packets made ready at a time.
const BATCH: usize = 1000;
/// As a worker does its housekeeping.
const HOUSEKEEPING: u64 = 5_000_000;
const TICK_BUDGET: usize = 256;
/// Of so many packets of a stream one is lost, and one is overtaken by its follower.
const LOSS: u64 = 211;
const SWAP: u64 = 97;

/// One stream on its way.
struct Line {
    sender: Box<dyn Sender>,
    sent: u64,
    held: Option<Vec<u8>>,
}

impl Line {
    /// The next frame to arrive, perhaps not the next one sent.
    fn next(&mut self, disturbed: bool) -> Vec<u8> {
        if let Some(held) = self.held.take() {
            return held;
        }
        let mut frame = self.send();
        if disturbed && self.sent.is_multiple_of(LOSS) {
            frame = self.send();
        }
        if disturbed && self.sent.is_multiple_of(SWAP) {
            let overtaking = self.send();
            self.held = Some(frame);
            return overtaking;
        }
        frame
    }

    fn send(&mut self) -> Vec<u8> {
        let mut frame = vec![0; self.sender.length()];
        self.sender.next(&mut frame);
        self.sent += 1;
        frame
    }
}

/// An engine, its streams, and the time.
struct Bench {
    engine: Engine,
    policy: Policy,
    lines: Vec<Line>,
    now: u64,
    swept: u64,
}

impl Bench {
    /// Streams numbered from `first` on, their sessions open.
    fn new() -> Self {
        let mut bench = Bench {
            engine: Engine::new(Config {
                seed: 1,
                ..Config::default()
            }),
            policy: policies::streams(),
            lines: Vec::new(),
            now: 1_000_000_000,
            swept: 0,
        };
        bench.join(0);
        bench
    }

    /// Streams of each kind join, numbered from `first` on. Allocations of their first packets.
    fn join(&mut self, first: u16) -> usize {
        let noise = multiplex::noise();
        let mut opening = Vec::new();
        for number in first..first + OF_EACH {
            let srt = [Encryption::Clear, Encryption::Aes128, Encryption::Aes256];
            let srt = srt.into_iter().enumerate().map(|(kind, encryption)| {
                let sender = SrtSender::new(number + 256 * (kind as u16 + 1), encryption, &noise);
                opening.extend(sender.handshake());
                Box::new(sender) as Box<dyn Sender>
            });
            let mut senders: Vec<Box<dyn Sender>> = srt.collect();
            senders.push(Box::new(RtpSender::new(number, &noise)));
            senders.push(Box::new(TsSender::new(number, &noise)));
            let lines = senders.into_iter().map(|sender| Line {
                sender,
                sent: 0,
                held: None,
            });
            self.lines.extend(lines);
        }
        self.offer(opening)
    }

    /// Goes on for so many packets; allocations of the engine meanwhile.
    fn run(&mut self, packets: usize, disturbed: bool) -> usize {
        let lines = self.lines.len();
        (0..packets / BATCH)
            .map(|_| {
                let frames = (0..BATCH).map(|n| self.lines[n % lines].next(disturbed)).collect();
                self.offer(frames)
            })
            .sum()
    }

    /// Does as a worker does with these packets; allocations meanwhile.
    fn offer(&mut self, mut frames: Vec<Vec<u8>>) -> usize {
        let published = Published {
            policy: &self.policy,
            generation: 1,
        };
        let (engine, now, swept) = (&mut self.engine, &mut self.now, &mut self.swept);
        let counted = measure(|| {
            for frame in &mut frames {
                let at = Timestamp::from_nanos(*now);
                assert_eq!(engine.process(at, &published, frame), Verdict::Return);
                if *now >= *swept {
                    *swept = *now + HOUSEKEEPING;
                    engine.tick(at, TICK_BUDGET);
                    while engine.next_event().is_some() {}
                }
                *now += INTERVAL / STREAMS as u64;
            }
        });
        counted.count_total as usize
    }

    fn reports(&self) -> Vec<StreamReport> {
        self.engine
            .streams()
            .into_iter()
            .filter(|report| report.ts.is_some())
            .collect()
    }
}

#[test]
fn a_warm_packet_path_allocates_nothing() {
    the_counter_counts();
    let mut bench = Bench::new();
    bench.run(WARM, false);
    assert_eq!(bench.run(MEASURED, false), 0, "allocations of sound streams");
    let reports = bench.reports();
    assert_eq!(reports.len(), STREAMS);
    for report in &reports {
        is_sound(report).unwrap_or_else(|what| panic!("{}: {what}", report.identity.protocol.name()));
        let ts = report.ts.as_ref().expect("it has one");
        assert!(ts.packets > 60_000 && ts.analysed, "{}", ts.packets);
    }
    revised(&mut bench);
    disturbed(&mut bench);
    joined(&mut bench);
}

/// What is lost and overtaken on the way. While a number is missing, what came behind it waits in order: that takes room,
/// which is given back when the number came or was given up, so that ten thousand streams do not each keep that of their
/// worst moment. It is bounded by what was missing, and nothing else allocates.
fn disturbed(bench: &mut Bench) {
    bench.run(DISTURBED / 4, true);
    let before = missing(bench);
    let allocations = bench.run(DISTURBED, true) as u64;
    let missing = missing(bench) - before;
    println!("{allocations} allocations for {missing} packets that were lost or overtaken");
    assert!(missing >= 80, "{missing}");
    assert!(allocations <= missing * OF_MISSING, "{allocations} for {missing}");
    assert!(
        bench
            .reports()
            .iter()
            .all(|report| report.state != StreamState::Blocked)
    );
    // And once all is in order again and what was held back has settled, nothing does.
    let settling = bench.run(SETTLING, false);
    println!("{settling} allocations while it settles");
    assert!(settling as u64 <= missing * OF_MISSING, "{settling}");
    assert_eq!(
        bench.run(DISTURBED, false),
        0,
        "allocations of streams that are sound again"
    );
}

/// Packets that were not there when their turn came.
fn missing(bench: &Bench) -> u64 {
    let transports = bench.reports().into_iter().map(|report| report.transport);
    transports.map(|transport| transport.lost + transport.reordered).sum()
}

/// Tables of another version are read anew: every section of them is put together in memory that is kept for the next one.
fn revised(bench: &mut Bench) {
    for line in &mut bench.lines {
        line.sender.revise();
    }
    let allocations = bench.run(DISTURBED, false);
    println!("{allocations} allocations for the new tables of {STREAMS} streams");
    assert!(allocations <= OF_TABLES * STREAMS, "{allocations}");
}

/// A flow and its stream are made for the first packet, and grow until its tables and components are known.
fn joined(bench: &mut Bench) {
    let allocations = bench.join(OF_EACH) + bench.run(DISTURBED, false);
    println!("{allocations} allocations for {STREAMS} more streams");
    assert!(allocations <= OF_STREAM * STREAMS, "{allocations}");
}

/// Without this, a counter that counts nothing would prove everything.
fn the_counter_counts() {
    let counted = measure(|| {
        drop(black_box(vec![0_u8; black_box(64)]));
        let mut growing = Vec::with_capacity(1);
        (0..64_u8).for_each(|byte| growing.push(black_box(byte)));
    });
    assert!(counted.count_total >= 3, "{counted:?}");
}
