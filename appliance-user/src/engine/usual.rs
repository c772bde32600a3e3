//! The short lane of the packets that nearly all traffic is made of: media of a known stream in the one shape in which its
//! sender sends.
//!
//! What does not change from one such packet to the next was found out when the flow's last packet went the general way
//! ([`super::flow::Flow::is_usual`]): here is only asked whether this packet is such a one. If so it takes the steps that it
//! would take in the general way, through the same functions; if not nothing was done to it, and the general way decides.
//! What both ways end with stands here too.

use tidegate_common::drop_reason::DropReason;

use super::admission::Published;
use super::flow::Admission;
use super::foresight::Sighting;
use super::time::Timestamp;
use super::{Engine, Verdict};

impl Engine {
    /// Decides about a whole packet if it is a usual one of its flow.
    #[inline(always)]
    pub(super) fn decide_usual(
        &mut self,
        now: Timestamp,
        published: &Published<'_>,
        seen: &Sighting,
        packet: &[u8],
    ) -> Option<Verdict> {
        let walk = &seen.walk;
        let (index, last_seen, flow) = self.flows.look_up(&walk.key, seen.hash, seen.guess)?;
        if flow.admission.generation != published.generation || !flow.is_usual() {
            return None;
        }
        #[cfg(test)]
        if self.without_lane {
            return None;
        }
        let (admission, content) = (flow.admission, self.config.content);
        let payload = walk.payload(packet)?;
        let (stream, usual, blind) = flow.usual(walk.direction, payload, content, self.blindness)?;
        if blind {
            stream.blind(&mut self.outbox);
        }
        #[cfg(test)]
        {
            self.in_lane += 1;
        }
        *last_seen = now;
        let inspected = stream.media(now, usual, (&walk.key, admission), &mut self.outbox, &mut self.post);
        if stream.is_stirred() {
            self.flows.wake(index);
        }
        self.note_media(now, published, admission);
        self.read_own_post(now);
        Some(match inspected {
            Ok(()) => Verdict::Return,
            Err(reason) => self.refused(published, admission, reason),
        })
    }

    /// A packet of a flow that was admitted so was inspected.
    #[inline(always)]
    pub(super) fn note_media(&mut self, now: Timestamp, published: &Published<'_>, admission: Admission) {
        if self.outbox.take_media()
            && let Some(rule) = admission.rule()
        {
            self.activity.note(published.generation, rule, now);
        }
        self.clock = now;
    }

    /// What happens to a packet that its rule would have dropped.
    #[cold]
    pub(super) fn refused(&mut self, published: &Published<'_>, admission: Admission, reason: DropReason) -> Verdict {
        if published.rule(admission.rule()).is_some_and(|rule| rule.enforce) {
            return Verdict::Drop(reason);
        }
        self.counters.shadow_dropped[reason.index()] += 1;
        Verdict::Return
    }
}
