//! How much is measured: the whole, or what fits into three minutes.

use std::time::{Duration, Instant};

use crate::scenario::{BASE, PAIRS, SCENARIOS, Scenario};

/// Loads at which round trips are measured, as shares of a scenario's own maximum; half load first, which matters most
/// when time runs out.
pub const LOADS: [f64; 3] = [0.5, 0.8, 0.1];
/// Half load.
pub const HALF: f64 = 0.5;
/// The load of the long run.
pub const SUSTAINED: f64 = 0.95;

/// What is measured and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Short windows and few repeats.
    pub quick: bool,
    /// Scenarios in the order of measuring.
    pub scenarios: Vec<Scenario>,
    /// Repeats of every scenario.
    pub rounds: u32,
    /// Repeats of those that are compared in pairs.
    pub pair_rounds: u32,
    /// Traffic before every window.
    pub warm_up: Duration,
    /// Window of a repeat flat out.
    pub window: Duration,
    /// Repeats of the round trips.
    pub latency_rounds: u32,
    /// Window of a repeat of the round trips.
    pub latency_window: Duration,
    /// Halvings in the search for the highest rate without loss.
    pub search_steps: u32,
    /// Window of each of them.
    pub search_window: Duration,
    /// Length of the run just below the maximum.
    pub sustained: Duration,
    /// Sizes of the whitelist in the flood.
    pub prefixes: Vec<u32>,
    /// Repeats of each of them.
    pub flood_rounds: u32,
    /// When nothing more may be begun but what is under way.
    pub limit: Option<Duration>,
    started: Instant,
}

impl Plan {
    /// The plan for these scenarios (all, if none is named), with this many repeats instead of the usual number.
    pub fn new(quick: bool, named: &[Scenario], repeats: Option<u32>) -> Plan {
        let scenarios = SCENARIOS
            .iter()
            .copied()
            .filter(|scenario| named.is_empty() || named.contains(scenario))
            .collect();
        let of = |full: u32, quick_ones: u32| if quick { quick_ones } else { full };
        let time = |full: u64, quick_ones: u64| Duration::from_millis(if quick { quick_ones } else { full });
        Plan {
            quick,
            scenarios,
            rounds: repeats.unwrap_or(of(7, 2)),
            pair_rounds: repeats.unwrap_or(of(9, 3)),
            warm_up: time(500, 250),
            window: time(2000, 500),
            latency_rounds: of(3, 1),
            latency_window: time(4000, 700),
            search_steps: of(6, 3),
            search_window: time(1500, 400),
            sustained: time(30_000, 5000),
            prefixes: if quick {
                vec![10, 100]
            } else {
                vec![10, 100, 1000, 10_000]
            },
            flood_rounds: of(5, 2),
            // What is under way, and the report, take a few seconds more.
            limit: quick.then_some(Duration::from_secs(165)),
            started: Instant::now(),
        }
    }

    /// Time since the plan was made.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether there is time for something that takes about this long.
    pub fn has_time_for(&self, long: Duration) -> bool {
        self.limit.is_none_or(|limit| self.elapsed() + long < limit)
    }

    /// The scenarios of one round of the ordinary kind: every other round the other way round, so that nothing is always
    /// measured right after the same thing.
    pub fn round(&self, number: u32) -> Vec<Scenario> {
        let wanted = |scenario: &&Scenario| scenario.is_ordinary() && (number < self.rounds || is_paired(scenario));
        let mut round: Vec<Scenario> = self.scenarios.iter().filter(wanted).copied().collect();
        if !number.is_multiple_of(2) {
            round.reverse();
        }
        round
    }

    /// Loads at which a scenario's round trips are measured.
    pub fn loads(&self, scenario: &Scenario) -> &'static [f64] {
        if self.quick && !is_paired(scenario) {
            &LOADS[..1]
        } else {
            &LOADS
        }
    }

    /// Whether a scenario's highest rate without loss is searched.
    pub fn searches(&self, scenario: &Scenario) -> bool {
        scenario.is_ordinary() && scenario.returns() && (!self.quick || is_paired(scenario))
    }

    /// What is left out by plan, for people.
    pub fn cuts(&self) -> Vec<String> {
        let mut cuts = Vec::new();
        if self.quick {
            cuts.push(format!(
                "quick: {} repeats of {} ms ({} of the pairs), round trips once for {} ms",
                self.rounds,
                self.window.as_millis(),
                self.pair_rounds,
                self.latency_window.as_millis()
            ));
            cuts.push("quick: round trips at 10 and 80 % and the search without loss for the pairs alone".to_owned());
            cuts.push("quick: floods against 1,000 and 10,000 prefixes".to_owned());
        }
        if self.scenarios.len() < SCENARIOS.len() {
            cuts.push("only the scenarios that were named".to_owned());
        }
        cuts
    }
}

/// Whether a scenario is one of a pair.
pub fn is_paired(scenario: &Scenario) -> bool {
    scenario.name == BASE || PAIRS.iter().any(|(name, _)| *name == scenario.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_alternate_and_the_last_ones_are_the_pairs() {
        let plan = Plan::new(false, &[], None);
        assert!(plan.pair_rounds >= 7 && plan.rounds >= 7);
        let (first, second) = (plan.round(0), plan.round(1));
        assert_eq!(first.len(), SCENARIOS.len() - 1);
        assert!(first.iter().eq(second.iter().rev()));
        let last: Vec<&str> = plan
            .round(plan.pair_rounds - 1)
            .iter()
            .map(|scenario| scenario.name)
            .collect();
        assert_eq!(last, ["inspect-50", "afxdp-forward", "inspect-10000"]);
    }

    #[test]
    fn a_quick_plan_says_what_it_cuts_and_ends() {
        let quick = Plan::new(true, &[], None);
        assert_eq!(quick.pair_rounds, 3);
        assert!(quick.cuts().len() >= 3 && quick.has_time_for(Duration::from_secs(60)));
        assert!(!quick.has_time_for(Duration::from_secs(200)));
        let any = Scenario::named("any").unwrap();
        assert_eq!(quick.loads(&any), [0.5]);
        assert!(!quick.searches(&any) && Plan::new(false, &[], None).searches(&any));
        assert!(Plan::new(false, &[], None).cuts().is_empty());
    }

    #[test]
    fn named_scenarios_and_repeats_are_obeyed() {
        let plan = Plan::new(false, &[Scenario::named("any").unwrap()], Some(2));
        assert_eq!((plan.round(0).len(), plan.rounds, plan.pair_rounds), (1, 2, 2));
        assert_eq!(plan.cuts().len(), 1);
    }
}
