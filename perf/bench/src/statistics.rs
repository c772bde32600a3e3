//! Medians, spread and pair ratios: how a handful of noisy repeats becomes one figure that says how far to trust it.
//!
//! Everything here is order statistics. A mean would let one stall of the machine speak for all repeats.

/// Spread above which a figure is not to be trusted: the relative interquartile range of a scenario's repeats.
pub const MOST_SPREAD: f64 = 0.15;
/// Share of the two cores' time that the hypervisor may take away before the run is called noisy.
pub const MOST_STEAL: f64 = 0.02;
/// Share of a window that the appliance's threads may wait for their core while somebody else runs on it.
pub const MOST_WAITING: f64 = 0.03;
/// Repeats below which a spread says nothing.
pub const FEWEST_FOR_SPREAD: usize = 3;

/// The value at quantile `q` (0 to 1) by linear interpolation between the two nearest ranks; `None` of nothing.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = *sorted.get(place.floor() as usize)?;
    let above = *sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
}

/// The middle value; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Interquartile range divided by the median: 0 when all repeats agree. `None` of fewer than three values or of zeros.
pub fn spread(values: &[f64]) -> Option<f64> {
    if values.len() < FEWEST_FOR_SPREAD {
        return None;
    }
    let (low, middle, high) = (quantile(values, 0.25)?, median(values)?, quantile(values, 0.75)?);
    (middle > 0.0).then(|| (high - low) / middle)
}

/// The ratio of each pair measured back to back. Pairs with a missing or zero half are left out.
pub fn pair_ratios(pairs: &[(f64, f64)]) -> Vec<f64> {
    pairs
        .iter()
        .filter(|(value, base)| value.is_finite() && *base > 0.0)
        .map(|(value, base)| value / base)
        .collect()
}

/// What disturbed a measurement from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// Relative interquartile range of the repeats, if there were enough.
    pub spread: Option<f64>,
    /// Share of the cores' time that the hypervisor took.
    pub steal: f64,
    /// Share of its time that the appliance waited for a core.
    pub waiting: f64,
}

impl Disturbance {
    /// Why the figures are not to be trusted; empty if they are.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let percent = |share: f64| share * 100.0;
        if let Some(spread) = self.spread.filter(|spread| *spread > MOST_SPREAD) {
            complaints.push(format!(
                "repeats spread over {:.0} % of their median, more than {:.0} %",
                percent(spread),
                percent(MOST_SPREAD)
            ));
        }
        if self.steal > MOST_STEAL {
            complaints.push(format!(
                "the hypervisor took {:.1} % of the cores, more than {:.0} %",
                percent(self.steal),
                percent(MOST_STEAL)
            ));
        }
        if self.waiting > MOST_WAITING {
            complaints.push(format!(
                "the appliance waited {:.1} % of its time for its core, more than {:.0} %: something else runs there",
                percent(self.waiting),
                percent(MOST_WAITING)
            ));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_nothing() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN, 5.0]), Some(5.0));
    }

    #[test]
    fn quartiles_interpolate_as_the_usual_definition_does() {
        // Type 7 of Hyndman and Fan, what R and NumPy do by default.
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&values, 0.25), Some(1.75));
        assert_eq!(quantile(&values, 0.75), Some(3.25));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&values, 7.0), Some(4.0));
    }

    #[test]
    fn spread_is_relative_and_needs_three() {
        assert_eq!(spread(&[1.0, 2.0]), None);
        assert_eq!(spread(&[2.0, 2.0, 2.0]), Some(0.0));
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), Some(2.0 / 3.0));
        assert_eq!(spread(&[0.0, 0.0, 0.0]), None);
        // One outlier of seven moves neither quartile.
        assert_eq!(spread(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0]), Some(0.0));
    }

    #[test]
    fn a_drift_that_hits_both_halves_of_a_pair_leaves_the_ratio_alone() {
        let pairs = [(0.9, 1.0), (0.45, 0.5), (1.8, 2.0), (1.0, 0.0)];
        let ratios = pair_ratios(&pairs);
        assert_eq!(ratios.len(), 3);
        assert_eq!(median(&ratios), Some(0.9));
        // The ratio of the medians would be the same here, but not where halves drift apart in time.
        assert!(ratios.iter().all(|ratio| (ratio - 0.9).abs() < 1e-12));
    }

    #[test]
    fn a_quiet_run_has_no_complaints_and_each_disturbance_has_its_own() {
        let quiet = Disturbance {
            spread: Some(0.05),
            steal: 0.001,
            waiting: 0.0,
        };
        assert!(quiet.complaints().is_empty());
        assert!(Disturbance::default().complaints().is_empty());
        let loud = Disturbance {
            spread: Some(0.4),
            steal: 0.1,
            waiting: 0.2,
        };
        let complaints = loud.complaints();
        assert_eq!(complaints.len(), 3);
        assert!(complaints[0].contains("40 %") && complaints[1].contains("10.0 %") && complaints[2].contains("20.0 %"));
    }
}
