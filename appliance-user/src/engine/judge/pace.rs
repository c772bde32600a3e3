//! How fast a stream's numbers go by: what makes a jump plausible and a silence long.

use core::time::Duration;

use super::super::time::Timestamp;

/// Numbers that a jump may skip on streams too slow or too new to be measured: RFC 3550's MAX_MISORDER.
const LEAST_JUMP: u64 = 100;
/// Numbers that a jump may always skip, however slow the stream is.
const SHORTEST_JUMP: u64 = 2;
/// Numbers that a jump may skip at most while the pace is measured on so few packets that whoever sends them made it up.
const UNPROVEN_JUMP: u64 = 1000;
/// Packets that prove a pace.
const PROOF: u64 = 1 << WEIGHT;
/// A pause of more than this many mean inter-arrival times is a silence.
const SILENCE: u64 = 8;
/// Weight of a new sample, as a power of two; so many samples also make the first average.
const WEIGHT: u32 = 8;
/// Numbers of so many nanoseconds are remembered at least, where a stream is not too fast for that.
const REMEMBERED: u64 = 2_000_000_000;
/// Events are held back this long at most.
const LONGEST_SETTLING: u64 = 2_000_000_000;

/// Mean time between consecutive sequence numbers.
#[derive(Debug)]
pub(super) struct Pace {
    window: u64,
    mean: u64,
    samples: u64,
    last: Timestamp,
}

impl Pace {
    pub(super) fn new(window: Duration) -> Self {
        Pace {
            window: nanos(window),
            mean: 0,
            samples: 0,
            last: Timestamp::default(),
        }
    }

    pub(super) fn set_window(&mut self, window: Duration) {
        self.window = nanos(window);
    }

    /// The reorder window.
    pub(super) fn window(&self) -> Duration {
        Duration::from_nanos(self.window)
    }

    /// A new highest number, `numbers` after the one before it.
    #[inline]
    pub(super) fn step(&mut self, now: Timestamp, numbers: u64) {
        let passed = now.nanos().saturating_sub(self.last.nanos());
        self.last = now;
        let mut sample = if numbers > 1 { passed / numbers } else { passed };
        if self.samples < PROOF {
            return self.begin(sample);
        }
        if sample > self.window {
            sample = self.at_most_a_silence(sample);
        }
        // Rounded to the nearest, so that it leans to neither side. No interval between packets has 2^63 nanoseconds.
        let difference = sample.wrapping_sub(self.mean) as i64;
        let part = difference.wrapping_add(1 << (WEIGHT - 1)) >> WEIGHT;
        self.mean = self.mean.wrapping_add(part as u64);
    }

    /// One of the first samples, whose average is the first mean.
    #[inline(never)]
    fn begin(&mut self, mut sample: u64) {
        if self.samples > 0 {
            sample = self.at_most_a_silence(sample);
        }
        self.samples += 1;
        self.mean = if sample >= self.mean {
            self.mean + (sample - self.mean) / self.samples
        } else {
            self.mean - (self.mean - sample) / self.samples
        };
    }

    /// One pause must not make the stream look slow; if it is, later samples tell.
    fn at_most_a_silence(&self, sample: u64) -> u64 {
        sample.min(self.silence_nanos())
    }

    /// The next step is measured from here: the pause before it says nothing of the pace.
    pub(super) fn anchor(&mut self, now: Timestamp) {
        self.last = now;
    }

    /// The most numbers that a jump may skip without proof: twice what the window holds, within `100..=most`; but never
    /// more than go by while events are held back. Whoever forges a number ahead is then found out by the genuine one
    /// before anything is told.
    pub(super) fn jump_limit(&self, most: u64) -> u64 {
        let most = if self.samples < PROOF {
            most.min(UNPROVEN_JUMP)
        } else {
            most
        };
        let in_window = self.window.saturating_mul(2).checked_div(self.mean).unwrap_or(0);
        let while_held = LONGEST_SETTLING.checked_div(self.mean).unwrap_or(LEAST_JUMP);
        in_window.clamp(LEAST_JUMP, most).min(while_held.max(SHORTEST_JUMP))
    }

    /// A pause longer than this is a silence.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_nanos(self.silence_nanos())
    }

    /// Whether so many numbers are missing after a silence that the link was away, not the sender. Who sends in bursts is
    /// silent between them, and may have two packets in the wrong order when it goes on.
    pub(super) fn is_outage(&self, missing: u64, silence: Duration) -> bool {
        let sent = nanos(silence).checked_div(self.mean).unwrap_or(0);
        missing >= sent / 2
    }

    /// Whether `missing` numbers fit a silence of this length in a space of `space` numbers. Where the silence may have
    /// outlasted half the space nothing can be said, and what cannot be said is not counted.
    pub(super) fn is_plausible(&self, missing: u64, silence: Duration, space: u64) -> bool {
        let Some(expected) = nanos(silence).checked_div(self.mean) else {
            return missing <= LEAST_JUMP;
        };
        let most = expected.saturating_mul(2).saturating_add(SILENCE);
        missing <= most && most < space
    }

    /// Whether so many numbers go by in two seconds at least, and in two windows: what comes again comes sooner.
    pub(super) fn is_long(&self, numbers: u64) -> bool {
        self.samples >= PROOF && self.mean.saturating_mul(numbers) >= self.window.saturating_mul(2).max(REMEMBERED)
    }

    /// How long events are held back.
    #[inline]
    pub(super) fn settling(&self) -> Settling {
        Settling {
            window: self.window,
            mean: self.mean,
        }
    }

    fn silence_nanos(&self) -> u64 {
        self.window.max(self.mean.saturating_mul(SILENCE))
    }
}

/// How long events are held back. Most packets make none, so it is worked out for those that do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settling {
    window: u64,
    mean: u64,
}

impl Settling {
    /// In nanoseconds; none where nothing comes out of order.
    pub(super) fn nanos(self) -> u64 {
        let jump = self.window.saturating_mul(2).max(self.mean.saturating_mul(LEAST_JUMP));
        jump.min(LONGEST_SETTLING)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(interval: u64, packets: u64) -> Pace {
        let mut pace = Pace::new(Duration::from_millis(50));
        pace.anchor(Timestamp::default());
        for packet in 1..=packets {
            pace.step(Timestamp::from_nanos(packet * interval), 1);
        }
        pace
    }

    #[test]
    fn limits_follow_the_rate() {
        assert_eq!(
            paced(10_000_000, 300).jump_limit(10_000),
            100,
            "100 per second: the least"
        );
        assert_eq!(
            paced(100_000, 300).jump_limit(10_000),
            1000,
            "10,000 per second: twice 50 ms"
        );
        assert_eq!(paced(1000, 300).jump_limit(10_000), 10_000, "the most");
        assert_eq!(paced(0, 300).jump_limit(10_000), 100, "no time passed: not measured");
    }

    #[test]
    fn numbers_of_two_seconds_are_enough_once_the_pace_is_proven() {
        assert!(paced(2_000_000, 300).is_long(1024));
        assert!(!paced(2_000_000, 300).is_long(512));
        assert!(!paced(2_000_000, 200).is_long(1024));
    }

    #[test]
    fn one_pause_does_not_slow_the_pace_but_a_slower_stream_does() {
        let mut pace = paced(1_000_000, 300);
        let end = 300 * 1_000_000;
        pace.step(Timestamp::from_nanos(end + 5_000_000_000), 1);
        assert!(pace.mean < 1_500_000);
        for packet in 1..=200 {
            pace.step(Timestamp::from_nanos(end + 5_000_000_000 + packet * 1_000_000_000), 1);
        }
        assert!(pace.mean > 20_000_000, "{}", pace.mean);
    }

    #[test]
    fn plausible_is_what_the_silence_can_hold() {
        let pace = paced(1_000_000, 300);
        let silence = Duration::from_secs(5);
        assert!(pace.is_plausible(5000, silence, 1 << 16));
        assert!(!pace.is_plausible(12_000, silence, 1 << 16));
        assert!(
            !pace.is_plausible(5000, Duration::from_secs(50), 1 << 16),
            "may have wrapped"
        );
        assert!(pace.is_plausible(50_000, Duration::from_secs(50), 1 << 31));
    }
}
