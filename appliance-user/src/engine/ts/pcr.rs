//! Program clock references (ISO/IEC 13818-1 2.4.2.2, 2.4.3.5) of one PID: how far apart they come, whether they jump, how
//! far their arrival strays from what they say, and, in a file, whether they fit their place.
//!
//! A repetition error needs a PCR that comes late by the stream's clock as well as by its own value: a packet that was
//! lost and sent again arrives a round trip late, and that is the network's jitter, not a PCR that was not sent. For the
//! same reason a jump over missing packets counts only where it is not the time that passed.

use super::tr101290::{Limits, none_within, violations};
use crate::engine::time::Timestamp;

/// The PCR wraps after 2^33 periods of 90 kHz, each 300 of 27 MHz (2.4.3.5).
pub(super) const MODULUS: u64 = (1 << 33) * 300;
/// A step beyond this is another time base, whatever the time that passed.
pub(super) const NEW_TIME_BASE: u64 = 10_000_000_000;
/// While no PCR comes at all, that is told after this time: earlier it might be the network's jitter.
pub(super) const LATE: u64 = 1_000_000_000;

/// A duration of the 27 MHz clock in nanoseconds.
pub(super) fn nanos(ticks: u64) -> u64 {
    (u128::from(ticks) * 1000 / 27) as u64
}

/// From one PCR to another in nanoseconds, the shorter way round: negative where it went back.
pub(super) fn step(from: u64, to: u64) -> i64 {
    let forward = (to % MODULUS + MODULUS - from % MODULUS) % MODULUS;
    match forward <= MODULUS / 2 {
        true => nanos(forward) as i64,
        false => -(nanos(MODULUS - forward) as i64),
    }
}

/// A PCR as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    /// Periods of 27 MHz, below [`MODULUS`].
    pub(super) value: u64,
    /// By the stream's clock.
    pub(super) at: Timestamp,
    /// The packet's place in a file, in packets; means nothing live.
    pub(super) place: u64,
}

/// What a PCR violates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Violations {
    /// 2.3.a.
    pub(super) repetition: u32,
    /// 2.3.b.
    pub(super) jump: bool,
    /// 2.4: of a PCR some way back.
    pub(super) inaccurate: bool,
}

/// The intervals between a PID's PCRs and their jitter, all in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Intervals that were measured.
    pub(super) intervals: u64,
    /// Their sum, by the PCR itself.
    pub(super) sum: u64,
    /// The longest.
    pub(super) longest: u64,
    /// How far arrival strays from the PCR from one to the next, smoothed as RFC 3550 A.8 does: free of drift, for the
    /// clocks' difference over one interval is some nanoseconds.
    pub(super) jitter: u64,
    /// The furthest that it strayed within one interval.
    pub(super) worst: u64,
    /// Jumps, signalled or not.
    pub(super) discontinuities: u64,
}

/// A PID that carries PCRs.
#[derive(Clone, Debug)]
pub(super) struct Pcr {
    last: Option<Reference>,
    told: u32,
    /// A packet since the last PCR announced a discontinuity, which the next PCR carries out (2.4.3.5).
    announced: bool,
    /// Packets are missing since the last PCR.
    missing: bool,
    pub(super) figures: Figures,
    /// Only in a file.
    pub(super) accuracy: Option<Box<Accuracy>>,
}

impl Pcr {
    /// A PID whose first PCR is yet to come.
    pub(super) fn new(in_file: bool) -> Self {
        Pcr {
            last: None,
            told: 0,
            announced: false,
            missing: false,
            figures: Figures::default(),
            accuracy: in_file.then(Box::default),
        }
    }

    /// A packet of the PID announces a discontinuity.
    pub(super) fn announce(&mut self) {
        self.announced = true;
    }

    /// Packets are missing before this one.
    pub(super) fn missing(&mut self) {
        self.missing = true;
    }

    /// Packets of any PID are missing, so that places before and after have nothing to do with each other.
    pub(super) fn displaced(&mut self) {
        self.accuracy.iter_mut().for_each(|accuracy| accuracy.restart());
    }

    /// Packets went by unseen: the next PCR is the first.
    pub(super) fn forget(&mut self) {
        self.last = None;
        (self.told, self.announced, self.missing) = (0, false, false);
        self.displaced();
    }

    /// The next PCR.
    pub(super) fn take(&mut self, now: Reference, limits: &Limits) -> Violations {
        let announced = core::mem::take(&mut self.announced);
        let missing = core::mem::take(&mut self.missing);
        let told = core::mem::take(&mut self.told);
        let Some(last) = self.last.replace(now) else {
            self.check_place(now, true, limits);
            return Violations::default();
        };
        let step = step(last.value, now.value);
        let arrival = (now.at.nanos() as i64).saturating_sub(last.at.nanos() as i64);
        let jumps = !(0..=limits.pcr_discontinuity.min(NEW_TIME_BASE) as i64).contains(&step);
        let explained = missing
            && match self.accuracy.is_some() {
                // A file has no clock but this one: what was cut out of it passed, as long as nothing runs backwards.
                true => (0..=NEW_TIME_BASE as i64).contains(&step),
                false => step.abs_diff(arrival) <= limits.pcr_discontinuity,
            };
        let same_base = !announced && (0..=NEW_TIME_BASE as i64).contains(&step);
        self.figures.discontinuities += u64::from(announced || (jumps && !explained));
        let interval = match same_base {
            true => step.min(arrival.max(0)),
            false => arrival.max(0),
        };
        let jump = jumps && !announced && !explained;
        if same_base && !jump {
            self.measure(step.unsigned_abs(), step.abs_diff(arrival));
        }
        let mut told = told;
        Violations {
            repetition: violations(interval.unsigned_abs(), limits.pcr_repetition, &mut told),
            jump,
            inaccurate: self.check_place(now, missing || announced || jump, limits),
        }
    }

    /// Violations of 2.3.a while no PCR comes.
    pub(super) fn overdue(&mut self, now: Timestamp, limits: &Limits) -> u32 {
        let Some(last) = self.last else { return 0 };
        let elapsed = now.nanos().saturating_sub(last.at.nanos());
        if elapsed <= LATE {
            return 0;
        }
        violations(elapsed, limits.pcr_repetition, &mut self.told)
    }

    /// Until when [`Pcr::overdue`] finds nothing more if none comes.
    pub(super) fn until(&self, limits: &Limits) -> Timestamp {
        let none = none_within(limits.pcr_repetition, self.told).max(LATE);
        let last = self.last.map(|last| last.at.nanos().saturating_add(none));
        Timestamp::from_nanos(last.unwrap_or(u64::MAX))
    }

    fn measure(&mut self, step: u64, strayed: u64) {
        let figures = &mut self.figures;
        figures.intervals += 1;
        figures.sum = figures.sum.saturating_add(step);
        figures.longest = figures.longest.max(step);
        figures.worst = figures.worst.max(strayed);
        figures.jitter = (figures.jitter.saturating_mul(15).saturating_add(strayed)) / 16;
    }

    fn check_place(&mut self, now: Reference, anew: bool, limits: &Limits) -> bool {
        let Some(accuracy) = &mut self.accuracy else {
            return false;
        };
        if anew {
            accuracy.restart();
        }
        accuracy.take(now.value, now.place, limits.pcr_accuracy)
    }
}

/// Segments between PCRs at one rate that make a multiplex count as of constant bit rate.
const CONSTANT_AFTER: u8 = 16;
/// How far a segment's rate may stray from the others', as a part of it (2%). PCRs that are wrong by a millisecond stay
/// within; a multiplex that is not stuffed with null packets does not.
const CONSTANT_WITHIN: u64 = 50;

/// PCR accuracy by place (2.4.2.2; TR 101 290 2.4): each PCR against the straight line through the one before it and one
/// after it.
///
/// This is right only where the multiplex runs at a constant bit rate, so it is done only there; TSDuck's `pcrverify` and
/// measurement devices for DVB transmission assume the same. A PCR is called inaccurate when it fits neither the next PCR
/// nor the one after that, and does not serve as a neighbour itself, so that one wrong PCR counts once.
#[derive(Clone, Debug, Default)]
pub(super) struct Accuracy {
    /// The trusted neighbour before, the PCR in question and the next one: (27 MHz periods since the start, packets).
    line: [(i64, u64); 3],
    held: u8,
    /// The PCR before the one in question was inaccurate.
    doubted: bool,
    last: Option<(u64, u64)>,
    unwrapped: i64,
    /// Nanoseconds and packets of the segments, weighted towards the recent ones.
    mean: (u64, u64),
    constant: u8,
    /// PCRs that were checked.
    pub(super) checked: u64,
    /// The furthest in nanoseconds that one of them was beside the nearer of its two lines.
    pub(super) worst: u64,
}

impl Accuracy {
    /// The line is broken here: another time base, or packets are missing.
    pub(super) fn restart(&mut self) {
        self.held = 0;
        self.doubted = false;
        self.last = None;
    }

    /// The next PCR and its place; whether an earlier one proves to be off by more than `limit` nanoseconds.
    fn take(&mut self, value: u64, place: u64, limit: u64) -> bool {
        if let Some((last, at)) = self.last.replace((value, place)) {
            let ticks = (value + MODULUS - last) % MODULUS;
            self.weigh(nanos(ticks), place.saturating_sub(at));
            self.unwrapped = self.unwrapped.saturating_add(ticks as i64);
        }
        let next = (self.unwrapped, place);
        if usize::from(self.held) < self.line.len() {
            if let Some(slot) = self.line.get_mut(usize::from(self.held)) {
                *slot = next;
            }
            self.held += 1;
            return false;
        }
        let [before, asked, after] = self.line;
        if self.constant < CONSTANT_AFTER {
            self.line = [asked, after, next];
            return false;
        }
        self.checked += 1;
        let beside = strays(before, asked, after).min(strays(before, asked, next));
        self.worst = self.worst.max(beside);
        let off = beside > limit.min(NEW_TIME_BASE);
        // Two inaccurate ones in a row are a shift of the whole line: the second one is on it.
        let trusted = if off && !self.doubted { before } else { asked };
        self.doubted = off && !self.doubted;
        self.line = [trusted, after, next];
        off
    }

    /// Whether the multiplex runs at a constant rate.
    fn weigh(&mut self, nanos: u64, packets: u64) {
        let (time, count) = self.mean;
        let expected = (u128::from(packets) << 16) * u128::from(time);
        let found = u128::from(nanos) * u128::from(count);
        match expected.abs_diff(found) <= expected / u128::from(CONSTANT_WITHIN) {
            true => self.constant = (self.constant + 1).min(2 * CONSTANT_AFTER),
            // A wrong PCR spoils two segments, and does not end the measurement.
            false => self.constant = self.constant.saturating_sub(2),
        }
        // Thirty-two segments' worth; the packets in 65536ths, so that few to a segment leave a fraction to forget.
        self.mean = (
            time - time / 32 + nanos.min(NEW_TIME_BASE),
            count - count / 32 + (packets.min(1 << 32) << 16),
        );
    }
}

/// How many nanoseconds a PCR is beside the line through two others, rounded up.
fn strays(before: (i64, u64), asked: (i64, u64), after: (i64, u64)) -> u64 {
    let whole = i128::from(after.1) - i128::from(before.1);
    let part = i128::from(asked.1) - i128::from(before.1);
    let rise = i128::from(after.0) - i128::from(before.0);
    let run = i128::from(asked.0) - i128::from(before.0);
    // |run - rise * part / whole|, divided at the end; 27 periods are 1000 ns.
    // Four steps of a PCR and the packets between them leave room in 128 bits.
    let beside = (run * whole - rise * part).unsigned_abs() * 1000;
    let scale = (27 * whole.unsigned_abs()).max(1);
    u64::try_from(beside.div_ceil(scale)).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "pcr_tests.rs"]
mod tests;
