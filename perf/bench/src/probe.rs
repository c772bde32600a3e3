//! The stall probe: when did the machine take a core away?
//!
//! A virtual processor is not always there. A thread that spins beside the one under test would see that, and would take
//! the core away itself. So the probe is a clock instead: on every core in use a software event of `perf_event_open` fires
//! by a high-resolution timer and notes the time. The timer interrupts whatever runs, user code and softirqs alike, for
//! about a microsecond; a processor that is not there cannot take it, so the gap between two notes is longer than the
//! period. Every stall of [`THRESHOLD`] plus one period is seen, of shorter ones some. What holds interrupts off for
//! as long looks the same, and is as little the packet path's doing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use perf_event::events::Software;
use perf_event::{Builder, Clock, SampleFlag, Sampler};
use rustix::time::{ClockId, clock_gettime};

/// Time between two notes on one core: half a percent of the core at a microsecond each.
pub const PERIOD: Duration = Duration::from_micros(200);
/// What a gap must exceed the period by to be a stall.
pub const THRESHOLD: Duration = Duration::from_micros(200);
/// Pages of each core's ring, a power of two: 16 bytes a note, so room for 50 s without a look.
const RING_PAGES: usize = 1024;
/// Bytes of a note: the record's header, then the time.
const TIME_BYTES: usize = 8;

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the probe, of eBPF's `bpf_ktime_get_ns` and of everything here.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// A time in which a core was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The core.
    pub core: usize,
    /// When it began, `CLOCK_MONOTONIC` in nanoseconds: the last note before it.
    pub from: u64,
    /// When the core was back.
    pub to: u64,
}

impl Stall {
    /// How long the core was away, at most: the gap between the two notes.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.to.saturating_sub(self.from))
    }
}

/// A running probe.
pub struct Probe {
    cores: Vec<Core>,
}

struct Core {
    core: usize,
    sampler: Sampler,
    gaps: Gaps,
}

impl Probe {
    /// Starts a clock on each of these cores.
    ///
    /// # Errors
    /// When the kernel has no such events or does not let us have them.
    pub fn start(cores: &[usize]) -> Result<Probe> {
        let start = |core: usize| -> Result<Core> {
            let counter = Builder::new(Software::CPU_CLOCK)
                .any_pid()
                .one_cpu(core)
                .include_kernel()
                .clockid(Clock::MONOTONIC)
                .sample_period(u64::try_from(PERIOD.as_nanos())?)
                .sample(SampleFlag::TIME)
                // Nobody waits for it: it is read now and then.
                .wakeup_watermark(RING_PAGES * 4096 / 2)
                .build()
                .with_context(|| format!("cannot open a clock on core {core}"))?;
            let mut sampler = counter.sampled(RING_PAGES).context("cannot map the clock's ring")?;
            sampler.enable().context("cannot start the clock")?;
            Ok(Core {
                core,
                sampler,
                gaps: Gaps::default(),
            })
        };
        Ok(Probe {
            cores: cores.iter().map(|core| start(*core)).collect::<Result<_>>()?,
        })
    }

    /// The stalls since the last look, in order of their cores.
    pub fn take(&mut self) -> Vec<Stall> {
        let mut stalls = Vec::new();
        for Core { core, sampler, gaps } in &mut self.cores {
            while let Some(record) = sampler.next_record() {
                // Other records tell of throttling and of lost notes; the gap shows by itself.
                if let Some(time) = sample_time(record.ty(), &record.to_contiguous())
                    && let Some((from, to)) = gaps.note(time)
                {
                    stalls.push(Stall { core: *core, from, to });
                }
            }
        }
        stalls
    }

    /// Notes seen so far on all cores: nothing is proven by a probe that never noted anything.
    pub fn notes(&self) -> u64 {
        self.cores.iter().map(|core| core.gaps.notes).sum()
    }
}

/// The time in a record of type `PERF_RECORD_SAMPLE`.
fn sample_time(kind: u32, body: &[u8]) -> Option<u64> {
    const PERF_RECORD_SAMPLE: u32 = 9;
    let time = body
        .first_chunk::<TIME_BYTES>()
        .filter(|_| kind == PERF_RECORD_SAMPLE)?;
    Some(u64::from_ne_bytes(*time))
}

/// Turns one core's notes into gaps that are too long.
#[derive(Debug, Default)]
struct Gaps {
    last: Option<u64>,
    notes: u64,
}

impl Gaps {
    fn note(&mut self, time: u64) -> Option<(u64, u64)> {
        self.notes += 1;
        let last = self.last.replace(time)?;
        let gap = Duration::from_nanos(time.saturating_sub(last));
        (gap > PERIOD + THRESHOLD).then_some((last, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gaps_beyond_the_threshold_are_stalls() {
        let mut gaps = Gaps::default();
        let micros = |us: u64| us * 1000;
        assert_eq!(gaps.note(micros(100)), None);
        assert_eq!(gaps.note(micros(300)), None);
        assert_eq!(gaps.note(micros(699)), None);
        assert_eq!(gaps.note(micros(1_100)), Some((micros(699), micros(1_100))));
        // Two cores' clocks never mix, but a record out of order must not wrap.
        assert_eq!(gaps.note(micros(1_000)), None);
        assert_eq!(gaps.notes, 5);
    }

    #[test]
    fn other_records_and_short_ones_have_no_time() {
        assert_eq!(sample_time(9, &7_u64.to_ne_bytes()), Some(7));
        assert_eq!(sample_time(2, &7_u64.to_ne_bytes()), None);
        assert_eq!(sample_time(9, &[1, 2, 3]), None);
    }

    #[test]
    fn a_clock_runs_where_the_kernel_allows_it() {
        let mut probe = match Probe::start(&[0]) {
            Ok(probe) => probe,
            Err(error) => {
                eprintln!("not proven here: {error:#}");
                return;
            }
        };
        let from = monotonic_ns();
        std::thread::sleep(Duration::from_millis(50));
        let stalls = probe.take();
        // Fewer notes than periods are stalls: together they make up the time.
        let noted = PERIOD * u32::try_from(probe.notes()).unwrap();
        let stalled: Duration = stalls.iter().map(Stall::length).sum();
        assert!(noted + stalled > Duration::from_millis(40), "{noted:?} {stalled:?}");
        assert!(
            stalls
                .iter()
                .all(|stall| stall.from >= from - 1_000_000 && stall.to > stall.from)
        );
    }
}
