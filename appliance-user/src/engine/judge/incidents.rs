//! From events to incidents, and from incidents to limits: "more than N within a sliding window".

use core::time::Duration;
use std::collections::VecDeque;

use crate::engine::time::Timestamp;

/// All events of all PIDs within this time are one incident: a clean source switch on eight PIDs makes eight events, and an
/// encoder's failover must not look like eight faults.
pub const INCIDENT: Duration = Duration::from_millis(500);

/// Parts of a window that are told apart. What happens within one part counts from the part's first moment, so it leaves
/// the window early rather than late: a limit is never exceeded by what is already too old.
const GRAINS: u32 = 64;

/// Groups events into incidents.
///
/// An incident lasts [`INCIDENT`] from its first event on; an uninterrupted fault is a new incident every 500 ms, not one
/// for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incidents {
    began: Option<Timestamp>,
    count: u64,
}

impl Incidents {
    /// Nothing has happened.
    pub const fn new() -> Self {
        Incidents { began: None, count: 0 }
    }

    /// Takes an event; `true` where it begins an incident.
    pub fn event(&mut self, at: Timestamp) -> bool {
        let goes_on = self.began.is_some_and(|began| at.since(began) < INCIDENT);
        if !goes_on {
            self.began = Some(at);
            self.count += 1;
        }
        !goes_on
    }

    /// Incidents so far.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// Counts what happens within a sliding window against a limit, in bounded memory.
#[derive(Clone, Debug)]
pub struct SlidingLimit {
    limit: u64,
    window: Duration,
    /// What happened, oldest first; neighbours are a grain apart, so there are at most [`GRAINS`] and one more.
    entries: VecDeque<(Timestamp, u64)>,
    total: u64,
}

impl SlidingLimit {
    /// Nothing has happened; more than `limit` within `window` is too much.
    pub const fn new(limit: u64, window: Duration) -> Self {
        SlidingLimit {
            limit,
            window,
            entries: VecDeque::new(),
            total: 0,
        }
    }

    /// Adds what happened at `at` and returns what the window that ends there holds.
    pub fn add(&mut self, at: Timestamp, count: u64) -> u64 {
        self.expire(at);
        if count == 0 {
            return self.total;
        }
        self.total = self.total.saturating_add(count);
        let grain = self.window / GRAINS;
        match self.entries.back_mut() {
            Some((first, sum)) if at.since(*first) <= grain => *sum = sum.saturating_add(count),
            _ => self.entries.push_back((at, count)),
        }
        self.total
    }

    /// What the window that ends at `now` holds.
    pub fn count(&mut self, now: Timestamp) -> u64 {
        self.add(now, 0)
    }

    /// Whether the window that ends at `now` holds more than the limit.
    pub fn is_exceeded(&mut self, now: Timestamp) -> bool {
        self.count(now) > self.limit
    }

    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<(Timestamp, u64)>()
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((_, sum)) = self.entries.pop_front_if(|(at, _)| now.since(*at) >= self.window) {
            self.total = self.total.saturating_sub(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn events_within_half_a_second_are_one_incident() {
        let mut incidents = Incidents::new();
        let begins: Vec<bool> = [0, 0, 499, 500, 999, 1000]
            .iter()
            .map(|ms| incidents.event(at(*ms)))
            .collect();
        assert_eq!(begins, [true, false, false, true, false, true]);
        assert_eq!(incidents.count(), 3);
    }

    #[test]
    fn the_limit_slides() {
        let mut limit = SlidingLimit::new(2, Duration::from_secs(1));
        assert_eq!(limit.add(at(0), 1), 1);
        assert_eq!(limit.add(at(900), 1), 2);
        assert!(!limit.is_exceeded(at(900)));
        assert_eq!(limit.add(at(950), 1), 3);
        assert!(limit.is_exceeded(at(999)));
        assert_eq!(limit.count(at(1000)), 2, "the first one is out");
        assert_eq!(limit.count(at(2000)), 0);
    }

    proptest! {
        /// Against the naive count: never more, and less by no more than what one grain holds.
        #[test]
        fn near_the_exact_count(steps in proptest::collection::vec((0_u64..200, 0_u64..5), 1..400)) {
            let window = Duration::from_millis(640);
            let mut limit = SlidingLimit::new(0, window);
            let (mut now, mut all) = (0, Vec::new());
            for (pause, count) in steps {
                now += pause;
                all.push((now, count));
                let counted = limit.add(at(now), count);
                let within = |span: u64| all.iter().filter(|(then, _)| now - then < span).map(|(_, n)| n).sum::<u64>();
                prop_assert!(counted <= within(640), "{counted} of {}", within(640));
                prop_assert!(counted >= within(630), "{counted} of {}", within(630));
                prop_assert!(limit.entries.len() <= GRAINS as usize + 1);
            }
        }
    }
}
