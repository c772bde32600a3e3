//! The clock of a transport stream: the arrival of its packets where it is live, its own PCR where it is a file.
//!
//! Between two PCRs a file's clock runs by bytes, at the rate of late; it never runs past where the next PCR is expected,
//! for a multiplex of variable rate would carry it far ahead, and never back.

use super::pcr::{self, NEW_TIME_BASE};
use crate::engine::media::mpegts::{self, PACKET_SIZE};
use crate::engine::time::Timestamp;

/// Header byte 1: transport_error_indicator.
const TRANSPORT_ERROR: u8 = 0x80;
/// Adaptation field flag: discontinuity_indicator.
const DISCONTINUITY: u8 = 0x80;

/// What time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// When the packets arrive.
    Live,
    /// A [`FileClock`], and the place in the file.
    File,
}

/// Nanoseconds by bytes without a PCR after which the clock runs by bytes alone. Long, for after a still picture a scene
/// change is many times what the rate of late lets expect.
const LOST_AFTER: u64 = 5_000_000_000;
/// A PCR step up to this is believed without asking the bytes: TR 101 290 2.3.b.
const BELIEVED: u64 = 100_000_000;
/// Recent segments weigh as much as this many, so that the rate is that of the last second or so.
const SEGMENTS: u64 = 32;
/// Bits of a packet's fraction.
const FRACTION: u32 = 16;
/// The most packets that a segment counts as: more than any rate has between two PCRs ten seconds apart.
const MOST_PACKETS: u64 = 1 << 32;

/// The clock of a file.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct FileClock {
    now: u64,
    /// Nanoseconds to a packet.
    pace: u64,
    /// The clock does not run past this before the next PCR.
    until: u64,
    /// Packets since the last PCR of `pid`.
    packets: u64,
    /// When `packets` reaches this, the PCR counts as lost.
    lost_after: u64,
    /// The first PID that carried a PCR, or the first that did after the one before fell silent.
    pid: Option<u16>,
    last: u64,
    anchor: u64,
    /// Nanoseconds of recent segments, and packets in 65536ths, so that few to a segment leave a fraction to forget.
    recent: (u64, u64),
}

impl FileClock {
    /// The time of the next packet, whose sync byte is good.
    #[inline]
    pub(in crate::engine) fn of(&mut self, packet: &[u8; PACKET_SIZE]) -> Timestamp {
        let now = self.packet();
        let [_, head, _, _, _, flags, ..] = *packet;
        match mpegts::pcr(packet) {
            // TR 101 290 5.2.2: nothing is to be concluded from a packet in error.
            Some((pid, pcr)) if head & TRANSPORT_ERROR == 0 => self.tick(pid, pcr, flags & DISCONTINUITY != 0),
            _ => now,
        }
    }

    /// One packet on.
    #[inline]
    pub(in crate::engine) fn packet(&mut self) -> Timestamp {
        self.packets += 1;
        self.now = (self.now + self.pace).min(self.until);
        if self.packets == self.lost_after {
            self.until = u64::MAX;
            self.now = self.now.max(self.anchor.saturating_add(self.by_bytes()));
        }
        Timestamp::from_nanos(self.now)
    }

    /// The time of the last packet.
    pub(in crate::engine) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    /// The last packet carries a PCR.
    fn tick(&mut self, pid: u16, value: u64, discontinuity: bool) -> Timestamp {
        let lost = self.pid.is_none() || self.packets >= self.lost_after.max(1) && self.until == u64::MAX;
        if self.pid != Some(pid) && lost {
            self.pid = Some(pid);
            self.begin(value);
        } else if self.pid == Some(pid) {
            let step = pcr::step(self.last, value);
            match u64::try_from(step) {
                Ok(step) if !discontinuity && self.is_plausible(step) => self.advance(step),
                _ => {}
            }
            self.begin(value);
        }
        self.now()
    }

    fn begin(&mut self, value: u64) {
        self.last = value;
        self.anchor = self.now;
        self.packets = 0;
    }

    fn advance(&mut self, step: u64) {
        self.now = self.now.max(self.anchor.saturating_add(step));
        let (time, packets) = self.recent;
        self.recent = (
            time - time / SEGMENTS + step,
            packets - packets / SEGMENTS + (self.packets.min(MOST_PACKETS) << FRACTION),
        );
        let (time, packets) = self.recent;
        self.pace = (u128::from(time) << FRACTION)
            .checked_div(packets.into())
            .map_or(self.pace, |pace| pace as u64);
        self.until = self.now.saturating_add(step);
        self.lost_after = LOST_AFTER
            .checked_div(self.pace)
            .map_or(u64::MAX, |packets| packets.max(2));
    }

    /// Whether a PCR's step is time that passed, and no new time base.
    fn is_plausible(&self, step: u64) -> bool {
        let expected = self.by_bytes();
        let known = self.pace > 0;
        step <= BELIEVED
            || step <= NEW_TIME_BASE && (!known || (expected / 4..=expected.saturating_mul(4)).contains(&step))
    }

    fn by_bytes(&self) -> u64 {
        self.packets.saturating_mul(self.pace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS_PER_MS: u64 = 27_000;

    /// Whether a clock's microseconds are these milliseconds but for rounding.
    fn is_near(us: u64, ms: u64) -> bool {
        us.abs_diff(ms * 1000) <= 10
    }

    /// Packets at 1 ms each with a PCR every 20th; returns the clock after each packet in microseconds.
    fn run(clock: &mut FileClock, packets: u64, pcr: impl Fn(u64) -> Option<u64>) -> Vec<u64> {
        (0..packets)
            .map(|n| {
                clock.packet();
                if n % 20 == 0
                    && let Some(ms) = pcr(n)
                {
                    clock.tick(256, ms * TICKS_PER_MS % pcr::MODULUS, false);
                }
                clock.now().nanos() / 1000
            })
            .collect()
    }

    #[test]
    fn between_pcrs_it_runs_by_bytes() {
        let told = run(&mut FileClock::default(), 1000, Some);
        assert!(told.is_sorted());
        assert_eq!(told[19], 0, "no rate is known before the second PCR");
        for (n, time) in told.iter().enumerate().skip(20) {
            assert!(is_near(*time, n as u64), "{time} after {n} packets");
        }
    }

    #[test]
    fn it_goes_on_over_the_wrap_of_the_pcr() {
        let start = pcr::MODULUS / TICKS_PER_MS - 500;
        let told = run(&mut FileClock::default(), 1000, |n| Some(start + n));
        assert!(is_near(told[999], 999), "{}", told[999]);
    }

    #[test]
    fn a_jump_of_the_pcr_is_no_time_and_a_gap_is() {
        for jump in [5_000, 3_600_000] {
            let told = run(&mut FileClock::default(), 1000, |n| {
                Some(n + if n >= 500 { jump } else { 0 })
            });
            assert!(is_near(told[999], 999), "{}", told[999]);
        }
        let back = run(&mut FileClock::default(), 1000, |n| {
            Some(10_000 + n - if n >= 500 { 7_000 } else { 0 })
        });
        assert!(is_near(back[999], 999), "{}", back[999]);
        let gap = run(&mut FileClock::default(), 1000, |n| {
            (!(500..700).contains(&n)).then_some(n)
        });
        assert_eq!(gap[699], 500_000, "it waits for the PCR");
        assert!(is_near(gap[999], 999), "{}", gap[999]);
    }

    #[test]
    fn without_a_pcr_it_runs_by_bytes_alone_in_the_end() {
        let told = run(&mut FileClock::default(), 9000, |n| (n < 500).then_some(n));
        assert!(told.is_sorted());
        assert_eq!(told[1400], 500_000);
        assert!(is_near(told[8999], 8999), "{}", told[8999]);
    }

    #[test]
    fn another_pid_takes_over_when_the_first_falls_silent() {
        let mut clock = FileClock::default();
        run(&mut clock, 6000, |n| (n < 500).then_some(n));
        for n in 6000..7000 {
            clock.packet();
            if n % 20 == 0 {
                clock.tick(512, n * TICKS_PER_MS, false);
            }
        }
        assert_eq!(clock.pid, Some(512));
        assert!(is_near(clock.now().nanos() / 1000, 6999), "{:?}", clock.now());
    }

    #[test]
    fn a_burst_does_not_carry_it_ahead() {
        let mut clock = FileClock::default();
        // A PCR every 40 ms; one segment has 50 times the packets of the others.
        for frame in 0..100u64 {
            clock.packet();
            clock.tick(256, frame * 40 * TICKS_PER_MS, false);
            assert_eq!(clock.now().nanos(), frame * 40_000_000);
            for _ in 0..if frame == 60 { 1000 } else { 20 } {
                clock.packet();
            }
            assert!(clock.now().nanos() <= (frame + 1) * 40_000_000);
        }
    }
}
