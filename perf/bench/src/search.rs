//! The highest rate without loss, by halving: searches go side by side, step by step, so that a bad second of the machine hits
//! neighbours alike.
//!
//! A scenario's first search knows no more than its maximum flat out. Those after it begin close to the median of what was found
//! so far and need fewer steps for it; what they find depends on that no more than on any other bounds, for where one of these
//! proves wrong it moves.

use anyhow::Result;

use crate::plan::HALF;
use crate::run::Run;
use crate::scenario::Scenario;
use crate::statistics::median;

/// Where the first search ends, as a multiple of the maximum flat out. Above 1, for flat out some of the work is wasted on packets
/// that are lost in the end, and on streams with a gap at every packet: without loss more may go through.
const CEILING: f64 = 1.25;
/// The same for thousands of streams: a gap in each of them costs much more than a packet in order.
const CEILING_OF_MANY: f64 = 1.6;
const MANY: u32 = 5_000;
/// Where a later search begins and ends, as multiples of what was found so far.
const NEAR: (f64, f64) = (0.85, 1.15);
/// How often a later search may move a bound that proves wrong, by as much as its bounds were apart. Twice down is a quarter of what
/// was found before: then something else is wrong.
const MOST_MOVES: u32 = 2;

/// One scenario's search.
#[derive(Clone, Copy, Debug)]
struct Search {
    scenario: Scenario,
    place: usize,
    /// The highest rate that lost nothing, as it was really sent.
    sound: Option<f64>,
    /// Whether some rate was too high.
    lost: bool,
    /// The search goes on between these two.
    from: f64,
    to: f64,
    /// Halvings to go.
    left: u32,
    /// What is added to the bounds where one of them proves wrong, how many halvings more that takes, and how often it may be.
    width: f64,
    again: u32,
    moves: u32,
    failed: bool,
}

impl Search {
    /// A scenario's first search.
    fn first(scenario: Scenario, place: usize, maximum: f64, steps: u32) -> Search {
        Search {
            scenario,
            place,
            sound: None,
            lost: false,
            from: maximum * HALF,
            to: maximum
                * if scenario.streams < MANY {
                    CEILING
                } else {
                    CEILING_OF_MANY
                },
            left: steps,
            width: 0.0,
            again: 0,
            moves: 0,
            failed: false,
        }
    }

    /// A search that knows what earlier ones found.
    fn near(scenario: Scenario, place: usize, found: f64, steps: u32) -> Search {
        let (from, to) = (found * NEAR.0, found * NEAR.1);
        Search {
            from,
            to,
            left: steps,
            width: to - from,
            // What is left of the old bounds comes on top.
            again: steps + 1,
            moves: MOST_MOVES,
            ..Search::first(scenario, place, found, steps)
        }
    }

    /// The next rate to try.
    fn rate(&self) -> f64 {
        f64::midpoint(self.from, self.to)
    }

    /// Whether there is nothing more to try.
    fn is_over(&self) -> bool {
        self.failed || self.left == 0
    }

    /// Learns whether the last try went wrong; `sent` is the rate that was really sent.
    fn learn(&mut self, wrong: bool, sent: f64) {
        let rate = self.rate();
        if wrong {
            self.to = rate;
            self.lost = true;
        } else {
            self.from = rate;
            let sent = sent.min(rate);
            self.sound = Some(self.sound.map_or(sent, |sound| sound.max(sent)));
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 && self.moves > 0 {
            self.move_a_bound();
        }
    }

    /// Goes on beyond a bound that was taken for granted and that nothing has confirmed.
    fn move_a_bound(&mut self) {
        if self.sound.is_none() {
            self.from = (self.from - self.width).max(0.0);
        } else if !self.lost {
            self.to += self.width;
        } else {
            return;
        }
        self.left = self.again;
        self.moves -= 1;
    }
}

/// Share of what is sent in a window that comes back in it at least. Rings hold the packets of 50 ms: what only fills them loses
/// nothing in a second, and loses packets in the next.
const KEPT_UP: f64 = 0.99;

/// Whether as much came back as was sent, but for what was on its way.
fn keeps_up(sent: u64, received: u64) -> bool {
    received as f64 >= sent as f64 * KEPT_UP
}

/// Searches as often as the plan says.
///
/// # Errors
/// An interruption; all else is in the scenarios' reports.
pub(crate) fn search(run: &mut Run<'_>) -> Result<()> {
    for number in 0..run.plan.searches {
        let mut searches: Vec<Search> = Vec::new();
        for scenario in run.plan.searched(number) {
            let Some(place) = run.place(&scenario) else { continue };
            let Some(gathered) = run.gathered.get(place) else {
                continue;
            };
            if let Some(found) = median(&gathered.loss_free) {
                searches.push(Search::near(scenario, place, found, run.plan.later_search_steps));
            } else if let Some(maximum) = gathered.flat_out_maximum() {
                searches.push(Search::first(scenario, place, maximum, run.plan.search_steps));
            }
        }
        let whole = side_by_side(run, number, &mut searches)?;
        let found: Vec<(usize, &str, f64)> = searches
            .iter()
            // One that was cut short knows what is possible and not what is not.
            .filter(|search| search.is_over() && !search.failed)
            .filter_map(|search| Some((search.place, search.scenario.name, search.sound?)))
            .collect();
        for (place, _, rate) in &found {
            if let Some(gathered) = run.gathered.get_mut(*place) {
                gathered.loss_free.push(*rate);
            }
        }
        if !whole {
            return Ok(());
        }
        let found: Vec<(&str, f64)> = found.into_iter().map(|(_, name, rate)| (name, rate)).collect();
        for pair in &mut run.pairs {
            let both = pair.take(&found);
            pair.loss_free.extend(both);
        }
    }
    Ok(())
}

/// All steps of these searches. Returns whether there was time for all of them.
fn side_by_side(run: &mut Run<'_>, number: u32, searches: &mut [Search]) -> Result<bool> {
    let mut step = 0;
    // Each step brings each search closer to its end.
    while searches.iter().any(|search| !search.is_over()) {
        step += 1;
        for search in searches.iter_mut().filter(|search| !search.is_over()) {
            let (scenario, rate) = (search.scenario, search.rate());
            let what = format!("loss-free {}.{step}, {:.3} Mpps,", number + 1, rate / 1e6);
            let mut order = run.rated(&scenario, rate, run.plan.search_window, false);
            order.trial = true;
            if !run.has_time_for(&format!("{what} {}", scenario.name), order.traffic()) {
                return Ok(false);
            }
            match run.measure(&what, &scenario, &order) {
                Ok(outcome) => {
                    let lost = outcome.lost(&scenario);
                    search.learn(
                        lost > 0 || !keeps_up(outcome.sent.listed, outcome.received.listed),
                        outcome.offered(),
                    );
                    let Some(gathered) = run.gathered.get_mut(search.place) else {
                        continue;
                    };
                    gathered.begun(&outcome);
                    // What the appliance says of streams that lost packets follows from that.
                    if outcome.lost_nothing(&scenario) {
                        gathered.blame("without loss", &outcome.faults);
                    }
                }
                Err(error) => {
                    search.failed = true;
                    run.interruption(error, search.place)?;
                }
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Scenario {
        Scenario::named("any").unwrap()
    }

    /// What a search finds where all up to a limit goes without loss, and in how many steps.
    fn found(mut search: Search, limit: f64) -> (Option<f64>, u32) {
        let mut steps = 0;
        while !search.is_over() {
            let rate = search.rate();
            search.learn(rate > limit, rate);
            steps += 1;
            assert!(steps < 100, "without an end");
        }
        (search.sound, steps)
    }

    #[test]
    fn eight_halvings_find_a_rate_to_a_third_of_a_per_cent_of_the_maximum() {
        for limit in [505.0, 700.0, 1000.0, 1111.0, 1249.0] {
            let (sound, steps) = found(Search::first(any(), 0, 1000.0, 8), limit);
            let sound = sound.unwrap();
            assert!(sound <= limit && limit - sound < 3.0, "{limit}: {sound}");
            assert_eq!(steps, 8);
        }
        assert_eq!(found(Search::first(any(), 0, 1000.0, 8), 400.0), (None, 8));
    }

    #[test]
    fn five_halvings_find_one_to_a_per_cent_of_what_was_found_before() {
        for limit in (860..1140).step_by(7).map(f64::from) {
            let (sound, steps) = found(Search::near(any(), 0, 1000.0, 5), limit);
            let sound = sound.unwrap();
            assert!(sound <= limit && limit - sound < 9.4, "{limit}: {sound}");
            assert_eq!(steps, 5);
        }
    }

    #[test]
    fn bounds_that_prove_wrong_move() {
        for (limit, wanted_steps) in [
            (851.0, 11),
            (700.0, 11),
            (400.0, 17),
            (1150.0, 11),
            (1300.0, 11),
            (1600.0, 17),
        ] {
            let (sound, steps) = found(Search::near(any(), 0, 1000.0, 5), limit);
            let sound = sound.unwrap();
            assert!(sound <= limit && limit - sound < 10.0, "{limit}: {sound}");
            assert_eq!(steps, wanted_steps, "{limit}");
        }
        // But not for ever.
        assert_eq!(found(Search::near(any(), 0, 1000.0, 5), 100.0), (None, 17));
        assert!(found(Search::near(any(), 0, 1000.0, 5), 1e9).0.unwrap() > 1700.0);
    }

    #[test]
    fn rings_that_fill_are_not_taken_for_a_rate_without_loss() {
        assert!(keeps_up(600_000, 599_900) && keeps_up(600_000, 610_000));
        // 32,768 of 0.6 million packets went into the rings.
        assert!(!keeps_up(600_000, 567_232));
    }

    #[test]
    fn what_was_not_sent_is_not_claimed() {
        let mut search = Search::first(any(), 0, 1000.0, 8);
        search.learn(false, 800.0);
        assert_eq!((search.sound, search.from), (Some(800.0), 875.0));
    }
}
