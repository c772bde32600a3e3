//! Round trips: all of them, and those of the time in which the machine was all there.
//!
//! The collector's histogram is read every few milliseconds, so a run is a row of slices with a histogram each. A slice in
//! which a core was taken away, or in which the backlog of that was still being worked off, is left out of the stall-free
//! figures. Both figures are always given.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::probe::Stall;
use crate::statistics::median;
use crate::traffic::RoundTripCounts;

/// The longest round trip that is told from longer ones, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;
/// Significant decimal digits of a round trip.
const DIGITS: u8 = 3;
/// A backlog is worked off more slowly the higher the load; above this share of the maximum no better is claimed.
const MOST_LOAD: f64 = 0.95;
/// Points of the curve in the plot: the shares of round trips below.
const CURVE: &[f64] = &[
    0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997,
    0.998, 0.999, 0.9993, 0.9995, 0.9997, 0.9999, 0.99995, 0.99999,
];

/// An empty histogram of nanoseconds.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).context("a histogram with impossible bounds")
}

/// What came back within a few milliseconds.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Begin, `CLOCK_MONOTONIC` in nanoseconds.
    pub from: u64,
    /// End.
    pub to: u64,
    /// Round trips of what arrived in between.
    pub round_trips: RoundTripCounts,
}

/// The usual places of a distribution, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Round trips measured.
    pub samples: u64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Percentiles {
    /// The median of each place over some repeats, but of the longest the longest; `None` of nothing.
    pub fn median(repeats: &[Percentiles]) -> Option<Percentiles> {
        let of = |take: fn(&Percentiles) -> f64| median(&repeats.iter().map(take).collect::<Vec<_>>());
        Some(Percentiles {
            samples: repeats.iter().map(|repeat| repeat.samples).sum(),
            p50_us: of(|repeat| repeat.p50_us)?,
            p90_us: of(|repeat| repeat.p90_us)?,
            p99_us: of(|repeat| repeat.p99_us)?,
            p999_us: of(|repeat| repeat.p999_us)?,
            max_us: repeats.iter().map(|repeat| repeat.max_us).fold(0.0, f64::max),
        })
    }
}

/// Round trips of one run.
#[derive(Clone, Debug)]
pub struct RoundTrips {
    raw: Histogram<u64>,
    stall_free: Histogram<u64>,
    /// Slices of the run.
    pub slices: usize,
    /// Slices left out of the stall-free figures.
    pub excluded: usize,
    /// Stalls of either core.
    pub stalls: usize,
    /// Their total length.
    pub stalled: Duration,
    /// Whether a probe ran; without it nothing is known to be stall-free.
    pub probed: bool,
}

impl RoundTrips {
    /// Nothing yet.
    ///
    /// # Errors
    /// Never.
    pub fn new(probed: bool) -> Result<RoundTrips> {
        Ok(RoundTrips {
            raw: histogram()?,
            stall_free: histogram()?,
            slices: 0,
            excluded: 0,
            stalls: 0,
            stalled: Duration::ZERO,
            probed,
        })
    }

    /// Adds a run's slices and the stalls in it. `load` is the run's share of the maximum rate, 0 to 1: it says how long the
    /// backlog of a stall lasts, since what arrived during it is worked off with what is left of the maximum.
    pub fn add(&mut self, slices: &[Slice], stalls: &[Stall], load: f64) {
        let load = load.clamp(0.0, MOST_LOAD);
        let shadows: Vec<(u64, u64)> = stalls
            .iter()
            .map(|stall| {
                let backlog = stall.length().mul_f64(load / (1.0 - load));
                let backlog = u64::try_from(backlog.as_nanos()).unwrap_or(u64::MAX);
                (stall.from, stall.to.saturating_add(backlog))
            })
            .collect();
        for slice in slices {
            let stalled = shadows.iter().any(|(from, to)| *from < slice.to && slice.from < *to);
            for (nanos, count) in slice.round_trips.iter().copied() {
                self.raw.saturating_record_n(nanos, count);
                if !stalled {
                    self.stall_free.saturating_record_n(nanos, count);
                }
            }
            self.slices += 1;
            self.excluded += usize::from(stalled);
        }
        self.stalls += stalls.len();
        self.stalled += stalls.iter().map(Stall::length).sum::<Duration>();
    }

    /// All round trips; `None` of nothing.
    pub fn raw(&self) -> Option<Percentiles> {
        percentiles(&self.raw)
    }

    /// Those without stalls; `None` if there was no probe or nothing is left.
    pub fn stall_free(&self) -> Option<Percentiles> {
        percentiles(&self.stall_free).filter(|_| self.probed)
    }

    /// Share of round trips and microseconds, rising, of the stall-free ones if there are any, else of all.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let best = if self.stall_free().is_some() {
            &self.stall_free
        } else {
            &self.raw
        };
        let known = CURVE.iter().filter(|q| (1.0 - **q) * best.len() as f64 >= 1.0);
        known
            .map(|q| (*q, best.value_at_quantile(*q) as f64 / 1000.0))
            .collect()
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    (!histogram.is_empty()).then(|| Percentiles {
        samples: histogram.len(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: histogram.max() as f64 / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(from_ms: u64, round_trip_us: u64) -> Slice {
        Slice {
            from: from_ms * 1_000_000,
            to: (from_ms + 10) * 1_000_000,
            round_trips: vec![(round_trip_us * 1000, 1000)],
        }
    }

    fn stall(from_ms: u64, to_ms: u64) -> Stall {
        Stall {
            core: 1,
            from: from_ms * 1_000_000,
            to: to_ms * 1_000_000,
        }
    }

    #[test]
    fn a_stall_and_its_backlog_are_left_out_of_one_figure_and_stay_in_the_other() {
        let slices = [
            slice(0, 5),
            slice(10, 9000),
            slice(20, 4000),
            slice(30, 5),
            slice(40, 5),
        ];
        let mut trips = RoundTrips::new(true).unwrap();
        // Ten milliseconds at half load: ten more until all is as before, into the slice from 20 to 30.
        trips.add(&slices, &[stall(11, 19)], 0.5);
        assert_eq!((trips.slices, trips.excluded, trips.stalls), (5, 2, 1));
        assert_eq!(trips.stalled, Duration::from_millis(8));
        let (raw, free) = (trips.raw().unwrap(), trips.stall_free().unwrap());
        assert!(raw.max_us > 8900.0 && free.max_us < 5.1, "{raw:?} {free:?}");
        assert_eq!((raw.samples, free.samples), (5000, 3000));
    }

    #[test]
    fn a_higher_load_has_a_longer_shadow_but_not_an_endless_one() {
        let slices: Vec<Slice> = (0..40).map(|number| slice(number * 10, 5)).collect();
        let excluded = |load: f64| {
            let mut trips = RoundTrips::new(true).unwrap();
            trips.add(&slices, &[stall(1, 9)], load);
            trips.excluded
        };
        assert_eq!(excluded(0.1), 1);
        assert_eq!(excluded(0.8), 5);
        assert!(excluded(1.0) < 20);
    }

    #[test]
    fn without_a_probe_nothing_is_called_stall_free() {
        let mut trips = RoundTrips::new(false).unwrap();
        trips.add(&[slice(0, 5)], &[], 0.5);
        assert!(trips.stall_free().is_none() && trips.raw().is_some());
        assert!(RoundTrips::new(true).unwrap().raw().is_none());
    }

    #[test]
    fn the_curve_ends_where_samples_do() {
        let mut trips = RoundTrips::new(true).unwrap();
        trips.add(&[slice(0, 5)], &[], 0.5);
        let curve = trips.curve();
        // A thousand round trips say nothing of one in ten thousand.
        assert!(curve.last().unwrap().0 <= 0.999, "{curve:?}");
        assert!(curve.iter().all(|(_, us)| (*us - 5.0).abs() < 0.1));
    }
}
