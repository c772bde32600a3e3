//! Findings of a stream: what is wrong with its packets or its session, rather than with what it carries.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::engine::event::StreamChange;
use crate::engine::outbox::Outbox;
use crate::engine::report::StreamIdentity;
use crate::engine::time::Timestamp;

/// How often one kind of finding is told of one stream, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Whoever injects packets may have caused losses for so long after a finding was last told: the time between two tellings,
/// and the longest that losses wait to be judged.
const TAINT: Duration = Duration::from_secs(3);

/// Findings of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Finding {
    /// One sequence number came with two contents.
    SequenceConflict,
    /// A lone packet far outside the sequence window.
    OutOfWindow,
    /// A second SSRC while the first one still sends.
    SsrcConflict,
    /// No passphrase of the rule unwraps the session's keys.
    SrtWrongPassphrase,
    /// AES-GCM: the packet is not the sender's, or was changed on its way; its receiver throws it away.
    SrtNotAuthentic,
    /// Media went on after its sender's BYE: somebody else said it.
    ByeWithMedia,
    /// The RTP time stamp jumped, and no marker announced it. The sender's fault or whim, not a sign of injection.
    RtpTimestampJump,
}

/// Kinds of findings.
const FINDINGS: usize = Finding::ALL.len();

impl Finding {
    const ALL: [Finding; 7] = [
        Finding::SequenceConflict,
        Finding::OutOfWindow,
        Finding::SsrcConflict,
        Finding::SrtWrongPassphrase,
        Finding::SrtNotAuthentic,
        Finding::ByeWithMedia,
        Finding::RtpTimestampJump,
    ];

    /// The name in reports and events.
    pub(in crate::engine) const fn name(self) -> &'static str {
        match self {
            Finding::SequenceConflict => "sequence-conflict",
            Finding::OutOfWindow => "out-of-window",
            Finding::SsrcConflict => "ssrc-conflict",
            Finding::SrtWrongPassphrase => "srt-wrong-passphrase",
            Finding::SrtNotAuthentic => "srt-not-authentic",
            Finding::ByeWithMedia => "bye-with-media",
            Finding::RtpTimestampJump => "rtp-timestamp-jump",
        }
    }

    /// Whether somebody may be injecting packets, so that what stands beside it must not feed a block.
    pub(super) const fn taints(self) -> bool {
        matches!(
            self,
            Finding::SequenceConflict | Finding::OutOfWindow | Finding::SsrcConflict | Finding::SrtNotAuthentic
        )
    }
}

/// How a finding stands: how often, and when it was last told.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    count: u64,
    told: Option<Timestamp>,
}

/// Every finding of one stream.
#[derive(Debug, Default)]
pub(super) struct Findings([Found; FINDINGS]);

impl Findings {
    /// One more; told the first time and then at most once a second.
    pub(super) fn note(&mut self, identity: &StreamIdentity, at: Timestamp, finding: Finding, outbox: &mut Outbox) {
        let Some(found) = self.0.get_mut(finding as usize) else {
            return;
        };
        found.count += 1;
        if found.told.is_none_or(|told| at.since(told) >= TELL_EVERY) {
            found.told = Some(at);
            let change = StreamChange::Finding {
                finding: finding.name(),
                count: found.count,
            };
            outbox.tell(at, identity, change);
        }
    }

    /// Whether somebody may have been injecting packets lately.
    pub(super) fn are_suspicious(&self, now: Timestamp) -> bool {
        let lately = |found: &Found| found.told.is_some_and(|told| now.since(told) <= TAINT);
        let mut all = Finding::ALL.iter().zip(&self.0);
        all.any(|(finding, found)| finding.taints() && lately(found))
    }

    /// How often each occurred; only those that did.
    pub(super) fn report(&self) -> BTreeMap<&'static str, u64> {
        let all = Finding::ALL.iter().zip(&self.0);
        all.filter(|(_, found)| found.count > 0)
            .map(|(finding, found)| (finding.name(), found.count))
            .collect()
    }
}
