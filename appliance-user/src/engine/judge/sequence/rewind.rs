//! A sender that may have begun anew a little way back: consecutive numbers that are remembered with another content.
//!
//! One such packet is a conflict, and whoever injects packets makes as many as he likes. Only where the old sequence has
//! stopped and several come in a row, with nothing of it between them, is it their sender who went back.

use core::time::Duration;

use crate::engine::judge::arrival::{Arrival, Waiting};
use crate::engine::time::Timestamp;

/// Conflicts in a row that show a restart. One more than beyond the window: here a forger need not even guess.
const PROOF: usize = 3;
/// Packets of a run kept at most: proof, and as many copies (datagrams of nothing but null packets are alike) between them.
const MAX_RUN: usize = 8;
/// A restart so near to the highest number has passed it before it could be told from packets that were forged ahead, whose
/// genuine ones are conflicts in a row too.
pub(super) const LEAST_BACK: u64 = 16;

/// Consecutive packets that may be the first of a sequence that began anew. See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Rewind {
    packets: Vec<Waiting>,
    conflicts: usize,
}

impl Rewind {
    /// A run that begins with a conflict.
    pub(super) fn new(first: Waiting) -> Self {
        let mut packets = Vec::with_capacity(MAX_RUN);
        packets.push(first);
        Rewind { packets, conflicts: 1 }
    }

    /// Whether a packet is the next of the run, in a space of numbers under `mask`.
    pub(super) fn goes_on_with(&self, packet: &Arrival<'_>, mask: u64) -> bool {
        let next = |last: &Waiting| u64::from(last.digest.sequence.wrapping_add(1)) & mask;
        self.packets.len() < MAX_RUN
            && self
                .packets
                .last()
                .is_some_and(|last| next(last) == u64::from(packet.digest.sequence) & mask)
    }

    /// Takes the next packet; whether the restart is shown.
    pub(super) fn push(&mut self, packet: Waiting, conflict: bool) -> bool {
        self.packets.push(packet);
        self.conflicts += usize::from(conflict);
        self.conflicts >= PROOF
    }

    /// Whether nothing more came for so long that nothing will.
    pub(super) fn is_over(&self, now: Timestamp, silence: Duration) -> bool {
        self.packets.last().is_none_or(|last| now.since(last.at) > silence)
    }

    /// How many of its packets are conflicts.
    pub(super) fn conflicts(&self) -> usize {
        self.conflicts
    }

    /// Its packets, in order.
    pub(super) fn packets(&self) -> &[Waiting] {
        &self.packets
    }

    /// Bytes that it holds, itself included.
    pub(super) fn memory(&self) -> usize {
        let kept: usize = self.packets.iter().map(Waiting::kept_bytes).sum();
        size_of::<Rewind>() + self.packets.capacity() * size_of::<Waiting>() + kept
    }
}
