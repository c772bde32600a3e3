//! The court before which packets come in the order in which they were sent: continuity, the analyser, and the docket of
//! what they found.

use core::mem::offset_of;

use tidegate_common::digest::TsDigest;

use super::analysis::Analysis;
use super::arrival::Arrival;
use super::continuity::{self, Continuity, Gap};
use super::docket::{self, Docket};
use super::pace::Settling;
use super::sequence::Bench;
use super::{Event, Fault, ResetCause, Sink, TransportCounters, TsCounters};
use crate::engine::media::mpegts::PACKET_SIZE;
use crate::engine::memory::Grant;
use crate::engine::time::Timestamp;
use crate::engine::ts::{Analyser, TsEvent};

/// Bytes of packets that wait which one stream may keep: the tables and clocks of some seconds.
const KEPT_BYTES: usize = 256 << 10;

/// Everything that is told of packets once their order is known. What every packet needs comes last, from [`Court::HOT`] on, so
/// that it lies together with what the sequence needs: whether the docket holds anything, the analyser's place, how many packets
/// there were and the PIDs'.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Court {
    pub(super) transport: TransportCounters,
    /// But for the packets.
    pub(super) ts: TsCounters,
    /// What the stream may hold beyond its first packets.
    pub(super) grant: Grant,
    pub(super) docket: Docket,
    pub(super) unsequenced: Option<Fault>,
    /// A packet went by whose TS could not be seen: what a PID's counter did meanwhile is not known.
    pub(super) unseen: bool,
    /// The media is handed on in sequence order.
    pub(super) hands_on: bool,
    pub(super) analysis: Analysis,
    /// TS packets judged.
    pub(super) packets: u64,
    pub(super) continuity: Continuity,
}

impl Court {
    /// Where that begins which every packet needs.
    pub(super) const HOT: usize = offset_of!(Court, docket) + Docket::HOT;

    /// Where there are no numbers, what is counted begins anew with the next packet.
    pub(super) fn rebase_unsequenced(&mut self) {
        self.transport.resets += 1;
        self.rebase();
    }

    /// Every PID and every interval begins anew.
    pub(super) fn rebase(&mut self) {
        self.continuity.rebase();
        if let Some(analyser) = self.analysis.analyser_mut() {
            analyser.rebase();
        }
    }

    /// Bytes that it holds beside itself.
    pub(super) fn memory(&self) -> usize {
        self.continuity.memory() + self.docket.memory()
    }

    /// Judges the TS packets of a datagram that had to wait, by their digests.
    fn judge(&mut self, moment: &Moment, packet: &Arrival<'_>) {
        let digest = packet.digest;
        let headers = digest.ts.iter().take(digest.ts_count.into());
        for (place, header) in headers.enumerate() {
            if digest.bad_sync >> place & 1 != 0 {
                self.bad_sync(moment);
            } else {
                self.packet(moment, header, || packet.bytes.packet(place));
            }
        }
        self.analysis.account();
    }

    /// A packet out of sync has no PID that could be judged. The oracles leave it out too: its loss shows in the PID's next
    /// packet.
    #[cold]
    pub(super) fn bad_sync(&mut self, moment: &Moment) {
        self.packets += 1;
        self.ts.sync_byte_errors += 1;
        self.analyse(moment.settling.nanos(), |analyser, found| {
            analyser.bad_sync(moment.came, found)
        });
    }

    /// Judges a packet, whose bytes are asked for only if they say more than its header.
    pub(super) fn packet<'b>(
        &mut self,
        moment: &Moment,
        header: &TsDigest,
        bytes: impl FnOnce() -> Option<&'b [u8; PACKET_SIZE]>,
    ) {
        self.packets += 1;
        // Judged like any other, as the oracles do: the indicator speaks of bits that may be anywhere.
        self.ts.transport_errors += u64::from(header.transport_error());
        let duplicates = &mut self.ts.duplicates;
        let judged = self
            .continuity
            .judge(header, moment.grains, duplicates, &mut self.grant);
        let Some(judged) = judged else { return };
        let gap = judged.gap == Gap::NumbersMissing || judged.error.is_some();
        if let Some(error) = judged.error {
            self.continuity_error(moment, header, error);
        }
        let place = judged.place;
        if let Some(analyser) = self.analysis.analyser_mut()
            && analyser.count(moment.came, place, header, gap)
        {
            let bytes = bytes();
            self.analyse(moment.settling.nanos(), |analyser, found| {
                analyser.attend(place, header, bytes, gap, found);
            });
        }
    }

    /// Lets the analyser work, if there is one; what it finds waits in the docket.
    pub(super) fn analyse(&mut self, settling: u64, work: impl FnOnce(&mut Analyser, &mut Found<'_>)) {
        let Court {
            analysis,
            docket,
            grant,
            ..
        } = self;
        if let Some(analyser) = analysis.analyser_mut() {
            let mut found = |at, event| docket.hold_ts(at, event, settling, grant);
            work(analyser, &mut (&mut found as Found<'_>));
        }
    }

    #[cold]
    fn continuity_error(&mut self, moment: &Moment, header: &TsDigest, error: continuity::Error) {
        let (at, settling) = (moment.judged, moment.settling.nanos());
        let fault = match (self.unsequenced, error.gap) {
            (Some(fault), _) => fault,
            (None, Gap::NumbersMissing) => Fault::Network,
            (None, Gap::Whole) => Fault::Source,
        };
        let counters = &mut self.ts.continuity_errors;
        *match fault {
            Fault::Source => &mut counters.source,
            Fault::Network => &mut counters.network,
            Fault::Unknown => &mut counters.unknown,
        } += 1;
        let reach = error.since_previous.saturating_add(settling);
        let event = Event::ContinuityError {
            at,
            pid: header.pid(),
            fault,
            expected: error.expected,
            got: header.continuity_counter(),
            tainted: self.docket.is_tainted(at, reach),
        };
        self.docket.hold(docket::after(at, settling), event, &mut self.grant);
        self.analyse(settling, |analyser, found| {
            analyser.continuity_error(moment.came, header.pid(), found);
        });
    }
}

/// Where what the analyser finds goes.
type Found<'a> = &'a mut dyn FnMut(Timestamp, TsEvent);

/// When packets are judged. Continuity is judged when their order is known; the analyser keeps the time at which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) judged: Timestamp,
    /// The same as [`continuity::grains`].
    pub(super) grains: u32,
    pub(super) came: Timestamp,
    /// How long what is found is held back.
    pub(super) settling: Settling,
}

impl Moment {
    /// Judged when it came.
    #[inline]
    pub(super) fn of_arrival(at: Timestamp, settling: Settling) -> Self {
        Moment {
            judged: at,
            grains: continuity::grains(at),
            came: at,
            settling,
        }
    }
}

/// The court at one moment.
pub(super) struct Sitting<'a, S> {
    pub(super) court: &'a mut Court,
    pub(super) now: Timestamp,
    /// How long what is found is held back.
    pub(super) settling: Settling,
    pub(super) out: &'a mut S,
}

impl<S> Sitting<'_, S> {
    /// Somebody may be injecting packets: what is held back and what comes within the settling time stands beside it.
    fn finding(&mut self, event: Event) {
        self.court.docket.taint(self.now);
        self.court.docket.tell(event);
    }
}

impl<S: Sink> Bench for Sitting<'_, S> {
    fn counters(&mut self) -> &mut TransportCounters {
        &mut self.court.transport
    }

    fn worth_keeping(&self, packet: &Arrival<'_>) -> u8 {
        if self.court.hands_on {
            return u8::MAX;
        }
        let Some(analyser) = self.court.analysis.analyser() else {
            return 0;
        };
        let wanted = |header: &TsDigest| u8::from(analyser.wants(header));
        let headers = packet.digest.ts.iter().take(packet.digest.ts_count.into());
        headers
            .enumerate()
            .fold(0, |keep, (place, header)| keep | wanted(header) << place)
    }

    fn room_for_bytes(&self) -> usize {
        if self.court.hands_on { usize::MAX } else { KEPT_BYTES }
    }

    fn in_order(&mut self, packet: Arrival<'_>) {
        let Sitting {
            court,
            now,
            settling,
            out,
        } = self;
        if court.hands_on {
            out.media(packet.bytes.packets());
        }
        if !packet.digest.ts_visible {
            court.unseen = true;
            return;
        }
        if core::mem::take(&mut court.unseen) {
            court.rebase();
        }
        court.analysis.begin();
        let moment = Moment {
            judged: *now,
            grains: continuity::grains(*now),
            came: packet.at,
            settling: *settling,
        };
        court.judge(&moment, &packet);
    }

    fn grant(&mut self) -> &mut Grant {
        &mut self.court.grant
    }

    fn lost(&mut self, first: u64, count: u64) {
        let first = first as u32;
        self.court.docket.tell(Event::GivenUp { first, count });
        let (at, settling) = (self.now, self.settling.nanos());
        self.court.continuity.numbers_missing();
        let tainted = self.court.docket.is_tainted(at, settling);
        let event = Event::Lost { at, count, tainted };
        self.court
            .docket
            .hold(docket::after(at, settling), event, &mut self.court.grant);
    }

    fn suspect(&mut self) {
        self.court.docket.taint(self.now);
    }

    fn conflict(&mut self) {
        self.finding(Event::SequenceConflict { at: self.now });
    }

    fn out_of_window(&mut self) {
        self.finding(Event::OutOfWindow { at: self.now });
    }

    fn late(&mut self) {
        self.court.docket.tell(Event::Late { at: self.now });
    }

    fn reset(&mut self, cause: ResetCause, first: u64, lost: u64) {
        if lost > 0 {
            self.lost(first, lost);
        }
        self.court.rebase();
        if cause == ResetCause::Restart {
            // Two forged packets make a restart too: what stands beside one never feeds a block.
            self.court.docket.taint(self.now);
        }
        self.court.docket.tell(Event::Reset {
            at: self.now,
            cause,
            lost,
        });
    }
}
