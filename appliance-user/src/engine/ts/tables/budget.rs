//! How much work a sender can make of its tables. A table that repeats itself costs next to nothing; one that changes has to
//! be read, and then the roles of all PIDs are made anew. Seventy sections fit one datagram, so both are rationed.

use core::time::Duration;

use crate::engine::time::Timestamp;

/// PAT, CAT and PMT sections with new content that are read within a second: a PAT and the PMT of every programme there may
/// be, twice over. More are read when they come again later.
pub(super) const MAX_CHANGES: u32 = 512;
const SECOND: Duration = Duration::from_secs(1);
/// Claims on PIDs that may be sorted into roles within [`WINDOW`]: those of an ordinary multiplex hundreds of times over, or
/// those of the largest one twice. What changes after that takes effect with the next window.
const MAX_CLAIMS: usize = 4096;
const WINDOW: Duration = Duration::from_millis(10);

/// What is left of both rations.
#[derive(Debug, Default)]
pub(super) struct Budget {
    second: Timestamp,
    window: Timestamp,
    changes: u32,
    claims: usize,
    /// Sections that were not read for there were too many.
    unread: u64,
}

/// Whether a section with new content is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Granted,
    /// It is the first that is refused within this second.
    Exhausted,
    Refused,
}

impl Budget {
    /// Time has passed.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if is_over(self.second, now, SECOND) {
            (self.second, self.changes) = (now, 0);
        }
        if is_over(self.window, now, WINDOW) {
            (self.window, self.claims) = (now, 0);
        }
    }

    /// A section has new content.
    pub(super) fn change(&mut self) -> Reading {
        if self.changes < MAX_CHANGES {
            self.changes += 1;
            return Reading::Granted;
        }
        self.unread += 1;
        if self.changes == MAX_CHANGES {
            self.changes += 1;
            return Reading::Exhausted;
        }
        Reading::Refused
    }

    /// Whether roles may be made anew: always for the first time in a window.
    pub(super) fn may_renew(&self) -> bool {
        self.claims < MAX_CLAIMS
    }

    /// Roles were made anew from so many claims.
    pub(super) fn renewed(&mut self, claims: usize) {
        self.claims += claims.max(1);
    }

    pub(super) fn unread(&self) -> u64 {
        self.unread
    }
}

/// Whether a period that began then is over; a clock that was set back begins another.
fn is_over(began: Timestamp, now: Timestamp, lasts: Duration) -> bool {
    now < began || now.since(began) >= lasts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn changes_are_rationed_by_the_second_and_refusal_is_told_once() {
        let mut budget = Budget::default();
        for second in 0..3 {
            budget.advance(at_ms(second * 1000));
            for _ in 0..MAX_CHANGES {
                assert_eq!(budget.change(), Reading::Granted);
            }
            budget.advance(at_ms(second * 1000 + 999));
            assert_eq!(budget.change(), Reading::Exhausted);
            assert_eq!(budget.change(), Reading::Refused);
        }
        assert_eq!(budget.unread(), 6);
        budget.advance(at_ms(1));
        assert_eq!(budget.change(), Reading::Granted, "the clock was set back");
    }

    #[test]
    fn the_first_renewal_of_a_window_is_free_whatever_it_costs() {
        let mut budget = Budget::default();
        for window in 0..3 {
            budget.advance(at_ms(window * 10));
            assert!(budget.may_renew());
            budget.renewed(MAX_CLAIMS + 1);
            budget.advance(at_ms(window * 10 + 9));
            assert!(!budget.may_renew());
        }
    }
}
