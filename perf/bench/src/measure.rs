//! One measurement: a fresh stage, something on it, traffic through it, the books closed afterwards.
//!
//! Traffic at a set rate begins at [`BEGIN`] of it. That streams begin is work of its own: flows are met, memory is touched for
//! the first time, the first tables are read. None of that is to be measured, nor to decide whether a rate can be carried. Then
//! nothing is sent until all is back, the books of the beginning are closed, and what is wanted follows: what is lost from
//! there on is told exactly, and what was lost before is told apart. Flat out packets are lost anyway, and a longer warm-up is all
//! there is.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::check::{self, Expected};
use crate::cpu::{Sample, Usage};
use crate::device::{Device, Places};
use crate::latency::Slice;
use crate::probe::{Probe, Stall, monotonic_ns};
use crate::scenario::{Scenario, Subject};
use crate::stage::{self, APPLIANCE_CORE, CORES, CollectorNapi, GENERATOR_CORE, Stage};
use crate::traffic::{Collector, GeneratorKind, Rate, Running, Sent, Tally, Wish};

/// Share of a wanted rate with which streams begin.
pub const BEGIN: f64 = 0.5;
/// How often is looked whether all is back. A hold is thus much shorter than what anything takes for the end of a stream.
const LOOK: Duration = Duration::from_millis(2);

/// How often the collector's histogram is read where round trips are measured.
const SLICE: Duration = Duration::from_millis(10);
/// How long nothing may come back until what is missing counts as lost: more than the longest stall seen.
const DRAIN: Duration = Duration::from_millis(120);
/// How long to wait for them in all: full rings take half a second at the lowest rate of work seen.
const MOST_DRAIN: Duration = Duration::from_secs(2);
/// How long the appliance's own figures may lag: it publishes them several times a second.
const SETTLED: Duration = Duration::from_millis(400);

/// What to do and for how long.
#[derive(Clone, Debug)]
pub struct Order {
    /// The traffic.
    pub wish: Wish,
    /// Prefixes in Tidegate's whitelist, at least those of the streams.
    pub prefixes: u32,
    /// Traffic before anything is measured: flows are met, caches and tables warm. At a set rate it has half of that.
    pub warm_up: Duration,
    /// Traffic at a set rate between the beginning and the window, so that waiting and batches are those of the rate.
    pub settle: Duration,
    /// How long is measured.
    pub window: Duration,
    /// Whether round trips are measured by slices, with the probe beside them.
    pub round_trips: bool,
    /// More is sent than can come back.
    pub overload: bool,
    /// It is tried whether packets get lost: where they do, nothing has failed.
    pub trial: bool,
}

impl Order {
    /// Packets a second with which it begins, if that is not the wanted rate.
    fn begin(&self) -> Option<f64> {
        match self.wish.rate {
            Rate::FlatOut => None,
            Rate::PacketsPerSecond(rate) => Some(rate * BEGIN),
        }
    }

    /// How long traffic lasts.
    pub fn traffic(&self) -> Duration {
        self.warm_up + self.begin().map_or(Duration::ZERO, |_| self.settle) + self.window
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes of a frame from its Ethernet header to its last byte.
    pub frame_bytes: u32,
    /// Length of the window in seconds, as it was.
    pub seconds: f64,
    /// Sent in the window.
    pub sent: Sent,
    /// What the collector counted in the window.
    pub received: Tally,
    /// Packets of the window that reached the appliance's interface.
    pub arrived: u64,
    /// Who used the cores in the window.
    pub usage: Usage,
    /// Sent until the books of the beginning were closed; nothing where that is not done.
    pub start_sent: u64,
    /// Of these what did not come back.
    pub start_lost: u64,
    /// Sent in all, warm-up included.
    pub total_sent: Sent,
    /// What the collector counted in all.
    pub total_received: Tally,
    /// Packets that reached the appliance in all.
    pub total_arrived: u64,
    /// Bytes of peak resident memory of the process, and bytes of its packet buffers.
    pub memory: Option<(u64, u64)>,
    /// Round trips, if wanted.
    pub slices: Vec<Slice>,
    /// Stalls of the machine within the window, if the probe ran.
    pub stalls: Option<Vec<Stall>>,
    /// What did not hold.
    pub faults: Vec<String>,
}

impl Outcome {
    /// Packets a second that came back, or, where nothing comes back, that arrived.
    pub fn rate(&self, scenario: &Scenario) -> f64 {
        self.packets(scenario) as f64 / self.seconds
    }

    /// Packets a second of listed streams that were sent.
    pub fn offered(&self) -> f64 {
        self.sent.listed as f64 / self.seconds
    }

    /// Packets that the rate counts.
    pub fn packets(&self, scenario: &Scenario) -> u64 {
        // Of a flood alone nothing comes back either.
        if scenario.returns() && self.total_sent.listed > 0 {
            self.received.packets
        } else {
            self.arrived
        }
    }

    /// Packets of which the loss is told: all, but for those of the beginning where that has books of its own.
    pub fn counted(&self, scenario: &Scenario) -> u64 {
        sent(scenario, &self.total_sent).saturating_sub(self.start_sent)
    }

    /// Those of them that did not come back.
    pub fn lost(&self, scenario: &Scenario) -> u64 {
        lost(scenario, &self.total_sent, &self.total_received, self.total_arrived).saturating_sub(self.start_lost)
    }

    /// Whether nothing was lost at all, in the beginning neither: else what the appliance says of its streams may follow from that.
    pub fn lost_nothing(&self, scenario: &Scenario) -> bool {
        self.start_lost == 0 && self.lost(scenario) == 0
    }

    /// [`Outcome::lost`] as a share of [`Outcome::counted`].
    pub fn loss(&self, scenario: &Scenario) -> f64 {
        let sent = self.counted(scenario);
        if sent == 0 {
            0.0
        } else {
            self.lost(scenario) as f64 / sent as f64
        }
    }
}

/// Packets of which one would be missed: listed ones, or all where nothing comes back.
fn sent(scenario: &Scenario, sent: &Sent) -> u64 {
    if scenario.returns() {
        sent.listed
    } else {
        sent.listed + sent.unlisted
    }
}

/// Those that did not come back, or did not arrive where nothing comes back.
fn lost(scenario: &Scenario, all: &Sent, received: &Tally, arrived: u64) -> u64 {
    let known = if scenario.returns() { received.listed } else { arrived };
    sent(scenario, all).saturating_sub(known)
}

/// What all measurements of a run share.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Programs and files.
    pub places: Places,
    /// How packets are made.
    pub generator: GeneratorKind,
    /// Where the collector runs.
    pub napi: CollectorNapi,
    /// Whether the probe can run here.
    pub probe: bool,
}

impl Bench {
    /// Measures once, on a stage of its own. Where that fails, or something does not add up, the log of the process measured is
    /// kept under a name of its own, see [`Places::keep_log`].
    ///
    /// # Errors
    /// Whatever failed. What does not add up is no error but among the outcome's faults.
    pub fn measure(&self, scenario: &Scenario, order: &Order) -> Result<Outcome> {
        self.places.forget_log(scenario)?;
        let mut outcome = self.on_a_stage(scenario, order);
        let failed = match &outcome {
            Ok(outcome) if order.trial && !outcome.lost_nothing(scenario) => false,
            Ok(outcome) => !outcome.faults.is_empty(),
            Err(_) => true,
        };
        let kept = if failed { self.places.keep_log(scenario) } else { Ok(()) };
        if let (Err(error), Ok(outcome)) = (kept, &mut outcome) {
            outcome.faults.push(format!("{error:#}"));
        }
        outcome
    }

    fn on_a_stage(&self, scenario: &Scenario, order: &Order) -> Result<Outcome> {
        let stage = Stage::build()?;
        let policy = order.wish.policy(scenario.subject, order.prefixes);
        // Children inherit where they may run; the conductor itself stays away from what it measures.
        stage::run_on(&CORES)?;
        let device = Device::start(scenario.subject, &stage, &self.places, &policy)?;
        stage::run_on(&[GENERATOR_CORE])?;
        let collector = Collector::attach(&stage.lb, &order.wish)?;
        if self.napi == CollectorNapi::Thread {
            stage.collect_in_thread()?;
        }
        let generator = order.wish.start(&stage.lb, self.generator, order.begin())?;
        thread::sleep(order.warm_up);
        let (start_sent, start_lost) = match order.begin() {
            Some(_) => begun(scenario, order, &stage, &collector, &generator)?,
            None => (0, 0),
        };
        let mut window = self.window(order, &stage, &device, &collector, &generator)?;
        (window.start_sent, window.start_lost) = (start_sent, start_lost);
        let total_sent = generator.stop()?;
        let total_received = drained(scenario, &collector, &total_sent)?;
        let memory = device.memory()?.map(|(memory, buffers)| (memory.peak, buffers));
        let total_arrived = stage.arrived()?;
        let mut faults = faults(scenario, &total_received);
        if scenario.is_tidegate() {
            let overloaded = order.overload || start_lost > 0;
            faults.extend(ask(scenario, order, overloaded, &stage, &total_sent, &total_received)?);
        }
        drop(collector);
        if let Err(error) = device.stop() {
            faults.push(format!("{error:#}"));
        }
        let missing = lost(scenario, &total_sent, &total_received, total_arrived);
        if missing < start_lost {
            let late = start_lost - missing;
            faults.push(format!(
                "{late} packets came back that had counted as lost while streams began"
            ));
        }
        window.memory = memory;
        window.faults = faults;
        (window.total_sent, window.total_received, window.total_arrived) = (total_sent, total_received, total_arrived);
        Ok(window)
    }

    /// The measured part; what is known only later is filled in by the caller.
    fn window(
        &self,
        order: &Order,
        stage: &Stage,
        device: &Device,
        collector: &Collector,
        generator: &Running,
    ) -> Result<Outcome> {
        let mut probe = (order.round_trips && self.probe)
            .then(|| Probe::start(&CORES))
            .transpose()?;
        let arrived = stage.arrived()?;
        let clocks = Sample::take(device.pid())?;
        let (begin, sent, received) = (monotonic_ns(), generator.sent()?, collector.read()?);
        let mut slices = Vec::new();
        if order.round_trips {
            slices = row_of_slices(collector, &received, begin, order.window)?;
        } else {
            thread::sleep(order.window);
        }
        let (end, sent_then, received_then) = (monotonic_ns(), generator.sent()?, collector.read()?);
        let usage = Sample::take(device.pid())?.since(&clocks);
        let arrived_then = stage.arrived()?;
        Ok(Outcome {
            frame_bytes: order.wish.frame_bytes(),
            seconds: end.saturating_sub(begin) as f64 / 1e9,
            sent: sent_then.since(&sent),
            received: received_then.since(&received),
            arrived: arrived_then.saturating_sub(arrived),
            usage,
            start_sent: 0,
            start_lost: 0,
            total_sent: sent_then,
            total_received: received_then,
            total_arrived: arrived_then,
            memory: None,
            slices,
            stalls: probe.as_mut().map(Probe::take),
            faults: Vec::new(),
        })
    }
}

/// Ends the beginning of a paced run: once nothing is on its way any more its books are closed, and the wanted rate follows.
/// Returns what was sent until then and what of that is lost.
fn begun(
    scenario: &Scenario,
    order: &Order,
    stage: &Stage,
    collector: &Collector,
    generator: &Running,
) -> Result<(u64, u64)> {
    generator.hold()?;
    let all = generator.sent()?;
    let received = drained(scenario, collector, &all)?;
    let arrived = if scenario.returns() { 0 } else { stage.arrived()? };
    generator.set_rate(order.wish.rate)?;
    thread::sleep(order.settle);
    Ok((sent(scenario, &all), lost(scenario, &all, &received, arrived)))
}

/// What the collector counted once nothing is on its way any more of what was sent. Mostly all is back at once. What is not may be
/// lost, or held up by a stall, and only time tells.
fn drained(scenario: &Scenario, collector: &Collector, sent: &Sent) -> Result<Tally> {
    let known = scenario.returns() && sent.unlisted == 0;
    let (begin, mut received) = (Instant::now(), collector.read()?);
    let mut since = begin;
    while !(known && received.listed >= sent.listed) && since.elapsed() < DRAIN && begin.elapsed() < MOST_DRAIN {
        thread::sleep(LOOK);
        let now = collector.read()?;
        if now.packets != received.packets {
            since = Instant::now();
        }
        received = now;
    }
    Ok(received)
}

/// Reads the collector every few milliseconds until the window is over.
fn row_of_slices(collector: &Collector, first: &Tally, begin: u64, window: Duration) -> Result<Vec<Slice>> {
    let end = begin + u64::try_from(window.as_nanos()).context("a window of centuries")?;
    let (mut from, mut before) = (begin, first.clone());
    let mut slices = Vec::new();
    while from < end {
        thread::sleep(SLICE);
        let (to, now) = (monotonic_ns(), collector.read()?);
        slices.push(Slice {
            from,
            to,
            round_trips: now.since(&before).round_trips(),
        });
        (from, before) = (to, now);
    }
    Ok(slices)
}

/// What the collector saw that must not be.
fn faults(scenario: &Scenario, received: &Tally) -> Vec<String> {
    let mut faults = Vec::new();
    // The kernel forwards as a router does, with a lower TTL, and never claims to leave packets as they were.
    if received.altered > 0 && scenario.subject != Subject::Iptables {
        faults.push(format!(
            "{} packets came back altered: {}",
            received.altered,
            received.alterations()
        ));
    }
    if received.duplicated > 0 {
        faults.push(format!("{} packets came back twice", received.duplicated));
    }
    if received.reordered > 0 {
        faults.push(format!("{} packets came back out of order", received.reordered));
    }
    if received.unlisted > 0 && scenario.is_tidegate() {
        faults.push(format!("{} packets of unlisted sources came back", received.unlisted));
    }
    faults
}

/// Waits for the appliance's figures to settle and looks into them.
fn ask(
    scenario: &Scenario,
    order: &Order,
    overloaded: bool,
    stage: &Stage,
    sent: &Sent,
    received: &Tally,
) -> Result<Vec<String>> {
    thread::sleep(SETTLED);
    let streams = scenario.subject != Subject::Any && order.wish.listed;
    let expected = Expected {
        streams: streams.then(|| streams_between(u64::from(scenario.streams), sent.listed, received.listed)),
        unlisted: order.wish.floods(),
        overloaded,
    };
    check::check(&stage.appliance, &expected)
}

/// How many streams the appliance has to follow, at least and at most: all that had a packet. Where packets are lost a stream
/// may have lost all of its few, but hardly all of many.
fn streams_between(streams: u64, sent: u64, received: u64) -> (u64, u64) {
    const MANY: u64 = 50;
    let most = streams.min(sent);
    let least = if received >= sent {
        most
    } else {
        most.min(received / MANY)
    };
    (least, most)
}

/// Nanoseconds of processor time for each packet, by the definition of [`crate::report::ScenarioReport`].
pub fn cpu_ns_per_packet(scenario: &Scenario, outcome: &Outcome) -> Option<f64> {
    let packets = outcome.packets(scenario);
    match outcome.usage.process_ns_per_packet(packets) {
        Some(cost) => Some(cost),
        // Programs and NAT run in the softirq of whoever sends.
        None => outcome.usage.core_ns_per_packet(GENERATOR_CORE, packets),
    }
}

/// The same of the appliance's core, whoever used it.
pub fn appliance_core_ns_per_packet(scenario: &Scenario, outcome: &Outcome) -> Option<f64> {
    outcome
        .usage
        .core_ns_per_packet(APPLIANCE_CORE, outcome.packets(scenario))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_in_the_beginning_is_in_no_other_count() {
        let scenario = Scenario::named("any").unwrap();
        let listed = |listed| Sent {
            listed,
            ..Sent::default()
        };
        let back = |listed| {
            let mut tally = Tally::default();
            tally.listed = listed;
            tally
        };
        let mut outcome = Outcome {
            frame_bytes: 1438,
            seconds: 1.0,
            sent: listed(900),
            received: back(900),
            arrived: 900,
            usage: Usage::default(),
            start_sent: 400,
            start_lost: lost(&scenario, &listed(400), &back(393), 0),
            total_sent: listed(1400),
            total_received: back(1393),
            total_arrived: 1400,
            memory: None,
            slices: Vec::new(),
            stalls: None,
            faults: Vec::new(),
        };
        assert_eq!((outcome.start_lost, outcome.lost(&scenario)), (7, 0));
        assert_eq!((outcome.counted(&scenario), outcome.loss(&scenario)), (1000, 0.0));
        assert!(!outcome.lost_nothing(&scenario));
        outcome.total_received = back(1390);
        assert_eq!((outcome.lost(&scenario), outcome.loss(&scenario)), (3, 0.003));
        // What drops everything is asked what arrived.
        let dropped = Scenario::named("xdp-drop").unwrap();
        assert_eq!(lost(&dropped, &listed(400), &back(0), 398), 2);
    }

    #[test]
    fn every_stream_that_had_a_packet_is_followed() {
        assert_eq!(streams_between(50, 1000, 1000), (50, 50));
        assert_eq!(streams_between(10_000, 700, 700), (700, 700));
        // Flat out half is lost; each stream still had a hundred packets.
        assert_eq!(streams_between(10_000, 2_000_000, 1_000_000), (10_000, 10_000));
        assert_eq!(streams_between(10_000, 20_000, 10_000), (200, 10_000));
    }
}
