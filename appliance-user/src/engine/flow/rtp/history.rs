//! How many packets had come by a time not long ago: RTCP is told of later than it went by, and must be compared with what
//! had come by then.
//!
//! What every packet needs to find its place is apart from the places, so that it can lie with what else every packet needs.

use crate::engine::time::Timestamp;
use crate::prefetch::prefetch;

/// Times that are remembered: the packets of some milliseconds, longer than a message between workers takes.
const TIMES: usize = 32;

/// Nanoseconds to which the newest time is known without looking it up, as a power of two: a microsecond.
const GRAIN: u32 = 10;
/// Times that came are counted up to here; further ones go around the ring.
const MOST_EVER: u8 = 2 * TIMES as u8;

/// Where the next time goes. Of bytes, so that it lies without gaps between others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// The newest time to the [`GRAIN`], modulo 2^32 of them.
    newest: [u8; 4],
    /// Times that came, remembered or not; from [`MOST_EVER`] on less by multiples of [`TIMES`].
    ever: u8,
}

impl Mark {
    /// Whether a time is surely later than the newest, if there is any. Where that is not sure it has to be looked up.
    #[inline(always)]
    fn is_before(self, now: Timestamp) -> bool {
        grains(now).wrapping_sub(u32::from_ne_bytes(self.newest)).cast_signed() > 0
    }

    #[inline(always)]
    fn place(self) -> usize {
        usize::from(self.ever) % TIMES
    }
}

#[inline(always)]
fn grains(at: Timestamp) -> u32 {
    (at.nanos() >> GRAIN) as u32
}

/// How many packets had come by the last times at which some came. Aligned so that no time lies on two cache lines.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub(super) struct History {
    /// A ring: when packets came, and how many there were then.
    times: [(Timestamp, u64); TIMES],
    /// How many there were before the oldest of these times; `None` where that is not known any more.
    before: Option<u64>,
}

impl History {
    /// Nothing came yet. `before` is how many had come by then, where that is known.
    pub(super) fn new(before: Option<u64>) -> Self {
        History {
            before,
            ..History::default()
        }
    }

    /// Asks for what the next packet will write.
    #[inline]
    pub(super) fn prefetch(&self, mark: Mark) {
        if let Some(place) = self.times.get(mark.place()) {
            prefetch(place);
        }
    }

    /// Packets came; `count` of them in all.
    #[inline(always)]
    pub(super) fn came(&mut self, mark: &mut Mark, now: Timestamp, count: u64) {
        if !mark.is_before(now)
            && let Some(newest) = mark.ever.checked_sub(1)
            && let Some((at, known)) = self.times.get_mut(usize::from(newest) % TIMES)
            && *at >= now
        {
            *known = count;
            return;
        }
        if let Some(place) = self.times.get_mut(mark.place()) {
            *place = (now, count);
        }
        mark.newest = grains(now).to_ne_bytes();
        mark.ever = if mark.ever == MOST_EVER {
            MOST_EVER - TIMES as u8
        } else {
            mark.ever
        } + 1;
    }

    /// How many had come by `at`; `None` where nothing came at all, or that is too long ago.
    pub(super) fn by(&self, mark: Mark, at: Timestamp) -> Option<u64> {
        let ever = usize::from(mark.ever);
        let newest = ever.checked_sub(1)?;
        let mut remembered = (0..ever.min(TIMES)).filter_map(|back| self.times.get((newest - back) % TIMES));
        let before = self.before.filter(|_| ever <= TIMES);
        let known = remembered.find(|(time, _)| *time <= at);
        known.map_or(before, |(_, count)| Some(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn what_had_come_is_known_for_a_while() {
        let (mut history, mut mark) = (History::new(Some(0)), Mark::default());
        assert_eq!(history.by(mark, at_ms(5)), None, "no media at all");
        for n in 1..=32 {
            history.came(&mut mark, at_ms(n * 10), n * 2 - 1);
            history.came(&mut mark, at_ms(n * 10), n * 2);
        }
        let by = |history: &History, mark, ms| history.by(mark, at_ms(ms));
        assert_eq!(by(&history, mark, 5), Some(0), "before the first");
        assert_eq!((by(&history, mark, 10), by(&history, mark, 29)), (Some(2), Some(4)));
        assert_eq!(by(&history, mark, 10_000), Some(64));
        for n in 33..=300 {
            history.came(&mut mark, at_ms(n * 10), n * 2);
            let oldest = n - 31;
            assert_eq!(by(&history, mark, oldest * 10 - 1), None, "{n}");
            assert_eq!(by(&history, mark, oldest * 10), Some(oldest * 2), "{n}");
            assert_eq!(by(&history, mark, n * 10), Some(n * 2), "{n}");
        }
        assert_eq!(History::new(None).by(Mark::default(), at_ms(5)), None);
    }

    #[test]
    fn times_that_are_hardly_apart_or_go_back_are_told_apart_exactly() {
        let (mut history, mut mark) = (History::new(Some(0)), Mark::default());
        let at = Timestamp::from_nanos;
        for (now, count) in [(5000, 1), (5001, 2), (5001, 3), (4999, 4), (5002, 5)] {
            history.came(&mut mark, at(now), count);
        }
        let known = [4999, 5000, 5001, 5002].map(|now| history.by(mark, at(now)));
        assert_eq!(known, [Some(0), Some(1), Some(4), Some(5)]);
        // As far ahead as the newest time's short form goes around.
        let round = 5002 + (1 << (GRAIN + 32));
        history.came(&mut mark, at(round), 6);
        assert_eq!(
            (history.by(mark, at(round - 1)), history.by(mark, at(round))),
            (Some(5), Some(6))
        );
    }
}
