//! What a judge that has nothing to wait for is asked, so that it can be left alone.

use super::Judge;

impl Judge {
    /// Whether [`Judge::tell`] may have something to tell.
    #[inline]
    pub(in crate::engine) fn has_to_tell(&self) -> bool {
        self.court.docket.waits()
    }

    /// The packets have numbers; else the order of arrival is all there is.
    #[inline]
    pub(super) fn is_numbered(&self) -> bool {
        self.court.unsequenced.is_none()
    }

    /// Whether the packets have numbers of which none is missing, and nothing is in doubt.
    #[inline]
    pub(in crate::engine) fn is_calm(&self) -> bool {
        self.sequencer.is_calm()
    }

    /// Whether a number is the next one of a sequence that [`Judge::is_calm`].
    pub(in crate::engine) fn goes_on_with(&self, sequence: u32) -> bool {
        self.sequencer.is_next(sequence)
    }

    /// Whether [`Judge::advance`] would find nothing to do: nothing is waited for and nothing is held back.
    pub(in crate::engine) fn is_at_rest(&self) -> bool {
        !self.court.docket.waits() && self.sequencer.is_at_rest()
    }
}
