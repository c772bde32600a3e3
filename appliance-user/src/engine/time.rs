//! Time as the engine sees it: a number that is given, never asked for.

use core::time::Duration;

/// Nanoseconds on the driver's own axis: `CLOCK_MONOTONIC` live, the capture's time stamps offline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `nanos` nanoseconds after the axis' origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timestamp(nanos)
    }

    /// Nanoseconds since the axis' origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it (captures may step back).
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved on by `duration`.
    pub const fn after(self, duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        Timestamp(self.0.saturating_add(if nanos > u64::MAX as u128 {
            u64::MAX
        } else {
            nanos as u64
        }))
    }
}
