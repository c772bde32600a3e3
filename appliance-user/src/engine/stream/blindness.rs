//! What the appliance's own blindness does to a stream.

use core::time::Duration;

use super::Stream;
use crate::engine::judge::Judge;
use crate::engine::outbox::Outbox;
use crate::engine::time::Timestamp;

/// A sequence number that follows the last one within this time has not gone round: in 65,536 packets of an RTP stream a gigabit
/// a second would have to go by.
const CERTAIN: Duration = Duration::from_millis(500);

impl Stream {
    /// The appliance may not have seen packets of it: what is missing is nobody's loss.
    ///
    /// Whether anything is missing the next packet's number says, where nothing was missing before: an appliance that is short
    /// of time is blind again and again, and most streams go on as if nothing had been.
    #[inline]
    pub(in crate::engine) fn blind(&mut self, outbox: &mut Outbox) {
        self.unseen = true;
        if !self.judge.as_ref().is_some_and(Judge::is_calm) {
            self.begin_anew(outbox);
        }
    }

    /// The first packet since the appliance was blind is here.
    #[cold]
    pub(super) fn see_again(&mut self, now: Timestamp, sequence: u32, outbox: &mut Outbox) {
        let Some(judge) = self.judge.as_ref().filter(|judge| judge.is_calm()) else {
            return;
        };
        if !judge.goes_on_with(sequence) || now.since(self.media.last) > CERTAIN {
            self.begin_anew(outbox);
        }
    }

    /// Packets of it are missing that nobody could see, or may be.
    #[cold]
    fn begin_anew(&mut self, outbox: &mut Outbox) {
        if let Some(rtp) = &mut self.rtp {
            rtp.blind();
        }
        self.with_judge(outbox, |judge, verdicts| judge.blind(verdicts));
    }
}
