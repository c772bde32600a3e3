//! How the packets of one SSRC arrive: RFC 3550's interarrival jitter, and time stamps that jump.

use core::time::Duration;

use crate::engine::time::Timestamp;

/// RTP clock of MPEG-2 transport streams (RFC 3551 6) and of nearly all video.
pub(in crate::engine) const CLOCK: u32 = 90_000;
/// RFC 3550 A.1: numbers that may be skipped, or be behind, without being another sequence. There it is sized for 50 packets
/// a second; here it only keeps strays out of the figures, and video has a thousand.
const MAX_DROPOUT: u16 = 3000;
/// RFC 3550 A.1: how far behind a packet may be and still be measured. What is further behind is the copy of another path,
/// or nobody's.
const MAX_MISORDER: u16 = 100;
/// Time stamps may be this far from where the last one and the time since then put them.
const MAX_DRIFT: i32 = CLOCK as i32;
/// Weight of a longer transit time in the shortest one, as a power of two.
const DRIFT: u32 = 10;
/// Weight of a new interval in the mean, as a power of two.
const WEIGHT: u32 = 4;
/// A pause of so many mean intervals is a silence, of at least and at most these lengths.
const SILENCE: u64 = 8;
const SHORTEST_SILENCE: Duration = Duration::from_millis(50);
const LONGEST_SILENCE: Duration = Duration::from_secs(1);
/// [`LONGEST_SILENCE`] in nanoseconds.
const LONGEST_SAMPLE: u64 = LONGEST_SILENCE.as_nanos() as u64;
const _: () = assert!(LONGEST_SAMPLE <= u32::MAX as u64, "a mean of samples has 32 bits");

/// What the RTP header says.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Header {
    /// Sequence number.
    pub sequence: u16,
    /// RTP time stamp.
    pub timestamp: u32,
    /// Marker bit: a signalled discontinuity of the time stamps in MPEG-2 streams (RFC 2250 2).
    pub marker: bool,
    /// The clock is [`CLOCK`].
    pub has_clock: bool,
}

/// Where a packet stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Step {
    /// Newer than all.
    Forward,
    /// As new as the newest, or older.
    Behind,
    /// Alone and far away: not of this sequence until the next one follows it.
    Stray,
    /// It follows a stray: the sequence goes on from here.
    Restart,
}

/// A jump of the time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Jump {
    /// The marker announced it.
    Signalled,
    /// Nothing did.
    Unsignalled,
}

/// Where the next time stamp may be.
#[derive(Clone, Copy, Debug, Default)]
struct Reference {
    /// Time stamp of the newest packet.
    timestamp: u32,
    /// The shortest transit time of late: what a packet that nothing held up would have.
    transit: u32,
}

impl Reference {
    /// Whether a time stamp is further back than any reordering of frames explains, or ahead of the time that has passed.
    #[inline]
    fn is_left_by(&self, timestamp: u32, transit: u32) -> bool {
        let advance = timestamp.wrapping_sub(self.timestamp) as i32;
        // As nearly always: it is near, either way.
        if advance.wrapping_add(MAX_DRIFT) as u32 <= 2 * MAX_DRIFT as u32 {
            return false;
        }
        let delay = transit.wrapping_sub(self.transit) as i32;
        advance < 0 || delay < -MAX_DRIFT
    }

    /// The next packet. Clocks drift, so a longer transit time counts a little.
    #[inline]
    fn follow(&mut self, timestamp: u32, transit: u32) {
        let delay = transit.wrapping_sub(self.transit) as i32;
        self.timestamp = timestamp;
        self.transit = if delay < 0 {
            transit
        } else {
            self.transit.wrapping_add_signed(delay >> DRIFT)
        };
    }
}

/// Bits that say what is known of an SSRC: one word tells a stream that only goes on from every other.
const HIGHEST: u8 = 1;
const STRAY: u8 = 2;
const TRANSIT: u8 = 4;
const REFERENCE: u8 = 8;
const SUSPECT: u8 = 16;
/// The source said that it leaves, which its packets may deny.
const LEAVING: u8 = 32;
/// What is known of a stream that only goes on.
const STEADY: u8 = HIGHEST | TRANSIT | REFERENCE;

/// The packets of one SSRC. What every packet reads and writes comes last, from [`Arrival::HOT`] on.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(in crate::engine) struct Arrival {
    /// The last packet's time stamp jumped; the next one tells whether it was alone.
    suspect: Reference,
    /// The number that would follow a stray.
    stray: u16,
    /// The marker of the suspect was set.
    suspect_marked: bool,
    last: Timestamp,
    reference: Reference,
    /// Relative transit time of the last packet (A.8), in clock units.
    transit: u32,
    /// Sixteen times the jitter, in clock units.
    jitter: u32,
    /// Mean interval in nanoseconds; samples are at most [`LONGEST_SAMPLE`].
    mean: u32,
    highest: u16,
    /// Which of these are known.
    known: u8,
}

impl Arrival {
    /// Where that begins which every packet needs.
    pub(super) const HOT: usize = core::mem::offset_of!(Arrival, last);

    /// The source says that it leaves, or its packets have denied that. While it does, none is [`Arrival::steady`].
    pub(super) fn set_leaving(&mut self, leaves: bool) {
        self.known = self.known & !LEAVING | if leaves { LEAVING } else { 0 };
    }

    /// Takes a packet that only goes on, as nearly all do; `false` for every other, which was not taken yet.
    #[inline(always)]
    pub(in crate::engine) fn steady(&mut self, now: Timestamp, header: Header) -> bool {
        let ahead = header.sequence.wrapping_sub(self.highest);
        if self.known != STEADY || !header.has_clock || !matches!(ahead, 1..MAX_DROPOUT) {
            return false;
        }
        let (timestamp, transit) = (header.timestamp, clock_units(now).wrapping_sub(header.timestamp));
        if self.reference.is_left_by(timestamp, transit) {
            return false;
        }
        self.highest = header.sequence;
        self.goes_on(timestamp, transit);
        self.interval(now);
        true
    }

    /// Takes a packet.
    #[inline(never)]
    pub(in crate::engine) fn packet(&mut self, now: Timestamp, header: Header) -> (Step, Option<Jump>) {
        let step = self.step(header.sequence);
        let jump = match step {
            Step::Stray => return (step, None),
            Step::Behind => {
                self.overtaken(now, header);
                None
            }
            Step::Restart => {
                self.anew();
                self.timestamps(now, header)
            }
            Step::Forward => self.timestamps(now, header),
        };
        match step {
            Step::Forward => self.interval(now),
            Step::Restart => self.last = now,
            Step::Behind | Step::Stray => {}
        }
        (step, jump)
    }

    /// Another packet came, newer than the newest.
    #[inline(always)]
    fn interval(&mut self, now: Timestamp) {
        let sample = now.nanos().saturating_sub(self.last.nanos()).min(LONGEST_SAMPLE);
        self.mean = ((u64::from(self.mean) * ((1 << WEIGHT) - 1) + sample) >> WEIGHT) as u32;
        self.last = now;
    }

    #[inline(always)]
    fn knows(&self, what: u8) -> bool {
        self.known & what != 0
    }

    /// The next packet has nothing to do with those before it.
    pub(in crate::engine) fn rebase(&mut self) {
        self.known &= !(HIGHEST | STRAY);
        self.anew();
    }

    /// Interarrival jitter in clock units; `None` where the clock is not known.
    pub(in crate::engine) fn jitter(&self) -> Option<f64> {
        self.knows(TRANSIT).then(|| f64::from(self.jitter) / 16.0)
    }

    /// Whether a number is near the newest one, so that the packet was no stray.
    #[inline]
    pub(in crate::engine) fn is_followed(&self, sequence: u16) -> bool {
        self.knows(HIGHEST) && self.highest.wrapping_sub(sequence) < MAX_DROPOUT
    }

    /// The number after the newest one.
    pub(in crate::engine) fn next(&self) -> Option<u16> {
        self.knows(HIGHEST).then(|| self.highest.wrapping_add(1))
    }

    /// When the newest packet came.
    pub(in crate::engine) fn last(&self) -> Timestamp {
        self.last
    }

    /// A pause longer than this is a silence.
    pub(in crate::engine) fn silence(&self) -> Duration {
        Duration::from_nanos(u64::from(self.mean) * SILENCE).clamp(SHORTEST_SILENCE, LONGEST_SILENCE)
    }

    fn anew(&mut self) {
        self.known &= !(TRANSIT | REFERENCE | SUSPECT);
    }

    fn step(&mut self, sequence: u16) -> Step {
        let ahead = sequence.wrapping_sub(self.highest);
        let step = match ahead {
            _ if !self.knows(HIGHEST) => Step::Forward,
            1..MAX_DROPOUT => Step::Forward,
            0 => return Step::Behind,
            _ if ahead > u16::MAX - MAX_DROPOUT => return Step::Behind,
            _ if self.knows(STRAY) && self.stray == sequence => Step::Restart,
            _ => {
                self.stray = sequence.wrapping_add(1);
                self.known |= STRAY;
                return Step::Stray;
            }
        };
        self.highest = sequence;
        self.known = self.known & !STRAY | HIGHEST;
        step
    }

    /// Jitter, and whether the time stamp is where it may be.
    fn timestamps(&mut self, now: Timestamp, header: Header) -> Option<Jump> {
        if !header.has_clock {
            return None;
        }
        let (timestamp, transit) = (header.timestamp, clock_units(now).wrapping_sub(header.timestamp));
        let was_suspect = self.knows(SUSPECT);
        self.known &= !SUSPECT;
        if !self.knows(REFERENCE) {
            self.refer_to(timestamp, transit);
            self.measure(transit);
            return None;
        }
        if !self.reference.is_left_by(timestamp, transit) {
            self.goes_on(timestamp, transit);
            return None;
        }
        if !was_suspect || self.suspect.is_left_by(timestamp, transit) {
            self.suspect = Reference { timestamp, transit };
            self.suspect_marked = header.marker;
            self.known |= SUSPECT;
            return None;
        }
        self.refer_to(timestamp, transit);
        self.known &= !TRANSIT;
        self.measure(transit);
        Some(match self.suspect_marked {
            true => Jump::Signalled,
            false => Jump::Unsignalled,
        })
    }

    /// The next time stamps are held against this one.
    fn refer_to(&mut self, timestamp: u32, transit: u32) {
        self.reference = Reference { timestamp, transit };
        self.known |= REFERENCE;
    }

    /// The time stamp is where it may be.
    #[inline(always)]
    fn goes_on(&mut self, timestamp: u32, transit: u32) {
        self.reference.follow(timestamp, transit);
        self.measure(transit);
    }

    /// Jitter is measured in the order of arrival, not of sending (RFC 3550 6.4.1).
    fn overtaken(&mut self, now: Timestamp, header: Header) {
        let transit = clock_units(now).wrapping_sub(header.timestamp);
        let is_near = self.knows(HIGHEST) && self.highest.wrapping_sub(header.sequence) <= MAX_MISORDER;
        let fits = self.knows(REFERENCE) && !self.reference.is_left_by(header.timestamp, transit);
        if header.has_clock && is_near && fits {
            self.measure(transit);
        }
    }

    /// RFC 3550 A.8, with its rounding.
    #[inline(always)]
    fn measure(&mut self, transit: u32) {
        let before = core::mem::replace(&mut self.transit, transit);
        if self.knows(TRANSIT) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
            // What is taken away is never more than what there is.
            self.jitter = self
                .jitter
                .saturating_add(difference)
                .wrapping_sub(self.jitter.saturating_add(8) >> 4);
        }
        self.known |= TRANSIT;
    }
}

/// A time in units of [`CLOCK`], nine of which are 100 us, modulo 2^32.
#[inline(always)]
fn clock_units(at: Timestamp) -> u32 {
    // Divided by 32 first, so that nine times as much fits; then by 3125, and so by 100,000.
    let (whole, rest) = (at.nanos() >> 5, at.nanos() & 31);
    ((whole * 9 + ((rest * 9) >> 5)) / 3125) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(sequence: u16, timestamp: u32) -> Header {
        Header {
            sequence,
            timestamp,
            marker: false,
            has_clock: true,
        }
    }

    fn at_us(us: u64) -> Timestamp {
        Timestamp::from_nanos(us * 1000)
    }

    #[test]
    fn a_steady_stream_has_no_jitter_and_a_late_packet_makes_some() {
        let mut arrival = Arrival::default();
        for n in 0..1000u32 {
            arrival.packet(at_us(u64::from(n) * 10_000), header(n as u16, n * 900));
        }
        assert_eq!(arrival.jitter(), Some(0.0));
        // 16 ms late: 1440 units, a sixteenth of which counts.
        arrival.packet(at_us(1000 * 10_000 + 16_000), header(1000, 900_000));
        assert_eq!(arrival.jitter(), Some(90.0));
    }

    #[test]
    fn an_overtaken_packet_counts_and_one_far_behind_does_not() {
        let mut arrival = Arrival::default();
        let send = |arrival: &mut Arrival, ms: u64, n: u16, timestamp: u32| {
            arrival.packet(at_us(ms * 1000), header(n, timestamp));
            arrival.jitter().unwrap()
        };
        for n in (0..1000u16).filter(|n| *n != 900) {
            assert_eq!(send(&mut arrival, u64::from(n) * 10, n, u32::from(n) * 900), 0.0);
        }
        assert_eq!(send(&mut arrival, 9990, 800, 800 * 900), 0.0, "two hundred behind");
        assert_eq!(send(&mut arrival, 9990, 999, 999_000_000), 0.0, "of another clock");
        // 990 ms late: 89,100 units, a sixteenth of which counts.
        assert_eq!(send(&mut arrival, 9990, 900, 900 * 900), 5568.75);
    }

    #[test]
    fn a_jump_is_believed_with_the_second_packet() {
        let mut arrival = Arrival::default();
        let send = |arrival: &mut Arrival, n: u16, timestamp| {
            arrival.packet(at_us(u64::from(n) * 1000), header(n, timestamp)).1
        };
        for n in 0..100 {
            assert_eq!(send(&mut arrival, n, u32::from(n) * 90), None);
        }
        assert_eq!(send(&mut arrival, 100, 50_000_000), None, "alone");
        assert_eq!(send(&mut arrival, 101, 101 * 90), None, "and it was alone");
        assert_eq!(send(&mut arrival, 102, 50_000_000), None);
        assert_eq!(send(&mut arrival, 103, 50_000_090), Some(Jump::Unsignalled));
        assert_eq!(send(&mut arrival, 104, 50_000_180), None);
    }

    #[test]
    fn a_marker_announces_a_jump() {
        let mut arrival = Arrival::default();
        arrival.packet(at_us(0), header(0, 0));
        let marked = Header {
            marker: true,
            ..header(1, 1 << 30)
        };
        arrival.packet(at_us(1000), marked);
        assert_eq!(
            arrival.packet(at_us(2000), header(2, (1 << 30) + 90)).1,
            Some(Jump::Signalled)
        );
    }

    #[test]
    fn pauses_stalls_and_constant_time_stamps_are_no_jumps() {
        let mut arrival = Arrival::default();
        let mut jumps = 0;
        let mut send = |us, sequence, timestamp| {
            jumps += u32::from(arrival.packet(at_us(us), header(sequence, timestamp)).1.is_some());
        };
        send(0, 0, 0);
        send(10_000_000, 1, 900_000);
        send(20_000_000, 2, 900_090);
        send(20_000_010, 3, 1_800_000);
        send(20_000_020, 4, 1_800_000);
        send(25_000_000, 5, 1_800_000);
        send(25_000_100, 6, 1_750_000);
        assert_eq!(
            jumps, 0,
            "a pause, a stall that ends in a burst, a time stamp that stands still, one before another"
        );
    }

    #[test]
    fn strays_are_kept_out_and_a_restart_is_followed() {
        let mut arrival = Arrival::default();
        let mut step = |sequence| arrival.packet(at_us(0), header(sequence, 0)).0;
        assert_eq!(step(65_534), Step::Forward);
        assert_eq!(step(1), Step::Forward);
        assert_eq!(step(65_535), Step::Behind);
        assert_eq!(step(1), Step::Behind);
        assert_eq!(step(30_000), Step::Stray);
        assert_eq!(step(2), Step::Forward);
        assert_eq!(step(40_000), Step::Stray);
        assert_eq!(step(40_001), Step::Restart);
        assert_eq!(step(40_002), Step::Forward);
    }

    proptest! {
        /// What the short way takes it takes as the long way does.
        #[test]
        fn a_steady_packet_is_like_any_other(
            packets in proptest::collection::vec((0u64..40_000, -2i16..6, 0u8..20, any::<u32>(), any::<bool>()), 0..200),
        ) {
            let (mut one, mut other) = (Arrival::default(), Arrival::default());
            let (mut us, mut sequence, mut timestamp) = (7_000_000_000, 0u16, 0u32);
            for (pause, ahead, oddity, jump, flag) in packets {
                us += pause;
                sequence = if oddity == 0 { jump as u16 } else { sequence.wrapping_add_signed(ahead) };
                timestamp = if oddity == 1 { jump } else { timestamp.wrapping_add((pause * 9 / 100) as u32) };
                let header = Header { marker: flag, has_clock: oddity != 2 || flag, ..header(sequence, timestamp) };
                let taken = if one.steady(at_us(us), header) {
                    (Step::Forward, None)
                } else {
                    one.packet(at_us(us), header)
                };
                prop_assert_eq!(taken, other.packet(at_us(us), header));
                prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
            }
        }

        #[test]
        fn times_are_counted_exactly(nanos in any::<u64>()) {
            let exact = u128::from(nanos) * 9 / 100_000;
            prop_assert_eq!(clock_units(Timestamp::from_nanos(nanos)), exact as u32);
        }

        #[test]
        fn jitter_agrees_with_the_formula(delays in proptest::collection::vec(0u32..2000, 2..200)) {
            let mut arrival = Arrival::default();
            let mut expected = 0.0f64;
            let mut before = None;
            for (n, delay) in delays.iter().enumerate() {
                // In whole clock units, so that nothing is rounded but the sum itself.
                let units = n as u64 * 900 + u64::from(*delay);
                let nanos = (units * 1_000_000_000).div_ceil(90_000);
                arrival.packet(Timestamp::from_nanos(nanos), header(n as u16, n as u32 * 900));
                if let Some(before) = before.replace(f64::from(*delay)) {
                    expected += ((f64::from(*delay) - before).abs() - expected) / 16.0;
                }
            }
            let jitter = arrival.jitter().unwrap();
            prop_assert!((jitter - expected).abs() <= 1.0, "{} {}", jitter, expected);
        }

        #[test]
        fn arbitrary_headers_are_harmless(packets in proptest::collection::vec((any::<u64>(), any::<u16>(), any::<u32>(), any::<bool>()), 0..50)) {
            let mut arrival = Arrival::default();
            for (nanos, sequence, timestamp, marker) in packets {
                arrival.packet(Timestamp::from_nanos(nanos), Header { sequence, timestamp, marker, has_clock: true });
                prop_assert!(arrival.silence() >= SHORTEST_SILENCE && arrival.silence() <= LONGEST_SILENCE);
            }
        }
    }
}
