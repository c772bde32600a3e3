//! From repeats to one report a scenario.

use anyhow::Result;

use crate::device::Lacking;
use crate::latency::RoundTrips;
use crate::measure::{Outcome, appliance_core_ns_per_packet, cpu_ns_per_packet};
use crate::report::{LatencyReport, LatencyRound, ScenarioReport, Status};
use crate::scenario::Scenario;
use crate::stage::{CORES, GENERATOR_CORE};
use crate::statistics::{Disturbance, median, spread};

/// Reasons of one scenario that are told; a broken build would repeat itself in every repeat.
const MOST_REASONS: usize = 4;
/// Share of a wanted rate that has to be sent, in the median of the repeats: what a generator leaves out in a few stalls is not
/// missed.
const LEAST_KEPT_UP: f64 = 0.97;
/// Share of the runs whose beginning may lose packets before the scenario is not to be trusted: a core is away for longer than rings
/// last once in a long while.
const MOST_LOSSY_STARTS: f64 = 0.05;
const MIB: f64 = (1 << 20) as f64;

/// What is known of a scenario so far.
#[derive(Debug)]
pub struct Gathered {
    /// Which.
    pub scenario: Scenario,
    status: Status,
    reasons: Vec<String>,
    rates: Vec<f64>,
    gigabits: Vec<f64>,
    losses: Vec<f64>,
    costs: [Vec<f64>; 3],
    memory: Option<(u64, u64)>,
    steal: Vec<f64>,
    waiting: Vec<f64>,
    loads: Vec<AtLoad>,
    /// The highest rate at which each search lost nothing, packets a second.
    pub loss_free: Vec<f64>,
    starts: Starts,
}

/// How streams began, in runs that tell.
#[derive(Clone, Copy, Debug, Default)]
struct Starts {
    runs: u32,
    /// Those in which something was lost.
    lossy: u32,
    /// Packets lost in them.
    lost: u64,
}

impl Starts {
    /// What to say of losses, if there were any.
    fn told(&self) -> Option<String> {
        (self.lost > 0).then(|| {
            format!(
                "{} packets lost while streams began, in {} of {} runs: counted apart",
                self.lost, self.lossy, self.runs
            )
        })
    }

    /// Whether that was more than the machine now and then being away.
    fn is_noise(&self) -> bool {
        f64::from(self.lossy) > f64::from(self.runs) * MOST_LOSSY_STARTS
    }
}

/// Round trips at one load.
#[derive(Debug)]
struct AtLoad {
    load: f64,
    /// Packets a second.
    wanted: f64,
    link_lost: u64,
    trips: RoundTrips,
    rounds: Vec<LatencyRound>,
}

impl AtLoad {
    fn report(&self) -> LatencyReport {
        LatencyReport {
            link_lost: self.link_lost,
            ..LatencyReport::new(self.load, self.wanted, &self.trips, self.rounds.clone())
        }
    }
}

/// One half of a pair's round trips.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfLoad {
    /// 99th percentile of all of them, microseconds.
    pub(crate) raw_us: Option<f64>,
    /// The same outside of stalls, if they are known.
    pub(crate) stall_free_us: Option<f64>,
    /// Share of the packets due that the generator left out.
    pub(crate) left_out: f64,
}

impl Gathered {
    /// Nothing yet.
    pub fn new(scenario: Scenario) -> Gathered {
        Gathered {
            scenario,
            status: Status::Ok,
            reasons: Vec::new(),
            rates: Vec::new(),
            gigabits: Vec::new(),
            losses: Vec::new(),
            costs: Default::default(),
            memory: None,
            steal: Vec::new(),
            waiting: Vec::new(),
            loads: Vec::new(),
            loss_free: Vec::new(),
            starts: Starts::default(),
        }
    }

    /// Whether measuring it again makes sense.
    pub fn goes_on(&self) -> bool {
        self.status != Status::Skipped
    }

    /// The median of what came back flat out, packets a second.
    pub fn flat_out_maximum(&self) -> Option<f64> {
        median(&self.rates).filter(|rate| *rate > 0.0)
    }

    /// The median of what searches found, packets a second.
    pub fn loss_free_maximum(&self) -> Option<f64> {
        median(&self.loss_free).filter(|rate| *rate > 0.0)
    }

    /// Of what loads in per cent are shares: the smaller of the two maxima that are known. Flat out packets are lost, and a share of
    /// that might be more than goes without loss.
    pub fn own_maximum(&self) -> Option<f64> {
        let flat_out = self.flat_out_maximum()?;
        Some(self.loss_free_maximum().map_or(flat_out, |rate| rate.min(flat_out)))
    }

    /// Remembers that a measurement could not be made.
    pub fn fail(&mut self, error: &anyhow::Error) {
        let lacking = error.chain().find_map(|cause| cause.downcast_ref::<Lacking>());
        self.status = if lacking.is_some() {
            Status::Skipped
        } else {
            Status::Failed
        };
        self.reason(lacking.map_or_else(|| format!("{error:#}"), ToString::to_string));
    }

    /// Remembers what did not hold in a measurement.
    pub fn blame(&mut self, during: &str, faults: &[String]) {
        for fault in faults {
            self.status = Status::Failed;
            self.reason(format!("{during}: {fault}"));
        }
    }

    fn reason(&mut self, reason: String) {
        let reason = one_line(&reason);
        if self.reasons.len() < MOST_REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Adds a repeat flat out. Returns its rate, packets a second, unless a check failed.
    pub fn flat_out(&mut self, outcome: &Outcome) -> Option<f64> {
        let scenario = self.scenario;
        self.blame("flat out", &outcome.faults);
        self.disturbed(outcome);
        if !outcome.faults.is_empty() {
            return None;
        }
        let rate = outcome.rate(&scenario);
        self.rates.push(rate);
        self.gigabits.push(rate * f64::from(outcome.frame_bytes) * 8.0 / 1e9);
        self.losses.push(outcome.loss(&scenario));
        let costs = [
            cpu_ns_per_packet(&scenario, outcome),
            outcome
                .usage
                .core_ns_per_packet(GENERATOR_CORE, outcome.packets(&scenario)),
            appliance_core_ns_per_packet(&scenario, outcome),
        ];
        for (all, cost) in self.costs.iter_mut().zip(costs) {
            all.extend(cost);
        }
        if let Some((peak, buffers)) = outcome.memory {
            let most = self.memory.map_or(0, |(most, _)| most);
            self.memory = Some((peak.max(most), buffers));
        }
        Some(rate)
    }

    /// Adds a repeat at a share of the maximum, of which so many packets a second were wanted.
    ///
    /// # Errors
    /// Never: see [`RoundTrips::new`].
    pub fn at_load(&mut self, load: f64, wanted: f64, outcome: &Outcome) -> Result<()> {
        self.blame(&format!("at {:.0} %", load * 100.0), &outcome.faults);
        self.disturbed(outcome);
        let own = round_trips(load, outcome)?;
        let place = match self.loads.iter().position(|known| (known.load - load).abs() < 1e-9) {
            Some(place) => place,
            None => {
                self.loads.push(AtLoad {
                    load,
                    wanted,
                    link_lost: 0,
                    trips: RoundTrips::new(own.probed)?,
                    rounds: Vec::new(),
                });
                self.loads.len() - 1
            }
        };
        if let Some(known) = self.loads.get_mut(place) {
            known.link_lost += outcome.total_sent.link_lost();
            let stalls = outcome.stalls.as_deref().unwrap_or_default();
            known.trips.add(&outcome.slices, stalls, load);
            known.rounds.push(LatencyRound {
                offered_mpps: outcome.offered() / 1e6,
                sent: outcome.counted(&self.scenario),
                lost: outcome.lost(&self.scenario),
                start_lost: outcome.start_lost,
                left_out: outcome.sent.left_out_share(),
                raw: own.raw(),
                stall_free: own.stall_free(),
            });
        }
        Ok(())
    }

    /// Takes one half of a pair's round trips, which are no repeat of a share of this scenario's own maximum. Returns nothing if
    /// a check failed.
    ///
    /// # Errors
    /// Never: see [`RoundTrips::new`].
    pub(crate) fn half_load(&mut self, load: f64, outcome: &Outcome) -> Result<Option<HalfLoad>> {
        self.blame("beside its pair", &outcome.faults);
        self.disturbed(outcome);
        if !outcome.faults.is_empty() {
            return Ok(None);
        }
        let own = round_trips(load, outcome)?;
        Ok(Some(HalfLoad {
            raw_us: own.raw().map(|trips| trips.p99_us),
            stall_free_us: own.stall_free().map(|trips| trips.p99_us),
            left_out: outcome.sent.left_out_share(),
        }))
    }

    /// Remembers how a run began, of which nothing else is gathered.
    pub(crate) fn begun(&mut self, outcome: &Outcome) {
        if outcome.start_sent > 0 {
            self.starts.runs += 1;
            self.starts.lossy += u32::from(outcome.start_lost > 0);
            self.starts.lost += outcome.start_lost;
        }
    }

    fn disturbed(&mut self, outcome: &Outcome) {
        self.begun(outcome);
        self.steal.push(outcome.usage.steal(&CORES));
        self.waiting.push(outcome.usage.waiting());
    }

    /// What disturbed it.
    fn disturbance(&self) -> Disturbance {
        Disturbance {
            spread: spread(&self.rates),
            steal: median(&self.steal).unwrap_or(0.0),
            waiting: median(&self.waiting).unwrap_or(0.0),
        }
    }

    /// The report.
    pub fn report(&self) -> ScenarioReport {
        let mut loads: Vec<&AtLoad> = self.loads.iter().collect();
        loads.sort_by(|a, b| a.load.total_cmp(&b.load));
        let latency: Vec<LatencyReport> = loads.into_iter().map(AtLoad::report).collect();
        let half = latency
            .iter()
            .find(|at| (at.load - 0.5).abs() < 1e-9)
            .and_then(|at| at.raw);
        let worst = latency
            .iter()
            .filter(|at| at.sent > 0)
            .map(|at| at.lost as f64 / at.sent as f64)
            .fold(None, |worst: Option<f64>, loss| {
                Some(worst.map_or(loss, |worst| worst.max(loss)))
            });
        let [cpu, generator_core, appliance_core] = self.costs.each_ref().map(|costs| median(costs));
        let mut why = self.disturbance().complaints();
        why.extend(latency.iter().filter_map(|at| behind(at.offered_mpps / at.wanted_mpps)));
        let noisy = !why.is_empty() || self.starts.is_noise();
        why.extend(self.starts.told());
        ScenarioReport {
            name: self.scenario.name.to_owned(),
            mpps: self.flat_out_maximum().map(|rate| rate / 1e6),
            gbps: median(&self.gigabits),
            loss: worst.or(median(&self.losses)),
            p50_us: half.map(|trips| trips.p50_us),
            p90_us: half.map(|trips| trips.p90_us),
            p99_us: half.map(|trips| trips.p99_us),
            p999_us: half.map(|trips| trips.p999_us),
            max_us: half.map(|trips| trips.max_us),
            cpu_ns_per_packet: cpu,
            rss_mib: self.memory.map(|(peak, _)| peak as f64 / MIB),
            spread: spread(&self.rates),
            status: self.status,
            reasons: self.reasons.clone(),
            what: self.scenario.what,
            streams: self.scenario.streams,
            rounds: self.rates.iter().map(|rate| rate / 1e6).collect(),
            loss_free_mpps: median(&self.loss_free).map(|rate| rate / 1e6),
            loss_free_rounds: self.loss_free.iter().map(|rate| rate / 1e6).collect(),
            own_maximum_mpps: self.own_maximum().map(|rate| rate / 1e6),
            start_lost: self.starts.lost,
            flat_out_loss: median(&self.losses),
            generator_core_ns_per_packet: generator_core,
            appliance_core_ns_per_packet: appliance_core,
            rss_without_buffers_mib: self
                .memory
                .map(|(peak, buffers)| peak.saturating_sub(buffers) as f64 / MIB),
            latency,
            noisy,
            why,
        }
    }
}

/// A measurement's round trips by themselves.
fn round_trips(load: f64, outcome: &Outcome) -> Result<RoundTrips> {
    let mut own = RoundTrips::new(outcome.stalls.is_some())?;
    own.add(&outcome.slices, outcome.stalls.as_deref().unwrap_or_default(), load);
    Ok(own)
}

/// What to say of a generator that sent no more than this share of the rate that was wanted: a load that was not there
/// proves nothing.
pub(crate) fn behind(kept_up: f64) -> Option<String> {
    let percent = kept_up * 100.0;
    (kept_up < LEAST_KEPT_UP).then(|| format!("the generator sent only {percent:.0} % of a rate that was wanted"))
}

/// A message fit for a cell of a table: logs and verifiers write many lines, of which the first say what is wrong.
fn one_line(message: &str) -> String {
    const MOST: usize = 240;
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ").replace('|', "/");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_many_lines_fits_a_cell() {
        assert_eq!(one_line("a\n  b | c"), "a b / c");
        assert_eq!(one_line(&"long ".repeat(100)).chars().count(), 243);
    }

    #[test]
    fn a_load_that_was_not_there_is_told() {
        assert_eq!(behind(0.98), None);
        assert!(behind(0.5).unwrap().contains("50 %"));
    }

    #[test]
    fn a_share_is_of_the_smaller_maximum_that_is_known() {
        let mut gathered = Gathered::new(Scenario::named("any").unwrap());
        assert_eq!(gathered.own_maximum(), None);
        gathered.rates = vec![8e5, 9e5, 7e5];
        assert_eq!(gathered.own_maximum(), Some(8e5));
        gathered.loss_free = vec![7e5, 6e5, 7.5e5];
        assert_eq!(
            (gathered.own_maximum(), gathered.loss_free_maximum()),
            (Some(7e5), Some(7e5))
        );
        gathered.loss_free = vec![8.5e5];
        assert_eq!(
            (gathered.own_maximum(), gathered.loss_free_maximum()),
            (Some(8e5), Some(8.5e5))
        );
        assert_eq!(gathered.report().own_maximum_mpps, Some(0.8));
    }

    #[test]
    fn a_loss_at_the_beginning_is_told_and_often_it_is_noise() {
        let mut gathered = Gathered::new(Scenario::named("any").unwrap());
        let of = |gathered: &Gathered| {
            let report = gathered.report();
            (report.start_lost, report.why.len(), report.noisy)
        };
        gathered.starts.runs = 40;
        assert_eq!(of(&gathered), (0, 0, false));
        (gathered.starts.lossy, gathered.starts.lost) = (2, 700);
        assert_eq!(of(&gathered), (700, 1, false));
        assert!(gathered.report().why[0].contains("2 of 40 runs"));
        gathered.starts.lossy = 3;
        assert_eq!(of(&gathered), (700, 1, true));
    }

    #[test]
    fn what_a_machine_lacks_is_skipped_and_everything_else_fails() {
        let scenario = Scenario::named("iptables").unwrap();
        let mut gathered = Gathered::new(scenario);
        gathered.fail(&anyhow::Error::new(Lacking("no nat".to_owned())).context("cannot start"));
        assert_eq!((gathered.report().status, gathered.goes_on()), (Status::Skipped, false));
        let mut gathered = Gathered::new(scenario);
        gathered.fail(&anyhow::anyhow!("boom"));
        assert_eq!((gathered.report().status, gathered.goes_on()), (Status::Failed, true));
        assert_eq!(gathered.report().reasons, ["boom"]);
    }
}
