//! What a judge asks for from memory before its next packet is there: thousands of streams fit into no cache.

use core::mem::offset_of;
use core::ops::Range;

use super::Judge;
use super::court::Court;
use super::sequence::Sequencer;

impl Judge {
    /// Where that is which every packet needs.
    pub(in crate::engine) const HOT: Range<usize> =
        offset_of!(Judge, court) + Court::HOT..offset_of!(Judge, sequencer) + Sequencer::HOT;

    /// Asks for what the next packet will read, if it only goes on.
    #[inline]
    pub(in crate::engine) fn prefetch(&self) {
        self.sequencer.prefetch();
        self.court.continuity.prefetch();
        self.court.analysis.prefetch();
    }

    /// The same for what the analyser points to, when that has come.
    #[inline]
    pub(in crate::engine) fn prefetch_pids(&self) {
        if let Some(analyser) = self.analyser() {
            for place in self.court.continuity.likely() {
                analyser.prefetch(place);
            }
        }
    }
}
