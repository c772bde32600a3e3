//! A run of the lab: repeats of all scenarios in turn, then what needs to know their maxima.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::flood;
use crate::gate;
use crate::gather::{self, Gathered};
use crate::machine::Machine;
use crate::measure::{Bench, Order, Outcome};
use crate::pairs::{self, Pair};
use crate::plan::{Plan, SUSTAINED};
use crate::probe::{Probe, Stall};
use crate::report::{PairReport, Report, SCHEMA, ScenarioReport, SustainedReport, SustainedRound};
use crate::scenario::{BASE, PAIRS, REPORTED, Scenario};
use crate::search;
use crate::stage::CORES;
use crate::statistics::{MOST_SPREAD, median};
use crate::traffic::{Rate, Wish};

/// What a measurement takes beside its traffic, about: making and removing the stage, waiting for figures to settle.
const OVERHEAD: Duration = Duration::from_millis(1400);

/// Everything that belongs to a run under way.
pub struct Run<'a> {
    /// How things are measured.
    pub bench: Bench,
    /// What is measured.
    pub plan: Plan,
    /// Set when the run shall end.
    pub interrupted: &'a AtomicBool,
    pub(crate) gathered: Vec<Gathered>,
    pub(crate) pairs: Vec<Pair>,
    cut: Vec<String>,
}

impl<'a> Run<'a> {
    /// A run that has not begun.
    pub fn new(mut bench: Bench, plan: Plan, interrupted: &'a AtomicBool) -> Run<'a> {
        let mut cut = plan.cuts();
        if let Err(error) = Probe::start(&CORES) {
            bench.probe = false;
            cut.push(format!("no stall probe: {error:#}"));
        }
        let ordinary = plan.scenarios.iter().filter(|scenario| scenario.is_ordinary());
        Run {
            gathered: ordinary.copied().map(Gathered::new).collect(),
            pairs: Pair::all(),
            bench,
            plan,
            interrupted,
            cut,
        }
    }

    /// Does everything.
    ///
    /// # Errors
    /// When interrupted. What fails in a scenario is in its report.
    pub fn go(mut self) -> Result<Report> {
        let machine = Machine::look();
        for round in 0..self.plan.rounds.max(self.plan.pair_rounds) {
            self.flat_out(round)?;
        }
        // What follows is at shares of a maximum, of which the one without loss is part.
        search::search(&mut self)?;
        for round in 0..self.plan.latency_rounds {
            self.round_trips(round)?;
        }
        pairs::half_load(&mut self)?;
        let sustained = self.sustained()?;
        let flood = flood::measure(&mut self)?;
        let mut scenarios: Vec<ScenarioReport> = self.gathered.iter().map(Gathered::report).collect();
        let mut flood_report = None;
        if let Some((scenario, report)) = flood {
            scenarios.push(scenario);
            flood_report = Some(report);
        }
        scenarios.sort_by_key(|scenario| REPORTED.iter().position(|name| *name == scenario.name));
        let pairs: Vec<PairReport> = self.pairs.iter().filter_map(Pair::report).collect();
        let why = noise(&scenarios, &pairs);
        let mut report = Report {
            schema: SCHEMA,
            machine,
            quick: self.plan.quick,
            cut: self.cut,
            seconds: self.plan.elapsed().as_secs_f64(),
            generator: self.bench.generator.name(),
            collector: self.bench.napi.name(),
            probe: self.bench.probe,
            noisy: !why.is_empty(),
            why,
            scenarios,
            pairs,
            sustained,
            flood: flood_report,
            gate: Vec::new(),
        };
        report.gate = gate::judge(&report);
        Ok(report)
    }

    /// Measures once and says so.
    ///
    /// # Errors
    /// Those of the measurement, and an interruption.
    pub(crate) fn measure(&self, what: &str, scenario: &Scenario, order: &Order) -> Result<Outcome> {
        if self.interrupted.load(Ordering::Acquire) {
            bail!("interrupted; everything is cleaned up");
        }
        let outcome = self.bench.measure(scenario, order);
        match &outcome {
            Ok(outcome) => {
                let flaw = outcome
                    .faults
                    .first()
                    .map_or_else(String::new, |fault| format!("  FAULT: {fault}"));
                let (mpps, lost) = (outcome.rate(scenario) / 1e6, outcome.lost(scenario));
                let start = match outcome.start_lost {
                    0 => String::new(),
                    start => format!(", {start} lost while streams began"),
                };
                eprintln!("{what} {}: {mpps:.3} Mpps, {lost} lost{start}{flaw}", scenario.name);
            }
            Err(error) => eprintln!("{what} {}: {error:#}", scenario.name),
        }
        // What fails while everything is torn down has not failed by itself.
        if self.interrupted.load(Ordering::Acquire) {
            bail!("interrupted; everything is cleaned up");
        }
        outcome
    }

    /// Leaves something out if there is no time for it.
    pub(crate) fn has_time_for(&mut self, what: &str, traffic: Duration) -> bool {
        let fits = self.plan.has_time_for(traffic + OVERHEAD);
        if !fits {
            self.cut.push(format!("no time left: {what}"));
        }
        fits
    }

    /// What is known of a scenario.
    fn of(&self, name: &str) -> Option<&Gathered> {
        self.gathered.iter().find(|gathered| gathered.scenario.name == name)
    }

    /// The maximum of which a scenario's loads are shares, packets a second: see [`Gathered::own_maximum`].
    pub(crate) fn maximum(&self, name: &str) -> Option<f64> {
        self.of(name)?.own_maximum()
    }

    /// Where a scenario is gathered, unless it cannot be measured here.
    pub(crate) fn place(&self, scenario: &Scenario) -> Option<usize> {
        self.gathered
            .iter()
            .position(|gathered| gathered.scenario == *scenario && gathered.goes_on())
    }

    /// One round flat out.
    fn flat_out(&mut self, round: u32) -> Result<()> {
        let order = Order {
            wish: Wish::default(),
            prefixes: 0,
            warm_up: self.plan.warm_up,
            settle: self.plan.settle,
            window: self.plan.window,
            round_trips: false,
            overload: true,
            trial: false,
        };
        let what = format!("round {}, flat out,", round + 1);
        let mut rates: Vec<(&str, f64)> = Vec::new();
        for scenario in self.plan.round(round) {
            let Some(place) = self.place(&scenario) else { continue };
            let order = Order {
                wish: Wish::of(&scenario, Rate::FlatOut),
                warm_up: self.plan.warm_up_flat_out(scenario.streams),
                ..order.clone()
            };
            if !self.has_time_for(&format!("{what} {}", scenario.name), order.traffic()) {
                continue;
            }
            match (self.measure(&what, &scenario, &order), self.gathered.get_mut(place)) {
                (Ok(outcome), Some(gathered)) => {
                    rates.extend(gathered.flat_out(&outcome).map(|rate| (scenario.name, rate)))
                }
                (Err(error), _) => self.interruption(error, place)?,
                _ => {}
            }
        }
        for pair in &mut self.pairs {
            let both = pair.take(&rates);
            pair.rates.extend(both);
        }
        Ok(())
    }

    /// One round of round trips, load by load, so that scenarios at the same load stand beside each other.
    fn round_trips(&mut self, round: u32) -> Result<()> {
        for load in crate::plan::LOADS {
            for scenario in self.plan.round(round) {
                let Some(place) = self.place(&scenario).filter(|_| scenario.returns()) else {
                    continue;
                };
                let Some(maximum) = self.maximum(scenario.name) else {
                    continue;
                };
                let what = format!("round {}, {:.0} % load,", round + 1, load * 100.0);
                let offered = maximum * load;
                let order = self.rated(&scenario, offered, self.plan.latency_window, true);
                if !self.plan.loads(&scenario, round).contains(&load)
                    || !self.has_time_for(&format!("{what} {}", scenario.name), order.traffic())
                {
                    continue;
                }
                match (self.measure(&what, &scenario, &order), self.gathered.get_mut(place)) {
                    (Ok(outcome), Some(gathered)) => gathered.at_load(load, offered, &outcome)?,
                    (Err(error), _) => self.interruption(error, place)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A scenario at some packets a second.
    pub(crate) fn rated(&self, scenario: &Scenario, rate: f64, window: Duration, round_trips: bool) -> Order {
        Order {
            wish: Wish::of(scenario, Rate::PacketsPerSecond(rate)),
            prefixes: 0,
            warm_up: self.plan.warm_up_at(scenario.streams, rate),
            settle: self.plan.settle,
            window,
            round_trips,
            overload: false,
            trial: false,
        }
    }

    /// An interruption ends the run; everything else fails the scenario.
    pub(crate) fn interruption(&mut self, error: anyhow::Error, place: usize) -> Result<()> {
        if self.interrupted.load(Ordering::Acquire) {
            return Err(error);
        }
        if let Some(gathered) = self.gathered.get_mut(place) {
            gathered.fail(&error);
        }
        Ok(())
    }

    /// The maximum just below which the long runs are, and its name: the one without loss even where that is more than comes back
    /// flat out, for it claims that nothing is lost.
    fn sustainable(&self, scenario: &Scenario) -> Option<(f64, &'static str)> {
        let gathered = self.of(scenario.name)?;
        let loss_free = gathered.loss_free_maximum().map(|rate| (rate, "loss-free"));
        loss_free.or_else(|| gathered.flat_out_maximum().map(|rate| (rate, "flat-out")))
    }

    /// The long runs just below the maximum.
    fn sustained(&mut self) -> Result<Option<SustainedReport>> {
        let judged = Scenario::named(gate::JUDGED).filter(|scenario| self.plan.scenarios.contains(scenario));
        let Some((scenario, (maximum, of))) =
            judged.and_then(|scenario| Some((scenario, self.sustainable(&scenario)?)))
        else {
            return Ok(None);
        };
        let wanted = maximum * SUSTAINED;
        let order = self.rated(&scenario, wanted, self.plan.sustained, true);
        let (mut rounds, mut reasons) = (Vec::new(), Vec::new());
        for round in 0..self.plan.sustained_rounds {
            let what = format!("run {} at 95 %,", round + 1);
            if !self.has_time_for(&what, order.traffic()) {
                break;
            }
            match (self.measure(&what, &scenario, &order), self.place(&scenario)) {
                (Ok(outcome), place) => {
                    if let Some(gathered) = place.and_then(|place| self.gathered.get_mut(place)) {
                        gathered.begun(&outcome);
                    }
                    rounds.push(sustained_round(&scenario, &outcome));
                    // What is lost is told by number, and what the appliance says of it follows from it.
                    if outcome.lost_nothing(&scenario) {
                        reasons.extend(outcome.faults);
                    }
                }
                (Err(error), Some(place)) => self.interruption(error, place)?,
                (Err(_), None) => {}
            }
        }
        let mut report = SustainedReport::new(scenario.name, SUSTAINED, of, wanted, rounds, reasons);
        if let Some(report) = &mut report {
            report
                .reasons
                .extend(gather::behind(report.offered_mpps / report.wanted_mpps));
        }
        Ok(report)
    }
}

fn sustained_round(scenario: &Scenario, outcome: &Outcome) -> SustainedRound {
    let stalls = outcome.stalls.as_deref().unwrap_or_default();
    let longest = stalls.iter().map(Stall::length).max().unwrap_or_default();
    let back = &outcome.total_received;
    SustainedRound {
        offered_mpps: outcome.offered() / 1e6,
        seconds: outcome.seconds,
        sent: outcome.counted(scenario),
        lost: outcome.lost(scenario),
        start_lost: outcome.start_lost,
        left_out: outcome.sent.left_out_share(),
        link_lost: outcome.total_sent.link_lost(),
        spoiled: back.altered + back.duplicated + back.reordered,
        stalls: stalls.len(),
        longest_stall_ms: longest.as_secs_f64() * 1000.0,
    }
}

/// Why the figures that are judged are not to be trusted.
fn noise(scenarios: &[ScenarioReport], pairs: &[PairReport]) -> Vec<String> {
    let judged = |name: &str| name == BASE || PAIRS.iter().any(|(paired, _)| *paired == name);
    let mut why: Vec<String> = scenarios
        .iter()
        .filter(|scenario| scenario.noisy && judged(&scenario.name))
        .map(|scenario| format!("{}: {}", scenario.name, scenario.why.join(", ")))
        .collect();
    for pair in pairs {
        // Round trips at a rate that one of the two did not have are no pair.
        let left_out: Vec<f64> = pair
            .p99_rounds
            .iter()
            .map(|round| round.own_left_out.max(round.base_left_out))
            .collect();
        let behind = median(&left_out).and_then(|left_out| gather::behind(1.0 - left_out));
        why.extend(behind.map(|behind| format!("round trips of {} as a pair: {behind}", pair.name)));
        // Only what the gate judges makes a run worthless.
        let flat_out = pair.spread.filter(|_| gate::judges_flat_out(&pair.name));
        for (what, spread) in [("", flat_out), (" without loss", pair.loss_free_spread)] {
            if let Some(spread) = spread.filter(|spread| *spread > MOST_SPREAD) {
                why.push(format!(
                    "the ratios of {}{what} spread over {:.0} % of their median",
                    pair.name,
                    spread * 100.0
                ));
            }
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn noise_in_what_is_judged_is_told_and_elsewhere_is_not() {
        let mut quiet = report();
        assert!(noise(&quiet.scenarios, &quiet.pairs).is_empty());
        quiet.scenarios[0].noisy = true;
        assert!(
            noise(&quiet.scenarios, &quiet.pairs).is_empty(),
            "xdp-drop is not judged"
        );
        quiet.scenarios[1].noisy = true;
        quiet.pairs[0].spread = Some(0.5);
        // What 10,000 streams do flat out is shown and not judged.
        quiet.pairs[1].spread = Some(0.5);
        assert_eq!(noise(&quiet.scenarios, &quiet.pairs).len(), 2);
        quiet.pairs[1].loss_free_spread = Some(0.5);
        assert_eq!(noise(&quiet.scenarios, &quiet.pairs).len(), 3);
    }
}
