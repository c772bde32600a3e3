//! What RTP adds to a stream: its header's figures, RTCP, and the groups in which it meets its companions.

use tidegate_common::flow::FlowKey;

use super::{ARQ_WINDOW, Cold, Finding, Stream};
use crate::engine::event::StreamChange;
use crate::engine::flow::rtp::{ArrivalHeader, RtpFigures};
use crate::engine::group::{Address, GroupKey, Member, Outcome, Post, RtcpNote};
use crate::engine::outbox::Outbox;
use crate::engine::report::StreamProtocol;
use crate::engine::time::Timestamp;
use crate::engine::watch::Cause;
use crate::policy::rule::Path;
use crate::policy::{Protocol, Rule, RuleId};

impl Stream {
    /// What only RTP knows, from now on kept.
    #[inline(always)]
    pub(in crate::engine) fn rtp_mut(&mut self) -> &mut RtpFigures {
        #[cold]
        fn begun(rtp: &mut Option<Box<RtpFigures>>) -> &mut RtpFigures {
            rtp.insert(Box::default())
        }
        match &mut self.rtp {
            Some(rtp) => rtp,
            none => begun(none),
        }
    }

    /// Heap bytes of what only RTP knows.
    pub(in crate::engine) fn rtp_memory(&self) -> usize {
        self.rtp
            .as_ref()
            .map_or(0, |rtp| size_of::<RtpFigures>() + rtp.memory())
    }

    /// Ties a media stream to its companions by what its rule says: FEC, and the other path of a pair.
    pub(in crate::engine) fn tie(&mut self, rule: &Rule) {
        let (source, destination) = (self.cold.identity.source, self.cold.identity.destination);
        let is_of = |path: &Path| {
            source.is_some_and(|source| path.source.contains(&source.ip()))
                && destination.is_some_and(|to| path.destination.contains(&to.ip()) && path.port == to.port())
        };
        let paths = rule.rtp.paths.as_ref();
        let path = paths
            .and_then(|paths| paths.iter().position(is_of))
            .map(|path| path as u8);
        let awaits = (rule.protocol == Protocol::Any && self.cold.identity.protocol == StreamProtocol::Rtp)
            .then(|| rule.reorder_window.unwrap_or(ARQ_WINDOW));
        let rtp = self.rtp_mut();
        rtp.tie(rule.protocol == Protocol::RtpFec, path);
        rtp.retransmission_window = awaits;
    }

    /// A media packet's RTP header, before the packet is judged.
    #[inline(always)]
    pub(in crate::engine) fn rtp_packet(
        &mut self,
        now: Timestamp,
        payload_type: u8,
        header: ArrivalHeader,
        repeated: bool,
        outbox: &mut Outbox,
    ) {
        let found = self.rtp_mut().media(now, payload_type, header, repeated);
        if let Some(found) = found {
            self.found_in_header(now, found, outbox);
        }
    }

    #[inline(never)]
    fn found_in_header(&mut self, now: Timestamp, found: [Option<Finding>; 2], outbox: &mut Outbox) {
        for finding in found.into_iter().flatten() {
            self.find(now, finding, outbox);
        }
    }

    /// A media packet was judged. Whether the stream's groups should be told something.
    #[inline(always)]
    pub(in crate::engine) fn rtp_judged(&mut self, now: Timestamp, sequence: u16) -> bool {
        let announced = self.announced;
        self.rtp.as_mut().is_some_and(|rtp| {
            rtp.judged(now, sequence);
            announced && rtp.membership.is_due(now)
        })
    }

    /// Tells the stream's groups what they do not know yet.
    pub(in crate::engine) fn tell_group(
        &mut self,
        now: Timestamp,
        flow: &FlowKey,
        rule: Option<RuleId>,
        post: &mut Post,
    ) {
        let Some(rtp) = self.rtp.as_mut().filter(|_| self.announced) else {
            return;
        };
        let to = Address {
            member: Member {
                flow: *flow,
                direction: self.direction,
                ssrc: self.selector,
            },
            key: GroupKey {
                rule,
                endpoint: self.cold.identity.endpoint,
                destination: self.cold.identity.destination,
                ssrc: 0,
            },
        };
        rtp.membership.send(now, &to, post);
    }

    /// RTCP said something of the stream at `at`.
    pub(in crate::engine) fn rtcp_note(&mut self, now: Timestamp, at: Timestamp, note: &RtcpNote, outbox: &mut Outbox) {
        if matches!(note, RtcpNote::Nack(_) | RtcpNote::Echo(_)) {
            self.awaits_retransmissions();
        }
        if self.unseen {
            // What was received until then may be too little.
            self.rtp_mut().blind();
        }
        if self.rtp_mut().rtcp(at, note) {
            outbox.tell(now, &self.cold.identity, StreamChange::Bye);
        }
    }

    /// Its receiver asks for what was lost, or measures the round trip as RIST does: where no rule says what the stream is,
    /// there is longer to wait from now on. A retransmission is later than the request, and for some gaps too late.
    fn awaits_retransmissions(&mut self) {
        let window = self.rtp.as_mut().and_then(|rtp| rtp.retransmission_window.take());
        if let (Some(window), Some(judge)) = (window, &mut self.judge) {
            judge.set_window(window);
        }
    }

    /// What the home of one of its groups found.
    pub(in crate::engine) fn outcome(&mut self, now: Timestamp, outcome: &Outcome, outbox: &mut Outbox) {
        if let Outcome::Rtcp { at, note } = outcome {
            return self.rtcp_note(now, *at, note, outbox);
        }
        let lost = self.rtp_mut().outcome(outcome);
        if lost == 0 {
            return;
        }
        let Cold {
            identity,
            watch,
            findings,
            ..
        } = &mut *self.cold;
        let tainted = findings.are_suspicious(now);
        watch.count(now, Cause::NetworkLoss, lost, tainted, &mut |at, change| {
            outbox.tell(at, identity, change);
        });
        self.settle_state();
    }
}
