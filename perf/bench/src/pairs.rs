//! Two scenarios against each other: at full speed, without loss, and in their round trips at one and the same rate.
//!
//! A machine that others share has good and bad seconds. Each pair is therefore measured back to back, makes one ratio, and
//! the median of the ratios is judged: a bad second spoils one pair, and drift hits both of its halves.

use anyhow::Result;

use crate::gather::HalfLoad;
use crate::plan::HALF;
use crate::report::{P99Pair, PairReport};
use crate::run::Run;
use crate::scenario::{BASE, PAIRS, Scenario};
use crate::statistics::{median, pair_ratios, spread};

/// The repeats of two scenarios measured back to back.
#[derive(Debug)]
pub(crate) struct Pair {
    name: &'static str,
    /// Packets a second flat out.
    pub(crate) rates: Vec<(f64, f64)>,
    /// Packets a second without loss, of searches that went side by side.
    pub(crate) loss_free: Vec<(f64, f64)>,
    /// Round trips at half load.
    half_loads: Vec<P99Pair>,
}

impl Pair {
    /// Every pair, of which nothing is known yet.
    pub(crate) fn all() -> Vec<Pair> {
        PAIRS.iter().map(|(name, _)| Pair::new(name)).collect()
    }

    fn new(name: &'static str) -> Pair {
        Pair {
            name,
            rates: Vec::new(),
            loss_free: Vec::new(),
            half_loads: Vec::new(),
        }
    }

    /// Takes both halves of a round out of all that was measured in it.
    pub(crate) fn take(&self, values: &[(&str, f64)]) -> Option<(f64, f64)> {
        let value = |wanted: &str| values.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        value(self.name).zip(value(BASE))
    }

    /// What came of it; `None` of nothing.
    pub(crate) fn report(&self) -> Option<PairReport> {
        let (ratios, loss_free) = (pair_ratios(&self.rates), pair_ratios(&self.loss_free));
        let p99_ratios: Vec<f64> = self.half_loads.iter().map(|pair| pair.ratio).collect();
        let millions = |(own, base): &(f64, f64)| (own / 1e6, base / 1e6);
        Some(PairReport {
            name: self.name.to_owned(),
            base: BASE.to_owned(),
            ratio: median(&ratios)?,
            spread: spread(&ratios),
            ratios,
            loss_free_ratio: median(&loss_free),
            loss_free_spread: spread(&loss_free),
            loss_free_ratios: loss_free,
            loss_free_mpps: self.loss_free.iter().map(millions).collect(),
            p99_ratio: median(&p99_ratios),
            p99_spread: spread(&p99_ratios),
            p99_rounds: self.half_loads.clone(),
        })
    }
}

/// Measures the pairs' round trips, back to back and at the same rate: half of the smaller maximum. Half of each one's own
/// would compare two loads, not two programs.
///
/// # Errors
/// An interruption; all else is in the scenarios' reports.
pub(crate) fn half_load(run: &mut Run<'_>) -> Result<()> {
    let Some(base) = Scenario::named(BASE) else {
        return Ok(());
    };
    for round in 0..run.plan.pair_latency_rounds {
        for place in 0..run.pairs.len() {
            let own = run.pairs.get(place).and_then(|pair| Scenario::named(pair.name));
            let Some(own) = own.filter(|own| run.plan.compares_latency(own)) else {
                continue;
            };
            let maxima = run.maximum(own.name).zip(run.maximum(base.name));
            let Some(rate) = maxima.map(|(own, base)| own.min(base) * HALF) else {
                continue;
            };
            let what = format!("pair {}, {:.3} Mpps,", round + 1, rate / 1e6);
            let order = run.rated(&own, rate, run.plan.pair_latency_window, true);
            if !run.has_time_for(&format!("{what} {}", own.name), order.traffic() * 2) {
                return Ok(());
            }
            // Every other round the other way round, so that neither is always the first.
            let (first, second) = if round.is_multiple_of(2) {
                (own, base)
            } else {
                (base, own)
            };
            let (Some(one), Some(other)) = (trip(run, &what, &first, rate)?, trip(run, &what, &second, rate)?) else {
                continue;
            };
            let (own, base) = if round.is_multiple_of(2) {
                (one, other)
            } else {
                (other, one)
            };
            if let Some(pair) = run.pairs.get_mut(place) {
                pair.half_loads.extend(compared(rate, &own, &base));
            }
        }
    }
    Ok(())
}

/// One half of a pair; `None` if it failed.
fn trip(run: &mut Run<'_>, what: &str, scenario: &Scenario, rate: f64) -> Result<Option<HalfLoad>> {
    let (Some(place), Some(maximum)) = (run.place(scenario), run.maximum(scenario.name)) else {
        return Ok(None);
    };
    let order = run.rated(scenario, rate, run.plan.pair_latency_window, true);
    match run.measure(what, scenario, &order) {
        Ok(outcome) => match run.gathered.get_mut(place) {
            Some(gathered) => gathered.half_load(rate / maximum, &outcome),
            None => Ok(None),
        },
        Err(error) => run.interruption(error, place).map(|()| None),
    }
}

/// Both halves as one ratio: without the machine's stalls if that is known of both, else with them.
fn compared(rate: f64, own: &HalfLoad, base: &HalfLoad) -> Option<P99Pair> {
    let stall_free = own.stall_free_us.zip(base.stall_free_us);
    let (own_us, base_us) = stall_free.or(own.raw_us.zip(base.raw_us))?;
    (base_us > 0.0).then(|| P99Pair {
        mpps: rate / 1e6,
        own_us,
        base_us,
        ratio: own_us / base_us,
        stall_free: stall_free.is_some(),
        own_left_out: own.left_out,
        base_left_out: base.left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(raw: f64, stall_free: Option<f64>) -> HalfLoad {
        HalfLoad {
            raw_us: Some(raw),
            stall_free_us: stall_free,
            left_out: 0.0,
        }
    }

    #[test]
    fn a_pair_is_the_median_of_its_ratios_and_not_the_ratio_of_its_medians() {
        let mut pair = Pair::new("inspect-50");
        assert!(pair.report().is_none());
        pair.rates = vec![(0.9, 1.0), (1.8, 2.0), (2.7, 3.0), (0.1, 1.0)];
        pair.loss_free = vec![(0.5, 1.0), (0.8, 1.0), (0.9, 1.0)];
        // The machine was ten times slower in one of the rounds and in one half of another.
        for (own, base) in [(6.0, 5.0), (60.0, 50.0), (60.0, 5.0), (7.0, 5.0), (5.0, 5.0)] {
            pair.half_loads
                .extend(compared(4e5, &trips(own, None), &trips(base, None)));
        }
        let report = pair.report().unwrap();
        assert!((report.ratio - 0.9).abs() < 1e-9, "{report:?}");
        assert_eq!((report.loss_free_ratio, report.p99_ratio), (Some(0.8), Some(1.2)));
        assert_eq!((report.p99_rounds.len(), report.loss_free_ratios.len()), (5, 3));
    }

    #[test]
    fn stall_free_figures_are_compared_with_their_like() {
        let both = compared(4e5, &trips(90.0, Some(6.0)), &trips(10.0, Some(5.0))).unwrap();
        assert!(both.stall_free && (both.ratio - 1.2).abs() < 1e-9);
        let one = compared(4e5, &trips(90.0, Some(6.0)), &trips(10.0, None)).unwrap();
        assert!(!one.stall_free && (one.ratio - 9.0).abs() < 1e-9);
    }

    #[test]
    fn both_halves_of_a_round_or_none() {
        let pair = Pair::new("inspect-50");
        assert_eq!(
            pair.take(&[("any", 3.0), (BASE, 2.0), ("inspect-50", 1.0)]),
            Some((1.0, 2.0))
        );
        assert_eq!(pair.take(&[(BASE, 2.0)]), None);
    }
}
