//! Live RTP: datagrams of seven TS packets in GENEVE frames through the whole engine, with analysis and without.
//!
//! Both engines take the same frames, in batches in turn: [`Engine::process`] turns the outer headers of a frame around and
//! leaves what is inspected as it was.

use anyhow::{Context, ensure};
use tidegate::engine::time::Timestamp;
use tidegate::engine::{Config, Engine, Published, Verdict};
use tidegate::policy::{self, Policy};
use tidegate_fixtures::rtp::RtpSender;
use tidegate_fixtures::{IN_DATAGRAM, INTERVAL, Sender, multiplex};

use crate::file;
use crate::measure::{Spread, cost};

/// Datagrams made ahead of each measurement; their frames are beyond the second-level cache, as those of a NIC are.
const BATCH: usize = 8000;
/// Frames that a worker takes at a time, which have one time.
const BURST: usize = 32;
/// As a worker does its housekeeping.
const HOUSEKEEPING: u64 = 5_000_000;
const TICK_BUDGET: usize = 256;
const POLICY: &str = "version = 1\ndefault_action = \"drop\"\n[[rule]]\nname = \"bench\"\nprotocol = \"rtp\"\n\
     source = [\"10.0.0.0/16\"]\ndestination_port = [5000]\n";

/// An engine and what it cost, a figure per batch.
struct Lane {
    engine: Engine,
    analyse: bool,
    nanoseconds: Vec<f64>,
    swept: u64,
}

impl Lane {
    fn new(analyse: bool) -> Self {
        let engine = Engine::new(Config {
            analyse,
            seed: 1,
            ..Config::default()
        });
        Lane {
            engine,
            analyse,
            nanoseconds: Vec::new(),
            swept: 0,
        }
    }

    /// As a worker does it: bursts of frames, and housekeeping now and then.
    fn batch(&mut self, policy: &Policy, frames: &mut [u8], length: usize, mut now: u64, apart: u64) -> usize {
        let published = Published { policy, generation: 1 };
        let mut returned = 0;
        let mut frames: Vec<&mut [u8]> = frames.chunks_exact_mut(length).collect();
        for burst in frames.chunks_mut(BURST) {
            self.engine.process_burst(
                Timestamp::from_nanos(now),
                &published,
                burst,
                |frame| frame,
                |_, verdict| returned += usize::from(verdict == Verdict::Return),
            );
            now += apart * burst.len() as u64;
            if now >= self.swept {
                self.swept = now + HOUSEKEEPING;
                self.engine.tick(Timestamp::from_nanos(now), TICK_BUDGET);
                while self.engine.next_event().is_some() {}
            }
        }
        returned
    }
}

/// Measures so many streams at once over so many datagrams in all; `analyse` chooses one engine, else both are measured.
pub(crate) fn run(streams: u16, datagrams: usize, analyse: Option<bool>) -> anyhow::Result<()> {
    let policy = policy::parse("bench.toml", POLICY).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let noise = multiplex::noise();
    let mut senders: Vec<_> = (0..streams).map(|number| RtpSender::new(number, &noise)).collect();
    let length = senders.first().context("no streams")?.length();
    let mut lanes: Vec<Lane> = [false, true]
        .into_iter()
        .filter(|wanted| analyse.is_none_or(|only| only == *wanted))
        .map(Lane::new)
        .collect();
    let batch = BATCH.min(datagrams);
    let mut frames = vec![0; batch * length];
    let apart = INTERVAL / u64::from(streams);
    let mut done = 0;
    // Streams begin, and their tables are read, before anything counts: for a fifth of a second of their time.
    let warm = (200_000_000 / apart) as usize;
    while done < warm + datagrams {
        for (n, frame) in frames.chunks_exact_mut(length).enumerate() {
            let sender = (done + n) % senders.len();
            senders[sender].next(frame);
        }
        let now = 1_000_000_000 + done as u64 * apart;
        lanes.reverse();
        for lane in &mut lanes {
            let (returned, cost) = cost(|| lane.batch(&policy, &mut frames, length, now, apart));
            ensure!(returned == batch, "{returned} of {batch} datagrams were returned");
            if done >= warm {
                lane.nanoseconds.push(cost.processor.as_nanos() as f64 / batch as f64);
            }
        }
        done += batch;
    }
    lanes.sort_by_key(|lane| lane.analyse);
    for lane in &lanes {
        let reports = lane.engine.streams();
        ensure!(reports.len() == senders.len(), "{} streams", reports.len());
        for report in &reports {
            let sent = (done as u64).div_ceil(senders.len() as u64);
            let packets = report.packets * IN_DATAGRAM as u64;
            ensure!(
                report.packets.abs_diff(sent) <= 1,
                "{} of {sent} datagrams",
                report.packets
            );
            file::is_sound(report, packets, lane.analyse)?;
        }
        let spread = Spread::of(lane.nanoseconds.iter().copied());
        let what = if lane.analyse { "everything" } else { "continuity alone" };
        println!(
            "{streams:>5} streams, {what:<16} {:>7.1} ns per datagram ({:.1} to {:.1}), {:.2} Mpps",
            spread.median,
            spread.least,
            spread.most,
            1000.0 / spread.median
        );
    }
    Ok(())
}
