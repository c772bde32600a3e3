//! How long frames were away: a histogram with a resolution of 1.6%, from 256 ns to a second.

use tidegate_frames::maps::{BUCKETS, bucket_end};

/// Latencies in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    buckets: Box<[u64]>,
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }
}

impl Latency {
    /// Adds another histogram's counts.
    pub fn add(&mut self, other: &Latency) {
        self.add_counts(&other.buckets);
    }

    pub(crate) fn add_counts(&mut self, counts: &[u64]) {
        for (bucket, count) in self.buckets.iter_mut().zip(counts) {
            *bucket += count;
        }
    }

    pub(crate) fn subtract(&mut self, earlier: &Latency) {
        for (bucket, count) in self.buckets.iter_mut().zip(&earlier.buckets) {
            *bucket = bucket.saturating_sub(*count);
        }
    }

    /// Frames that were measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The latency that the given share of frames did not exceed, nanoseconds, for a share between 0 and 1: an upper bound, at most
    /// 1.6% above the truth. 0 without frames, `u64::MAX` from 1.07 s.
    pub fn quantile(&self, share: f64) -> u64 {
        let count = self.count();
        let wanted = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let reached = self.distribution().find(|&(_, reached)| reached >= wanted);
        reached.map_or(0, |(latency, _)| latency)
    }

    /// The longest, as [`Latency::quantile`] has it.
    pub fn max(&self) -> u64 {
        self.quantile(1.0)
    }

    /// For each latency that occurred, in order: it (nanoseconds, upper bound) and how many frames did not exceed it.
    pub fn distribution(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut reached = 0;
        self.buckets.iter().enumerate().filter_map(move |(index, &count)| {
            reached += count;
            (count > 0).then_some((bucket_end(index), reached))
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_frames::maps::bucket;

    use super::*;

    #[test]
    fn quantiles_are_bounds_within_two_per_cent() {
        let mut latency = Latency::default();
        assert_eq!((latency.quantile(0.5), latency.max(), latency.count()), (0, 0, 0));
        for nanos in (1..=1000u64).map(|n| n * 1000) {
            latency.buckets[bucket(nanos)] += 1;
        }
        for (share, truth) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let ratio = latency.quantile(share) as f64 / truth;
            assert!((1.0..1.02).contains(&ratio), "{share}: {ratio}");
        }
        let mut half = latency.clone();
        half.subtract(&latency);
        assert_eq!(half, Latency::default());
    }
}
