//! Checking what comes back, in the kernel, and reading what was counted.

use aya::maps::{Array, MapData, PerCpuArray};
use tidegate_frames::check::{PARTS, Part};
use tidegate_frames::maps::{Tally, name};
use tidegate_frames::mux::Datagram;
use tidegate_frames::plan::MAX_STREAMS;
use tidegate_frames::sequence::Sequence;
use tidegate_frames::Plan;

use crate::error::Result;
use crate::latency::Latency;
use crate::load::{Lane, Load};
use crate::object::{Programs, fill};
use crate::planned::Planned;
use crate::sys::Value;

/// The collector on a lane's interface; detached when dropped. It takes every GENEVE frame that arrives there and leaves all
/// else to the kernel. On veth it is also what lets the appliance's XDP send at all.
pub struct Collector {
    /// Holds the attachment.
    _programs: Programs,
    plan: Array<MapData, Value<Plan>>,
    group: Array<MapData, Value<Datagram>>,
    streams: Array<MapData, Value<Sequence>>,
    tally: PerCpuArray<MapData, Value<Tally>>,
    baseline: Received,
    used: u32,
}

/// What came back, since the collector was attached or last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// GENEVE frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of them: of listed streams.
    pub listed: u64,
    /// Of them: from sources that no rule lists.
    pub unlisted: u64,
    /// Numbers missing within streams, those that came late taken off. What a stream lacks at its end shows only in what was sent,
    /// see [`Received::missing_of`].
    pub lost: u64,
    /// Frames behind a later one of their stream.
    pub reordered: u64,
    /// Of them: more than 64 numbers behind, where duplicates cannot be told any more.
    pub ancient: u64,
    /// Frames that came twice.
    pub duplicated: u64,
    /// Frames of which anything was altered.
    pub altered: u64,
    /// What was altered, in the order of [`Part::ALL`]; a frame may count under several.
    pub parts: [u64; PARTS],
    /// Frames that were not GENEVE.
    pub passed: u64,
    /// From making a frame to checking it, listed streams only.
    pub latency: Latency,
}

impl Received {
    /// Frames of listed streams that were sent and have not come back, whoever lost them, when nothing is on its way any more.
    pub fn missing_of(&self, listed: u64) -> u64 {
        let distinct = self.listed.saturating_sub(self.duplicated);
        listed.saturating_sub(distinct)
    }

    /// How many frames had this part altered.
    pub fn altered_part(&self, part: Part) -> u64 {
        self.parts.get(part as usize).copied().unwrap_or(0)
    }

    fn add(&mut self, tally: &Tally) {
        self.packets += tally.packets;
        self.bytes += tally.bytes;
        self.listed += tally.listed;
        self.unlisted += tally.unlisted;
        // Per CPU a late frame may be told where its gap was not.
        self.lost = self.lost.wrapping_add(tally.missing).wrapping_sub(tally.late + tally.ancient);
        self.reordered += tally.late + tally.ancient;
        self.ancient += tally.ancient;
        self.duplicated += tally.duplicated;
        self.altered += tally.altered;
        for (part, count) in self.parts.iter_mut().zip(tally.parts) {
            *part += count;
        }
        self.passed += tally.passed;
        self.latency.add_counts(&tally.latency);
    }

    fn since(mut self, earlier: &Received) -> Received {
        let less = |now: &mut u64, then: u64| *now = now.saturating_sub(then);
        less(&mut self.packets, earlier.packets);
        less(&mut self.bytes, earlier.bytes);
        less(&mut self.listed, earlier.listed);
        less(&mut self.unlisted, earlier.unlisted);
        less(&mut self.lost, earlier.lost);
        less(&mut self.reordered, earlier.reordered);
        less(&mut self.ancient, earlier.ancient);
        less(&mut self.duplicated, earlier.duplicated);
        less(&mut self.altered, earlier.altered);
        for (part, then) in self.parts.iter_mut().zip(earlier.parts) {
            *part = part.saturating_sub(then);
        }
        less(&mut self.passed, earlier.passed);
        self.latency.subtract(&earlier.latency);
        self
    }
}

impl Collector {
    /// Attaches to the lane's interface in the caller's network namespace, in native mode, to check what comes back of a load.
    ///
    /// # Errors
    /// [`crate::Error`]: a load that cannot be, no XDP programs, another program on the interface.
    pub fn attach(lane: &Lane, load: &Load) -> Result<Collector> {
        let planned = Planned::new(lane, load)?;
        let mut programs = Programs::load()?;
        let mut collector = Collector {
            plan: programs.array(name::PLAN)?,
            group: programs.array(name::GROUP)?,
            streams: programs.array(name::STREAMS)?,
            tally: PerCpuArray::try_from(programs.map(name::TALLY)?)?,
            baseline: Received::default(),
            used: 0,
            _programs: programs,
        };
        collector.expect(&planned, load)?;
        collector._programs.attach(name::COLLECT, &lane.interface)?;
        Ok(collector)
    }

    /// Checks another load from now on; counts from zero. To be called while nothing is on its way. The streams are new ones; after a
    /// run that another run continues ([`Load::from`]) this is not needed as long as nothing else changes.
    ///
    /// # Errors
    /// [`crate::Error::Load`], or a map that cannot be written.
    pub fn follow(&mut self, lane: &Lane, load: &Load) -> Result<()> {
        self.expect(&Planned::new(lane, load)?, load)?;
        self.reset()
    }

    fn expect(&mut self, planned: &Planned, load: &Load) -> Result<()> {
        fill(&mut self.group, &planned.group)?;
        for stream in 0..self.used.min(MAX_STREAMS) {
            self.streams.set(stream, Value(Sequence::default()), 0)?;
        }
        self.used = load.streams;
        fill(&mut self.plan, &[planned.returned()])
    }

    /// What was counted since the last reset.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn read(&self) -> Result<Received> {
        Ok(self.total()?.since(&self.baseline))
    }

    /// Counts from zero again; what is known of the streams stays, so that a reset in the middle of a run loses no gap.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn reset(&mut self) -> Result<()> {
        self.baseline = self.total()?;
        Ok(())
    }

    fn total(&self) -> Result<Received> {
        let mut total = Received::default();
        for tally in self.tally.get(&0, 0)?.iter() {
            total.add(&tally.0);
        }
        Ok(total)
    }
}
