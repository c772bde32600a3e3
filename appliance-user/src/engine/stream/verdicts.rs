//! From the judge's findings to the stream's state: each goes to the watch, which knows the rule's limits, and is told.

use std::sync::Arc;

use super::finding::{Finding, Findings};
use super::telling::Telling;
use crate::engine::flow::rtp::RtpFigures;
use crate::engine::judge::{Event, Fault, ResetCause, Sink};
use crate::engine::media::mpegts::PACKET_SIZE;
use crate::engine::outbox::Outbox;
use crate::engine::report::StreamIdentity;
use crate::engine::time::Timestamp;
use crate::engine::ts::{CueEvent, CueFinding, Indicator, TsEvent};
use crate::engine::watch::{Cause, Watch};
use crate::policy::rule::TsRule;

/// What the judge finds goes to the watch and, told, to the outbox.
pub(super) struct Verdicts<'a> {
    pub(super) ordinal: u64,
    pub(super) identity: &'a StreamIdentity,
    pub(super) watch: &'a mut Watch,
    pub(super) findings: &'a mut Findings,
    pub(super) telling: &'a mut Telling,
    pub(super) rule: &'a Arc<TsRule>,
    pub(super) rtp: Option<&'a mut RtpFigures>,
    pub(super) outbox: &'a mut Outbox,
    /// Something was found.
    pub(super) told: bool,
}

impl Sink for Verdicts<'_> {
    fn event(&mut self, event: Event) {
        self.told = true;
        let (identity, outbox) = (self.identity, &mut *self.outbox);
        let mut out = |at, change| outbox.tell(at, identity, change);
        match event {
            Event::ContinuityError {
                fault: Fault::Network, ..
            } => {}
            Event::ContinuityError { at, pid, tainted, .. } => {
                self.watch.continuity_error(at, pid, tainted, &mut out);
            }
            Event::GivenUp { first, count } => {
                if let Some(rtp) = &mut self.rtp {
                    rtp.membership.given_up(first as u16, count);
                }
            }
            Event::Reset { at, cause, .. } if cause != ResetCause::Outage => {
                if cause == ResetCause::Restart {
                    // Two forged packets make a restart too, and bring whatever they carry with them.
                    self.watch.taint(at);
                }
                if let Some(rtp) = &mut self.rtp {
                    rtp.membership.rebased();
                }
            }
            // What one path of a pair lost the other may have brought: the merge tells.
            Event::Lost { .. } if self.rtp.as_ref().is_some_and(|rtp| rtp.is_path()) => {}
            Event::Lost { at, count, tainted } => {
                self.watch.count(at, Cause::NetworkLoss, count, tainted, &mut out);
            }
            Event::SequenceConflict { at } => self.find(at, Finding::SequenceConflict),
            Event::OutOfWindow { at } => self.find(at, Finding::OutOfWindow),
            Event::Ts { at, event, tainted } => self.ts(at, event, tainted),
            Event::Late { .. } | Event::Reset { .. } => {}
        }
    }

    fn media(&mut self, packets: &[[u8; PACKET_SIZE]]) {
        self.outbox.hand_on(self.ordinal, self.identity, packets);
    }
}

impl Verdicts<'_> {
    /// What the analyser found: what a limit of the rule counts goes to the watch.
    fn ts(&mut self, at: Timestamp, event: TsEvent, tainted: bool) {
        let (identity, outbox) = (self.identity, &mut *self.outbox);
        let mut out = |at, change| outbox.tell(at, identity, change);
        let counted = match &event {
            TsEvent::Tr101290 { indicator, .. } if limited(self.rule, *indicator) => Some(Cause::Tr101290),
            TsEvent::Cue(CueEvent::Finding { finding, .. }) if minds(self.rule, finding) => Some(Cause::Scte35),
            _ => None,
        };
        if let Some(cause) = counted {
            self.watch.count(at, cause, 1, tainted, &mut out);
        }
        self.telling.tell(at, identity, event, outbox);
    }

    fn find(&mut self, at: Timestamp, finding: Finding) {
        self.watch.taint(at);
        self.findings.note(self.identity, at, finding, self.outbox);
    }
}

/// Whether the rule's limit on TR 101 290 counts it. Continuity has limits of its own, which know whose fault an error is.
fn limited(rule: &TsRule, indicator: Indicator) -> bool {
    indicator != Indicator::ContinuityCountError && indicator.priority() <= rule.tr101290.priority
}

/// Whether the rule wants to be alerted of it.
fn minds(rule: &TsRule, finding: &CueFinding) -> bool {
    match finding {
        CueFinding::BadCrc | CueFinding::Malformed => rule.scte35.bad_crc,
        CueFinding::Unannounced => rule.scte35.unannounced,
        CueFinding::ShortPreroll { .. } => true,
        // Whoever encrypts a cue means to: it is told, and no fault.
        CueFinding::Encrypted => false,
    }
}
