//! What a busy appliance follows: 65,536 flows, 10,000 of them whole RTP streams with tables, clocks and losses.

use std::fs;
use std::ops::Range;

use tidegate::engine::time::Timestamp;
use tidegate::engine::{Engine, Published, Verdict};
use tidegate::policy::Policy;
use tidegate_fixtures::rtp::RtpSender;
use tidegate_fixtures::{INTERVAL, Sender, frame, multiplex, policies};

/// Flows in all: as many as a worker follows.
pub(crate) const FLOWS: u32 = 65_536;
/// Flows among them that are streams.
pub(crate) const STREAMS: u16 = 10_000;
/// Flows that are none.
pub(crate) const OTHERS: u32 = FLOWS - STREAMS as u32;
/// Datagrams of each stream: its tables and components were seen then, and what was lost was given up.
pub(crate) const ROUNDS: u64 = 110;
/// In which round a datagram of each stream is lost, and in which two change places.
pub(crate) const LOST: u64 = 5;
const SWAPPED: u64 = 3;
/// What README states, in MiB.
pub(crate) const STATED_MIB: u64 = 512;

/// The senders, and the time.
pub(crate) struct Load {
    senders: Vec<RtpSender>,
    policy: Policy,
    frames: [Vec<u8>; 2],
    now: u64,
}

impl Load {
    pub(crate) fn new() -> Self {
        let noise = multiplex::noise();
        let senders: Vec<RtpSender> = (0..STREAMS).map(|number| RtpSender::new(number, &noise)).collect();
        let length = senders.first().map_or(0, |sender| sender.length());
        Load {
            senders,
            policy: policies::streams(),
            frames: [vec![0; length], vec![0; length]],
            now: 1_000_000_000,
        }
    }

    /// A packet of each of the flows that nothing looks into.
    pub(crate) fn others(&mut self, engine: &mut Engine) {
        for flow in 0..OTHERS {
            offer(&mut self.now, &self.policy, engine, &mut other(flow));
        }
    }

    /// So many datagrams of each of these streams.
    pub(crate) fn rounds(&mut self, engine: &mut Engine, streams: Range<usize>, rounds: Range<u64>) {
        let (now, policy, [frame, later]) = (&mut self.now, &self.policy, &mut self.frames);
        for round in rounds {
            for sender in &mut self.senders[streams.clone()] {
                sender.next(frame);
                if round == LOST {
                    continue;
                }
                if round == SWAPPED {
                    sender.next(later);
                    offer(now, policy, engine, later);
                }
                offer(now, policy, engine, frame);
            }
        }
    }
}

fn offer(now: &mut u64, policy: &Policy, engine: &mut Engine, frame: &mut [u8]) {
    let published = Published { policy, generation: 1 };
    let at = Timestamp::from_nanos(*now);
    assert_eq!(engine.process(at, &published, frame), Verdict::Return);
    *now += INTERVAL / u64::from(STREAMS);
    // A worker's housekeeping, as often as it would come.
    if now.is_multiple_of(INTERVAL) {
        engine.tick(at, 256);
    }
    while engine.next_event().is_some() {}
}

/// The frame of a flow that nothing looks into.
fn other(flow: u32) -> Vec<u8> {
    let [_, network, high, low] = flow.to_be_bytes();
    let inner = frame::tcp(
        ([10, 128 + network, high, low], 40_000),
        ([10, 1, 9, 9], 7000),
        &[0; 64],
    );
    frame::wrapped(50_000, &inner)
}

/// A figure of the kernel's about this process, in KiB.
pub(crate) fn resident(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find(|line| line.starts_with(key)).expect("the figure");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("KiB")
}
