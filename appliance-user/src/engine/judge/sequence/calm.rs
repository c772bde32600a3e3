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

    /// Takes the number that [`Sequencer::is_next`], which is judged at once, as [`Sequencer::offer`] would.
    #[inline]
    pub(in crate::engine::judge) fn go_on(&mut self, now: Timestamp, hash: u32, grant: &mut Grant) {
        let number = self.next;
        self.pace.step(now, 1);
        self.last_accepted = now;
        let capacity = self.history.capacity();
        if capacity < STEADY_NUMBERS && number - self.first >= capacity {
            self.remember_more(grant);
        }
        self.history.mark(number, hash);
        self.highest = number;
        self.next = number + 1;
    }

    /// The stream goes on: twice as much is remembered, until it is a second or two.
    #[cold]
    pub(super) fn remember_more(&mut self, grant: &mut Grant) {
        self.history.reserve(self.history.capacity(), self.highest, grant);
    }

    /// Finds out whether there is calm, after anything else than the next number.
    pub(super) fn settle(&mut self) {
        self.calm = self.started && self.gaps.is_empty() && self.candidate.is_none() && self.rewind.is_none();
    }
}
