//! How much is measured: the whole, or what fits into three minutes.

use std::time::{Duration, Instant};

use crate::gate::JUDGED;
use crate::measure::BEGIN;
use crate::scenario::{BASE, PAIRS, SCENARIOS, Scenario};

/// Loads at which round trips are measured, as shares of a scenario's own maximum; half load first, which matters most
/// when time runs out.
pub const LOADS: [f64; 3] = [0.5, 0.8, 0.1];
/// Half load.
pub const HALF: f64 = 0.5;
/// The load of the long run.
pub const SUSTAINED: f64 = 0.95;

/// Packets that each stream has had before anything is measured. Where a stream begins in the middle, its tables come within
/// about ten packets, its clock and its kinds of elementary streams within some more; only then is the work on it that of
/// every packet to come. A multiple of that, for streams take turns and their tables do not.
const BEGUN: f64 = 40.0;
/// From how many streams on a load flat out has a longer warm-up.
const MANY: u32 = 1000;

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
    /// Traffic before every window, at least.
    pub warm_up: Duration,
    /// Traffic before a window at a set rate, at most; see [`Plan::warm_up_at`].
    pub most_warm_up: Duration,
    /// Traffic at a set rate after the warm-up, which has half of it, and before the window.
    pub settle: Duration,
    /// Traffic before a window flat out where streams are many.
    pub many_warm_up: Duration,
    /// Window of a repeat flat out.
    pub window: Duration,
    /// Repeats of the round trips.
    pub latency_rounds: u32,
    /// Window of a repeat of the round trips.
    pub latency_window: Duration,
    /// Repeats of the pairs' round trips at one and the same rate.
    pub pair_latency_rounds: u32,
    /// Window of each half of them.
    pub pair_latency_window: Duration,
    /// Searches for the highest rate without loss of those that are compared in pairs; the others have one.
    pub searches: u32,
    /// Halvings in a scenario's first search for the highest rate without loss.
    pub search_steps: u32,
    /// Halvings in the searches after it, which begin close to what was found.
    pub later_search_steps: u32,
    /// Window of each of them.
    pub search_window: Duration,
    /// Runs just below the maximum.
    pub sustained_rounds: u32,
    /// Length of each of them.
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
            rounds: repeats.unwrap_or(of(7, 1)),
            pair_rounds: repeats.unwrap_or(of(9, 3)),
            warm_up: time(500, 250),
            most_warm_up: time(6000, 2500),
            settle: time(200, 100),
            many_warm_up: time(2000, 1000),
            window: time(2000, 500),
            latency_rounds: of(5, 3),
            latency_window: time(2500, 700),
            pair_latency_rounds: of(7, 3),
            pair_latency_window: time(2000, 500),
            searches: of(7, 1),
            search_steps: of(8, 4),
            later_search_steps: of(5, 4),
            search_window: time(1000, 400),
            sustained_rounds: 3,
            sustained: time(30_000, 1500),
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

    /// Traffic before a window at that many packets a second, with [`BEGIN`] of which it begins: until each stream has had 40
    /// packets, within bounds.
    pub fn warm_up_at(&self, streams: u32, rate: f64) -> Duration {
        let begun = Duration::try_from_secs_f64(f64::from(streams) * BEGUN / (rate * BEGIN));
        self.warm_up.max(begun.unwrap_or(Duration::MAX).min(self.most_warm_up))
    }

    /// Traffic before a window flat out.
    pub fn warm_up_flat_out(&self, streams: u32) -> Duration {
        if streams >= MANY {
            self.many_warm_up.max(self.warm_up)
        } else {
            self.warm_up
        }
    }

    /// Whether there is time for something that takes about this long.
    pub fn has_time_for(&self, long: Duration) -> bool {
        self.limit.is_none_or(|limit| self.elapsed() + long < limit)
    }

    /// The scenarios of one round of the ordinary kind: every other round the other way round, so that nothing is always
    /// measured right after the same thing.
    pub fn round(&self, number: u32) -> Vec<Scenario> {
        self.in_turn(number, |scenario| number < self.rounds || is_paired(scenario))
    }

    /// The scenarios whose highest rate without loss is searched, in the order of a round.
    pub fn searched(&self, number: u32) -> Vec<Scenario> {
        self.in_turn(number, |scenario| {
            scenario.returns() && (is_paired(scenario) || (number == 0 && !self.quick))
        })
    }

    fn in_turn(&self, number: u32, wanted: impl Fn(&Scenario) -> bool) -> Vec<Scenario> {
        let ordinary = self.scenarios.iter().filter(|scenario| scenario.is_ordinary());
        let mut round: Vec<Scenario> = ordinary.filter(|scenario| wanted(scenario)).copied().collect();
        if !number.is_multiple_of(2) {
            round.reverse();
        }
        round
    }

    /// Loads at which a scenario's round trips are measured in a round. A quick run repeats what is judged and no more.
    pub fn loads(&self, scenario: &Scenario, round: u32) -> &'static [f64] {
        match (self.quick, round) {
            (false, _) => &LOADS,
            (true, 0) if is_paired(scenario) && scenario.streams >= MANY => &LOADS[..2],
            (true, 0) if is_paired(scenario) => &LOADS,
            (true, 0) => &LOADS[..1],
            (true, _) if scenario.name == JUDGED => &LOADS[1..2],
            (true, _) => &[],
        }
    }

    /// Whether a scenario's round trips are compared in pairs at one and the same rate.
    pub fn compares_latency(&self, scenario: &Scenario) -> bool {
        is_paired(scenario) && (!self.quick || scenario.name == JUDGED)
    }

    /// What is left out by plan, for people.
    pub fn cuts(&self) -> Vec<String> {
        let mut cuts = Vec::new();
        if self.quick {
            cuts.push(format!(
                "quick: repeats of {} ms, {} of each scenario and {} of the pairs; round trips once for {} ms",
                self.window.as_millis(),
                self.rounds,
                self.pair_rounds,
                self.latency_window.as_millis()
            ));
            cuts.push(
                "quick: round trips at 10 and 80 % and the search without loss for the pairs alone, not at 10 % with 10,000 streams"
                    .to_owned(),
            );
            cuts.push(format!(
                "quick: {} pairs of round trips of {} ms for {JUDGED} alone, {} search in {} steps of {} ms, {} runs of {} ms at 95 %",
                self.pair_latency_rounds,
                self.pair_latency_window.as_millis(),
                self.searches,
                self.search_steps,
                self.search_window.as_millis(),
                self.sustained_rounds,
                self.sustained.as_millis()
            ));
            cuts.push(format!(
                "quick: warm-ups of at most {:.1} s, in which not each of 10,000 streams has had {BEGUN} packets",
                self.most_warm_up.as_secs_f64()
            ));
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
        assert_eq!((quick.loads(&any, 0), quick.loads(&any, 1)), (&[0.5][..], &[][..]));
        let judged = Scenario::named(JUDGED).unwrap();
        assert!((0..3).all(|round| quick.loads(&judged, round).contains(&0.8)));
        assert_eq!((quick.searched(0).len(), quick.pair_latency_rounds), (3, 3));
        assert!(Plan::new(false, &[], None).cuts().is_empty());
    }

    #[test]
    fn a_full_plan_has_seven_pairs_of_round_trips_and_seven_searches_side_by_side() {
        let plan = Plan::new(false, &[], None);
        assert!(plan.pair_latency_rounds >= 7 && plan.searches >= 7 && plan.search_steps >= 8);
        assert!(
            PAIRS
                .iter()
                .all(|(name, _)| plan.compares_latency(&Scenario::named(name).unwrap()))
        );
        let names = |number| {
            plan.searched(number)
                .iter()
                .map(|scenario| scenario.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(0).len(),
            SCENARIOS.len() - 2,
            "all but the flood and what returns nothing"
        );
        assert_eq!(names(1), ["inspect-10000", "afxdp-forward", "inspect-50"]);
        assert_eq!(names(2), ["inspect-50", "afxdp-forward", "inspect-10000"]);
    }

    #[test]
    fn a_warm_up_lasts_until_every_stream_has_begun() {
        let (full, quick) = (Plan::new(false, &[], None), Plan::new(true, &[], None));
        let millis = |warm_up: Duration| warm_up.as_millis();
        assert_eq!(millis(full.warm_up_at(50, 600_000.0)), 500);
        // 400,000 packets at 300,000 a second.
        assert_eq!(millis(full.warm_up_at(10_000, 600_000.0)), 1333);
        assert_eq!(millis(full.warm_up_at(10_000, 60_000.0)), 6000);
        assert_eq!(millis(quick.warm_up_at(10_000, 60_000.0)), 2500);
        assert_eq!(millis(full.warm_up_at(10_000, 1e-300)), 6000);
        assert_eq!(millis(full.warm_up_flat_out(50)), 500);
        assert_eq!(millis(full.warm_up_flat_out(1000)), 2000);
    }

    #[test]
    fn named_scenarios_and_repeats_are_obeyed() {
        let plan = Plan::new(false, &[Scenario::named("any").unwrap()], Some(2));
        assert_eq!((plan.round(0).len(), plan.rounds, plan.pair_rounds), (1, 2, 2));
        assert_eq!(plan.cuts().len(), 1);
    }
}
