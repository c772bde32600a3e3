//! How long packets stay with a worker: from the read of the receive ring to the kick of the transmit ring.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest residence told apart; whatever is longer counts as this.
const MAX: Duration = Duration::from_secs(10);

/// Residence times of a worker's packets.
pub(super) struct Latency(Histogram<u64>);

/// Percentiles of the residence time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencySummary {
    /// Packets measured.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

impl Latency {
    /// An empty histogram, with all the memory it will ever need.
    pub(super) fn new() -> Self {
        let nanos = MAX.as_nanos() as u64;
        Latency(Histogram::new_with_bounds(1, nanos, 3).expect("1 ns to 10 s with 3 digits is a valid histogram"))
    }

    /// Notes a burst of `packets` that all stayed this long.
    pub(super) fn record(&mut self, residence: Duration, packets: u64) {
        let nanos = residence.min(MAX).as_nanos() as u64;
        // The bounds are fixed and the value was cut to them: this cannot fail.
        let _ = self.0.record_n(nanos.max(1), packets);
    }

    pub(super) fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.0.len(),
            p50_ns: self.0.value_at_quantile(0.5),
            p99_ns: self.0.value_at_quantile(0.99),
            p999_ns: self.0.value_at_quantile(0.999),
            max_ns: self.0.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_once_per_packet_and_the_longest_is_cut() {
        let mut latency = Latency::new();
        latency.record(Duration::from_micros(10), 98);
        latency.record(Duration::from_secs(60), 2);
        let summary = latency.summary();
        assert_eq!(summary.count, 100);
        assert!((9_900..=10_100).contains(&summary.p50_ns), "{summary:?}");
        assert!(summary.p999_ns >= 9_900_000_000 && summary.max_ns <= 10_100_000_000, "{summary:?}");
    }
}
