//! How fast a transport stream runs: bit rate and share of null packets over a sliding window, without a division per
//! packet.
//!
//! A meter samples the running packet counters ten times a window, so a window is exact to a tenth of its length. It says
//! nothing before it has seen a whole window.

use core::time::Duration;

use crate::engine::time::Timestamp;

/// Bits of a TS packet (ISO/IEC 13818-1 2.4.3.2).
const PACKET_BITS: u128 = 188 * 8;
/// Samples within a window.
const SAMPLES: u64 = 10;
/// The samples of a window, the one at its beginning and the newest.
const KEPT: usize = SAMPLES as usize + 2;

/// Running counters of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packets {
    /// All packets, null packets included.
    pub(super) all: u64,
    /// Null packets.
    pub(super) null: u64,
}

/// Bits per second of so many packets in that time; `None` for no time.
pub(super) fn bits_per_second(packets: u64, elapsed: Duration) -> Option<u64> {
    let bits = u128::from(packets) * PACKET_BITS * 1_000_000_000;
    bits.checked_div(elapsed.as_nanos())
        .map(|rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

/// The share of null packets in per cent; `None` without packets.
pub(super) fn null_percent(packets: Packets) -> Option<f64> {
    (packets.all > 0).then(|| packets.null as f64 * 100.0 / packets.all as f64)
}

/// Packets over a sliding window.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    window: Duration,
    samples: [(Timestamp, Packets); KEPT],
    /// Samples that were taken; the newest is at `(taken - 1) % KEPT`.
    taken: u64,
    next: Timestamp,
}

impl Meter {
    /// A meter that begins with its first sample.
    pub(super) fn new(window: Duration) -> Self {
        Meter {
            window: window.max(Duration::from_millis(1)),
            samples: [(Timestamp::default(), Packets::default()); KEPT],
            taken: 0,
            next: Timestamp::default(),
        }
    }

    /// The window's length.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// When a sample is due.
    pub(super) fn next(&self) -> Timestamp {
        self.next
    }

    /// Takes a sample if one is due.
    pub(super) fn sample(&mut self, now: Timestamp, packets: Packets) {
        if self.taken > 0 && now < self.next {
            return;
        }
        let place = (self.taken % KEPT as u64) as usize;
        if let Some(slot) = self.samples.get_mut(place) {
            *slot = (now, packets);
        }
        self.taken += 1;
        self.next = now.after(self.window / SAMPLES as u32);
    }

    /// Forgets what was measured.
    pub(super) fn reset(&mut self) {
        self.taken = 0;
    }

    /// Packets since the youngest sample that is a window old, and the time since; `None` before a window has passed.
    pub(super) fn measure(&self, now: Timestamp, packets: Packets) -> Option<(Packets, Duration)> {
        let kept = self.taken.min(KEPT as u64);
        (1..=kept)
            .filter_map(|age| self.samples.get(((self.taken - age) % KEPT as u64) as usize))
            .find(|(at, _)| now.since(*at) >= self.window)
            .map(|(at, then)| {
                let passed = Packets {
                    all: packets.all.saturating_sub(then.all),
                    null: packets.null.saturating_sub(then.null),
                };
                (passed, now.since(*at))
            })
    }

    /// Bits per second over the window, null packets included.
    pub(super) fn bitrate(&self, now: Timestamp, packets: Packets) -> Option<u64> {
        let (passed, elapsed) = self.measure(now, packets)?;
        bits_per_second(passed.all, elapsed)
    }

    /// The share of null packets over the window, in per cent; `None` also where no packet came.
    pub(super) fn null_percent(&self, now: Timestamp, packets: Packets) -> Option<f64> {
        null_percent(self.measure(now, packets)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// Feeds packets at `rate(ms)` packets per millisecond and returns what the meter says each millisecond.
    fn run(window: Duration, until: u64, rate: impl Fn(u64) -> u64) -> Vec<Option<u64>> {
        let mut meter = Meter::new(window);
        let mut packets = Packets::default();
        (0..until)
            .map(|t| {
                meter.sample(ms(t), packets);
                let told = meter.bitrate(ms(t), packets);
                packets.all += rate(t);
                told
            })
            .collect()
    }

    #[test]
    fn a_constant_rate_is_measured_exactly_once_a_window_has_passed() {
        for window in [200, 1000, 5000] {
            let told = run(Duration::from_millis(window), window * 3, |_| 4);
            assert_eq!(told[..window as usize], vec![None; window as usize]);
            assert!(
                told[window as usize..]
                    .iter()
                    .all(|rate| *rate == Some(4 * 188 * 8 * 1000))
            );
        }
    }

    #[test]
    fn a_change_shows_fully_after_a_window_and_a_tenth() {
        let told = run(Duration::from_secs(1), 4000, |t| if t < 2000 { 4 } else { 8 });
        assert_eq!(told[2000], Some(4 * 1504 * 1000));
        assert!(told[2500].is_some_and(|rate| rate > 4 * 1_504_000 && rate < 8 * 1_504_000));
        assert_eq!(told[3100], Some(8 * 1504 * 1000));
        assert_eq!(
            run(Duration::from_secs(1), 4000, |t| u64::from(t < 2000)).last(),
            Some(&Some(0))
        );
    }

    #[test]
    fn null_packets_are_a_share_of_all() {
        let mut meter = Meter::new(Duration::from_secs(1));
        let mut packets = Packets::default();
        for t in 0..=1500 {
            meter.sample(ms(t), packets);
            packets.all += 8;
            packets.null += 2;
        }
        assert_eq!(meter.null_percent(ms(1500), packets), Some(25.0));
        meter.reset();
        assert_eq!(meter.null_percent(ms(1500), packets), None);
    }

    #[test]
    fn no_time_and_no_packets_have_no_rate() {
        assert_eq!(bits_per_second(5, Duration::ZERO), None);
        assert_eq!(null_percent(Packets::default()), None);
        assert_eq!(bits_per_second(u64::MAX, Duration::from_nanos(1)), Some(u64::MAX));
    }
}
