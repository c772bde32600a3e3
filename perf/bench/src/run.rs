//! A run of the lab: repeats of all scenarios in turn, then what needs to know their maxima.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::flood;
use crate::gate;
use crate::gather::{self, Gathered};
use crate::machine::Machine;
use crate::measure::{Bench, Order, Outcome};
use crate::plan::{HALF, Plan, SUSTAINED};
use crate::probe::{Probe, Stall};
use crate::report::{PairReport, Report, SCHEMA, ScenarioReport, SustainedReport};
use crate::scenario::{BASE, PAIRS, REPORTED, Scenario};
use crate::stage::CORES;
use crate::statistics::{MOST_SPREAD, median, pair_ratios, spread};
use crate::traffic::{Rate, Wish};

/// What a measurement takes beside its traffic, about: making and removing the stage, waiting for figures to settle.
const OVERHEAD: Duration = Duration::from_millis(1600);

/// Everything that belongs to a run under way.
pub struct Run<'a> {
    /// How things are measured.
    pub bench: Bench,
    /// What is measured.
    pub plan: Plan,
    /// Set when the run shall end.
    pub interrupted: &'a AtomicBool,
    gathered: Vec<Gathered>,
    pairs: Vec<Pair>,
    cut: Vec<String>,
}

/// The repeats of two scenarios measured back to back.
#[derive(Debug)]
struct Pair {
    name: &'static str,
    rates: Vec<(f64, f64)>,
    p99s: Vec<(f64, f64)>,
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
            pairs: PAIRS
                .iter()
                .map(|(name, _)| Pair {
                    name,
                    rates: Vec::new(),
                    p99s: Vec::new(),
                })
                .collect(),
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
        for round in 0..self.plan.latency_rounds {
            self.round_trips(round)?;
        }
        let sustained = self.sustained()?;
        let flood = flood::measure(&mut self)?;
        self.search()?;
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
                eprintln!("{what} {}: {mpps:.3} Mpps, {lost} lost{flaw}", scenario.name);
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

    /// The maximum of a scenario, packets a second.
    pub(crate) fn maximum(&self, name: &str) -> Option<f64> {
        self.gathered
            .iter()
            .find(|gathered| gathered.scenario.name == name)?
            .maximum()
    }

    fn place(&self, scenario: &Scenario) -> Option<usize> {
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
            window: self.plan.window,
            round_trips: false,
            overload: true,
        };
        let what = format!("round {}, flat out,", round + 1);
        let mut rates: Vec<(&str, f64)> = Vec::new();
        for scenario in self.plan.round(round) {
            let Some(place) = self.place(&scenario) else { continue };
            if !self.has_time_for(&format!("{what} {}", scenario.name), self.plan.window) {
                continue;
            }
            let order = Order {
                wish: Wish::of(&scenario, Rate::FlatOut),
                ..order.clone()
            };
            match (self.measure(&what, &scenario, &order), self.gathered.get_mut(place)) {
                (Ok(outcome), Some(gathered)) => {
                    rates.extend(gathered.flat_out(&outcome).map(|rate| (scenario.name, rate)))
                }
                (Err(error), _) => self.interruption(error, place)?,
                _ => {}
            }
        }
        self.pair_up(&rates, |pair| &mut pair.rates);
        Ok(())
    }

    /// One round of round trips, load by load, so that scenarios at the same load stand beside each other.
    fn round_trips(&mut self, round: u32) -> Result<()> {
        for load in crate::plan::LOADS {
            let mut p99s: Vec<(&str, f64)> = Vec::new();
            for scenario in self.plan.round(round) {
                let Some(place) = self.place(&scenario).filter(|_| scenario.returns()) else {
                    continue;
                };
                let Some(maximum) = self.maximum(scenario.name) else {
                    continue;
                };
                let what = format!("round {}, {:.0} % load,", round + 1, load * 100.0);
                if !self.plan.loads(&scenario).contains(&load)
                    || !self.has_time_for(&format!("{what} {}", scenario.name), self.plan.latency_window)
                {
                    continue;
                }
                let offered = maximum * load;
                let order = self.rated(&scenario, offered, self.plan.latency_window, true);
                match (self.measure(&what, &scenario, &order), self.gathered.get_mut(place)) {
                    (Ok(outcome), Some(gathered)) => {
                        p99s.extend(
                            gathered
                                .at_load(load, offered, &outcome)?
                                .map(|p99| (scenario.name, p99)),
                        );
                    }
                    (Err(error), _) => self.interruption(error, place)?,
                    _ => {}
                }
            }
            if load == HALF {
                self.pair_up(&p99s, |pair| &mut pair.p99s);
            }
        }
        Ok(())
    }

    fn rated(&self, scenario: &Scenario, rate: f64, window: Duration, round_trips: bool) -> Order {
        Order {
            wish: Wish::of(scenario, Rate::PacketsPerSecond(rate)),
            prefixes: 0,
            warm_up: self.plan.warm_up,
            window,
            round_trips,
            overload: false,
        }
    }

    /// An interruption ends the run; everything else fails the scenario.
    fn interruption(&mut self, error: anyhow::Error, place: usize) -> Result<()> {
        if self.interrupted.load(Ordering::Acquire) {
            return Err(error);
        }
        if let Some(gathered) = self.gathered.get_mut(place) {
            gathered.fail(&error);
        }
        Ok(())
    }

    fn pair_up(&mut self, values: &[(&str, f64)], of: impl Fn(&mut Pair) -> &mut Vec<(f64, f64)>) {
        let value = |wanted: &str| values.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        for pair in &mut self.pairs {
            let (own, base) = (value(pair.name), value(BASE));
            of(pair).extend(own.zip(base));
        }
    }

    /// The long run just below the maximum.
    fn sustained(&mut self) -> Result<Option<SustainedReport>> {
        let judged = Scenario::named(gate::JUDGED).filter(|scenario| self.plan.scenarios.contains(scenario));
        let Some((scenario, maximum)) = judged.and_then(|scenario| Some((scenario, self.maximum(scenario.name)?)))
        else {
            return Ok(None);
        };
        if !self.has_time_for("the run at 95 %", self.plan.sustained) {
            return Ok(None);
        }
        let offered = maximum * SUSTAINED;
        let order = self.rated(&scenario, offered, self.plan.sustained, true);
        let outcome = match self.measure("sustained at 95 %,", &scenario, &order) {
            Ok(outcome) => outcome,
            Err(error) => {
                let Some(place) = self.place(&scenario) else {
                    return Ok(None);
                };
                self.interruption(error, place)?;
                return Ok(None);
            }
        };
        let stalls = outcome.stalls.as_deref().unwrap_or_default();
        let longest = stalls.iter().map(Stall::length).max().unwrap_or_default();
        let back = &outcome.total_received;
        // What is lost is told by number, and what the appliance says of it follows from it.
        let mut reasons = if outcome.lost(&scenario) > 0 {
            Vec::new()
        } else {
            outcome.faults.clone()
        };
        reasons.extend(gather::behind(outcome.offered() / offered));
        Ok(Some(SustainedReport {
            scenario: scenario.name.to_owned(),
            load: SUSTAINED,
            of: "flat-out",
            offered_mpps: offered / 1e6,
            seconds: outcome.seconds,
            sent: outcome.total_sent.listed,
            lost: outcome.lost(&scenario),
            link_lost: outcome.total_sent.link_lost(),
            spoiled: back.altered + back.duplicated + back.reordered,
            stalls: stalls.len(),
            longest_stall_ms: longest.as_secs_f64() * 1000.0,
            reasons,
        }))
    }

    /// Searches each scenario's highest rate without loss, between half and all of its maximum.
    fn search(&mut self) -> Result<()> {
        for scenario in self.plan.scenarios.clone() {
            let Some(place) = self.place(&scenario).filter(|_| self.plan.searches(&scenario)) else {
                continue;
            };
            let Some(maximum) = self.maximum(scenario.name) else {
                continue;
            };
            let (mut without, mut with) = (None, maximum);
            let mut rate = maximum * HALF;
            for step in 0..=self.plan.search_steps {
                let what = format!("loss-free, step {} at {:.3} Mpps,", step + 1, rate / 1e6);
                if !self.has_time_for(&format!("{what} {}", scenario.name), self.plan.search_window) {
                    return Ok(());
                }
                let order = self.rated(&scenario, rate, self.plan.search_window, false);
                match self.measure(&what, &scenario, &order) {
                    Ok(outcome) if outcome.lost(&scenario) == 0 => without = Some(outcome.offered().min(rate)),
                    Ok(_) => with = rate,
                    Err(error) => {
                        self.interruption(error, place)?;
                        break;
                    }
                }
                // Where even half of it loses packets there is nothing to narrow down.
                let Some(sound) = without else { break };
                rate = f64::midpoint(sound, with);
            }
            if let Some(gathered) = self.gathered.get_mut(place) {
                gathered.loss_free = without;
            }
        }
        Ok(())
    }
}

impl Pair {
    fn report(&self) -> Option<PairReport> {
        let ratios = pair_ratios(&self.rates);
        Some(PairReport {
            name: self.name.to_owned(),
            base: BASE.to_owned(),
            ratio: median(&ratios)?,
            spread: spread(&ratios),
            ratios,
            p99_ratio: median(&pair_ratios(&self.p99s)),
        })
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
        if let Some(spread) = pair.spread.filter(|spread| *spread > MOST_SPREAD) {
            why.push(format!(
                "the ratios of {} spread over {:.0} % of their median",
                pair.name,
                spread * 100.0
            ));
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
        assert_eq!(noise(&quiet.scenarios, &quiet.pairs).len(), 2);
    }

    #[test]
    fn a_pair_is_the_median_of_its_ratios_and_not_the_ratio_of_its_medians() {
        let pair = Pair {
            name: "inspect-50",
            rates: vec![(0.9, 1.0), (1.8, 2.0), (2.7, 3.0), (0.1, 1.0)],
            p99s: vec![(6.0, 5.0)],
        };
        let report = pair.report().unwrap();
        assert!((report.ratio - 0.9).abs() < 1e-9 && report.p99_ratio == Some(1.2));
        let none = Pair {
            name: "inspect-50",
            rates: Vec::new(),
            p99s: Vec::new(),
        };
        assert!(none.report().is_none());
    }
}
