//! Time and figures: what a thread's processor spent, and medians of repeats.
//!
//! Others may use the machine's processors meanwhile, so the processor time of this thread (user and system) is what
//! counts; the time on the wall is told beside it.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What some work cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time of this thread.
    pub(crate) processor: Duration,
    /// Time that passed.
    pub(crate) wall: Duration,
}

/// Does some work and tells its cost.
pub(crate) fn cost<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    let (wall, before) = (Instant::now(), processor_time());
    let result = work();
    let cost = Cost {
        processor: processor_time().saturating_sub(before),
        wall: wall.elapsed(),
    };
    (result, cost)
}

/// Processor time that this thread has spent.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The median of some figures, and the smallest and the largest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        Spread {
            median: at(figures.len() / 2),
            least: at(0),
            most: at(figures.len().saturating_sub(1)),
        }
    }
}
