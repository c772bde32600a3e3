//! A sequence that may go on somewhere else: candidates beyond every window, and senders that go back within it.

use core::time::Duration;

use super::Sequencer;
use super::rewind::{LEAST_BACK, Rewind};
use super::tally::count_copy;
use crate::engine::judge::ResetCause;
use crate::engine::judge::arrival::{Arrival, Waiting};
use crate::engine::judge::sequence::Bench;

/// A packet that may be the first of a new sequence.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) packet: Waiting,
    /// How long the stream had been silent when it came.
    pub(super) silence: Duration,
}

impl Sequencer {
    /// A packet beyond every window.
    pub(super) fn stray(&mut self, packet: Arrival<'_>, silence: Duration, bench: &mut impl Bench) {
        if let Some(other) = &self.candidate {
            if other.packet.digest.sequence == packet.digest.sequence && other.packet.digest.hash == packet.digest.hash
            {
                return count_copy(&packet, bench);
            }
            bench.out_of_window();
        }
        self.candidate = Some(Box::new(Candidate {
            packet: self.keep(&packet, bench),
            silence,
        }));
    }

    /// Whether a packet is the one after the candidate.
    pub(super) fn confirms(&self, packet: &Arrival<'_>) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| {
            u64::from(packet.digest.sequence) & self.mask()
                == u64::from(candidate.packet.digest.sequence.wrapping_add(1)) & self.mask()
        })
    }

    /// The sequence goes on with the candidate and this packet.
    pub(super) fn confirm(&mut self, packet: Arrival<'_>, bench: &mut impl Bench) {
        let Some(candidate) = self.candidate.take() else { return };
        self.give_up_below(self.highest + 1, bench);
        let first = candidate.packet.arrival();
        let ahead = self.forward_distance(first.digest.sequence);
        let missing = ahead.saturating_sub(1);
        let outage = ahead > 0
            && candidate.silence > self.pace.silence()
            && self.pace.is_plausible(missing, candidate.silence, 1 << self.bits);
        self.reset(if outage { missing } else { 0 }, bench);
        self.rebase_to(if outage {
            self.highest + ahead
        } else {
            self.anew(first.digest.sequence)
        });
        self.pace.anchor(first.at);
        self.take_first(first, bench);
        self.forward(packet, 1, bench);
    }

    /// A number within the window has another content: somebody else's packet, or the first of a sender who went back.
    pub(super) fn conflict(&mut self, packet: Arrival<'_>, back: u64, bench: &mut impl Bench) {
        self.refute(bench);
        if back < LEAST_BACK || packet.digest.retransmitted {
            return bench.conflict();
        }
        bench.suspect();
        self.rewind = Some(Box::new(Rewind::new(self.keep(&packet, bench))));
    }

    /// Whether a packet is the next of those that may show that the sender went back.
    pub(super) fn goes_back(&self, packet: &Arrival<'_>) -> bool {
        let mask = self.mask();
        let rewind = self.rewind.as_ref();
        rewind.is_some_and(|rewind| !packet.digest.retransmitted && rewind.goes_on_with(packet, mask))
    }

    /// One more of them; the last that it takes moves the sequence.
    pub(super) fn go_back(&mut self, packet: Arrival<'_>, conflict: bool, bench: &mut impl Bench) {
        let waiting = self.keep(&packet, bench);
        let Some(rewind) = &mut self.rewind else { return };
        if !rewind.push(waiting, conflict) {
            return bench.suspect();
        }
        let Some(rewind) = self.rewind.take() else { return };
        let Some((first, rest)) = rewind.packets().split_first() else {
            return;
        };
        self.give_up_below(self.highest + 1, bench);
        self.reset(0, bench);
        self.rebase_to(self.anew(first.digest.sequence));
        self.pace.anchor(first.at);
        self.take_first(first.arrival(), bench);
        for packet in rest {
            self.forward(packet.arrival(), 1, bench);
        }
    }

    /// The sequence goes on where it was: what seemed to go back was somebody else's, or copies.
    pub(super) fn refute(&mut self, bench: &mut impl Bench) {
        let Some(rewind) = self.rewind.take() else { return };
        (0..rewind.conflicts()).for_each(|_| bench.conflict());
        let copies = rewind.packets().len() - rewind.conflicts();
        bench.counters().duplicated += copies as u64;
    }

    pub(super) fn reset(&mut self, lost: u64, bench: &mut impl Bench) {
        let cause = if lost > 0 {
            ResetCause::Outage
        } else {
            ResetCause::Restart
        };
        let counters = bench.counters();
        counters.resets += 1;
        counters.lost += lost;
        // An outage's numbers follow the highest that came before it.
        bench.reset(cause, self.highest + 1, lost);
    }
}
