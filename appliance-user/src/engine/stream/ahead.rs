//! What a stream asks for from memory before its next packet is there, and where that lies.

use core::mem::offset_of;
use core::ops::Range;

use super::Stream;
use crate::engine::judge::Judge;
use crate::prefetch::{LINE, prefetch_within};

/// Where the judge's hot part is.
const JUDGED: Range<usize> = {
    let judge = offset_of!(Stream, judge);
    judge + Judge::HOT.start..judge + Judge::HOT.end
};
const _: () = assert!(offset_of!(Stream, silence) == LINE && JUDGED.start.is_multiple_of(LINE));
// None has a place that some has none for, so both begin at the same.
const _: () = assert!(size_of::<Option<Judge>>() == size_of::<Judge>());

impl Stream {
    /// Asks for what its next packet will read.
    #[inline]
    pub(in crate::engine) fn prefetch(&self) {
        prefetch_within(self, 0..LINE);
        prefetch_within(self, JUDGED);
    }

    /// The same for what it points to, when it has come itself.
    #[inline]
    pub(in crate::engine) fn prefetch_figures(&self) {
        if let Some(rtp) = &self.rtp {
            rtp.prefetch();
        }
        if let Some(judge) = &self.judge {
            judge.prefetch();
        }
    }

    /// The same for what these point to in turn.
    #[inline]
    pub(in crate::engine) fn prefetch_pids(&self) {
        if let Some(rtp) = &self.rtp {
            rtp.prefetch_history();
        }
        if let Some(judge) = &self.judge {
            judge.prefetch_pids();
        }
    }
}
