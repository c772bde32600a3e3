//! The calm in which nearly every packet comes: the sequence has begun, nothing is missing, and nothing is in doubt. The next
//! number then takes a few steps.

use super::Sequencer;
use crate::engine::judge::pending::STEADY_NUMBERS;
use crate::engine::memory::Grant;
use crate::engine::time::Timestamp;

impl Sequencer {
    /// Whether this is the number that follows, nothing before it is missing, and nothing is in doubt.
    #[inline]
    pub(in crate::engine::judge) fn is_next(&self, sequence: u32) -> bool {
        self.calm && (sequence ^ self.next as u32) & self.mask == 0
    }

    /// Asks for where the next number will be remembered.
    #[inline]
    pub(in crate::engine::judge) fn prefetch(&self) {
        self.history.prefetch(self.next);
    }

    /// Whether it has begun, nothing is missing, and nothing is in doubt.
    #[inline]
    pub(in crate::engine::judge) fn is_calm(&self) -> bool {
        self.calm
    }

    /// Takes the number that [`Sequencer::is_next`], which is judged at once, as [`Sequencer::offer`] would.
    #[inline]
    pub(in crate::engine::judge) fn go_on(&mut self, now: Timestamp, hash: u32, grant: &mut Grant) {
        let number = self.next;
        self.pace.step(now, 1);
        self.last_accepted = now;
        if number >= self.full_at {
            self.remember_more(number, grant);
        }
        self.history.mark(number, hash);
        self.highest = number;
        self.next = number + 1;
    }

    /// The stream goes on: twice as much is remembered, until it is a second or two.
    #[cold]
    pub(super) fn remember_more(&mut self, number: u64, grant: &mut Grant) {
        let capacity = self.history.capacity();
        if capacity < STEADY_NUMBERS && !self.pace.is_long(capacity) {
            self.history.reserve(capacity, self.highest, grant);
        }
        // Where it was long enough the stream may become faster.
        self.full_at = match self.history.capacity() {
            more if more > capacity => self.first.saturating_add(more),
            STEADY_NUMBERS.. => u64::MAX,
            same => number.saturating_add(same),
        };
    }

    /// Whether nothing is missing and nothing is in doubt, so that nothing comes of the passing of time.
    pub(in crate::engine::judge) fn is_at_rest(&self) -> bool {
        self.gaps.is_empty() && self.candidate.is_none() && self.rewind.is_none()
    }

    /// Finds out whether there is calm, after anything else than the next number.
    pub(super) fn settle(&mut self) {
        self.calm = self.started && self.is_at_rest();
    }
}
