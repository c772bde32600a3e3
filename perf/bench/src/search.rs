//! The highest rate without loss, by halving: searches go side by side, step by step, so that a bad second of the machine hits
//! neighbours alike.

use anyhow::Result;

use crate::plan::HALF;
use crate::run::Run;
use crate::scenario::Scenario;

/// Where the search ends, as a multiple of the maximum flat out. Above 1, for flat out some of the work is wasted on packets
/// that are lost in the end, and on streams with a gap at every packet: without loss more may go through.
const CEILING: f64 = 1.25;

/// One scenario's search.
#[derive(Clone, Copy, Debug)]
struct Search {
    scenario: Scenario,
    place: usize,
    /// The highest rate that lost nothing, as it was really sent.
    sound: Option<f64>,
    /// The search goes on between these two.
    from: f64,
    to: f64,
    failed: bool,
}

impl Search {
    fn new(scenario: Scenario, place: usize, maximum: f64) -> Search {
        Search {
            scenario,
            place,
            sound: None,
            from: maximum * HALF,
            to: maximum * CEILING,
            failed: false,
        }
    }

    /// The next rate to try.
    fn rate(&self) -> f64 {
        f64::midpoint(self.from, self.to)
    }

    /// Learns how the last try went; `sent` is the rate that was really sent.
    fn learn(&mut self, lost: u64, sent: f64) {
        let rate = self.rate();
        if lost > 0 {
            self.to = rate;
        } else {
            self.from = rate;
            let sent = sent.min(rate);
            self.sound = Some(self.sound.map_or(sent, |sound| sound.max(sent)));
        }
    }
}

/// Searches as often as the plan says.
///
/// # Errors
/// An interruption; all else is in the scenarios' reports.
pub(crate) fn search(run: &mut Run<'_>) -> Result<()> {
    for number in 0..run.plan.searches {
        let mut searches: Vec<Search> = Vec::new();
        for scenario in run.plan.searched(number) {
            if let (Some(place), Some(maximum)) = (run.place(&scenario), run.maximum(scenario.name)) {
                searches.push(Search::new(scenario, place, maximum));
            }
        }
        let whole = side_by_side(run, number, &mut searches)?;
        let found: Vec<(&str, f64)> = searches
            .iter()
            .filter(|search| !search.failed)
            .filter_map(|search| Some((search.scenario.name, search.sound?)))
            .collect();
        for search in &searches {
            if let (Some(rate), Some(gathered)) = (search.sound, run.gathered.get_mut(search.place)) {
                gathered.loss_free.push(rate);
            }
        }
        if !whole {
            // Searches of unequal length are no pair.
            return Ok(());
        }
        for pair in &mut run.pairs {
            let both = pair.take(&found);
            pair.loss_free.extend(both);
        }
    }
    Ok(())
}

/// All steps of these searches. Returns whether there was time for all of them.
fn side_by_side(run: &mut Run<'_>, number: u32, searches: &mut [Search]) -> Result<bool> {
    for step in 0..run.plan.search_steps {
        for search in searches.iter_mut().filter(|search| !search.failed) {
            let (scenario, rate) = (search.scenario, search.rate());
            let what = format!("loss-free {}.{}, {:.3} Mpps,", number + 1, step + 1, rate / 1e6);
            if !run.has_time_for(&format!("{what} {}", scenario.name), run.plan.search_window) {
                return Ok(false);
            }
            let mut order = run.rated(&scenario, rate, run.plan.search_window, false);
            order.trial = true;
            match run.measure(&what, &scenario, &order) {
                Ok(outcome) => {
                    let lost = outcome.lost(&scenario);
                    search.learn(lost, outcome.offered());
                    // What the appliance says of streams that lost packets follows from that.
                    if let Some(gathered) = run.gathered.get_mut(search.place).filter(|_| lost == 0) {
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

    fn found(limit: f64, steps: u32) -> Option<f64> {
        let mut search = Search::new(Scenario::named("any").unwrap(), 0, 1000.0);
        for _ in 0..steps {
            let rate = search.rate();
            search.learn(u64::from(rate > limit), rate);
        }
        search.sound
    }

    #[test]
    fn eight_halvings_find_a_rate_to_a_third_of_a_per_cent_of_the_maximum() {
        for limit in [505.0, 700.0, 1000.0, 1111.0, 1249.0] {
            let sound = found(limit, 8).unwrap();
            assert!(sound <= limit && limit - sound < 3.0, "{limit}: {sound}");
        }
        assert_eq!(found(400.0, 8), None);
    }

    #[test]
    fn what_was_not_sent_is_not_claimed() {
        let mut search = Search::new(Scenario::named("any").unwrap(), 0, 1000.0);
        search.learn(0, 800.0);
        assert_eq!((search.sound, search.from), (Some(800.0), 875.0));
    }
}
