//! How many packets had come by a time not long ago: RTCP is told of later than it went by, and must be compared with what
//! had come by then.

use crate::engine::time::Timestamp;
use crate::prefetch::prefetch;

/// Times that are remembered: the packets of some milliseconds, longer than a message between workers takes.
const TIMES: usize = 32;

/// How many packets had come by the last times at which some came.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct History {
    /// Times that came, remembered or not.
    ever: usize,
    /// How many there were before the oldest of these times; `None` where that is not known any more.
    before: Option<u64>,
    /// A ring: when packets came, and how many there were then.
    times: [(Timestamp, u64); TIMES],
}

impl History {
    /// Nothing came yet. `before` is how many had come by then, where that is known.
    pub(super) fn new(before: Option<u64>) -> Self {
        History {
            before,
            ..History::default()
        }
    }

    /// Asks for what [`History::prefetch_place`] will read.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.ever);
    }

    /// Asks for what the next packet will write.
    #[inline]
    pub(super) fn prefetch_place(&self) {
        if let Some(place) = self.times.get(self.ever % TIMES) {
            prefetch(place);
        }
    }

    /// Packets came; `count` of them in all.
    #[inline(always)]
    pub(super) fn came(&mut self, now: Timestamp, count: u64) {
        if let Some(newest) = self.ever.checked_sub(1)
            && let Some((at, known)) = self.times.get_mut(newest % TIMES)
            && *at >= now
        {
            *known = count;
            return;
        }
        if let Some(place) = self.times.get_mut(self.ever % TIMES) {
            *place = (now, count);
        }
        self.ever += 1;
    }

    /// How many had come by `at`; `None` where nothing came at all, or that is too long ago.
    pub(super) fn by(&self, at: Timestamp) -> Option<u64> {
        let newest = self.ever.checked_sub(1)?;
        let mut remembered = (0..self.ever.min(TIMES)).filter_map(|back| self.times.get((newest - back) % TIMES));
        let before = self.before.filter(|_| self.ever <= TIMES);
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
        let mut history = History::new(Some(0));
        assert_eq!(history.by(at_ms(5)), None, "no media at all");
        for n in 1..=32 {
            history.came(at_ms(n * 10), n * 2 - 1);
            history.came(at_ms(n * 10), n * 2);
        }
        assert_eq!(history.by(at_ms(5)), Some(0), "before the first");
        assert_eq!((history.by(at_ms(10)), history.by(at_ms(29))), (Some(2), Some(4)));
        assert_eq!(history.by(at_ms(10_000)), Some(64));
        history.came(at_ms(330), 66);
        assert_eq!((history.by(at_ms(15)), history.by(at_ms(20))), (None, Some(4)));
        assert_eq!(History::new(None).by(at_ms(5)), None);
    }
}
