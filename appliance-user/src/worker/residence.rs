//! How long packets stay with a worker: from the read of the receive ring to the kick of the transmit ring.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest residence told apart; whatever is longer counts as this.
const MAX: Duration = Duration::from_secs(10);

/// Significant digits of a residence. One more would make the table eight times as large, 200 KB that every burst writes into
/// and every summary walks over, for a tenth of a per cent that no measurement of this kind holds.
const DIGITS: u8 = 2;

/// Residence times of a worker's packets.
pub(super) struct ResidenceTimes(Histogram<u64>);

/// Percentiles of the residence time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Residence {
    /// Packets measured.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

impl ResidenceTimes {
    /// An empty histogram, with all the memory it will ever need.
    pub(super) fn new() -> Self {
        let nanos = MAX.as_nanos() as u64;
        ResidenceTimes(
            Histogram::new_with_bounds(1, nanos, DIGITS).expect("1 ns to 10 s with 2 digits is a valid histogram"),
        )
    }

    /// Notes a burst of `packets` that all stayed this long.
    pub(super) fn record(&mut self, residence: Duration, packets: u64) {
        let nanos = residence.min(MAX).as_nanos() as u64;
        // The bounds are fixed and the value was cut to them: this cannot fail.
        let _ = self.0.record_n(nanos.max(1), packets);
    }

    pub(super) fn summary(&self) -> Residence {
        Residence {
            count: self.0.len(),
            p50: self.0.value_at_quantile(0.5),
            p99: self.0.value_at_quantile(0.99),
            p999: self.0.value_at_quantile(0.999),
            max: self.0.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_once_per_packet_and_the_longest_is_cut() {
        let mut times = ResidenceTimes::new();
        times.record(Duration::from_micros(10), 98);
        times.record(Duration::from_secs(60), 2);
        let summary = times.summary();
        assert_eq!(summary.count, 100);
        assert!((9_900..=10_100).contains(&summary.p50), "{summary:?}");
        assert!(
            summary.p999 >= 9_900_000_000 && summary.max <= 10_100_000_000,
            "{summary:?}"
        );
    }
}
