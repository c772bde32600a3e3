//! The judge of one stream: puts digests in the order in which they were sent and says what was wrong, and whose fault.
//!
//! Packets are forwarded at once. The judge looks at those in order straight away; of one behind a gap it keeps a digest,
//! and waits for the missing one as long as the reorder window lasts. `sequence` finds the order, `continuity` applies
//! ISO/IEC 13818-1 2.4.3.3 to it, and the docket holds events back until it is known whether somebody was injecting packets
//! around them.
//!
//! The judge allocates for a stream's first packets and for its first gaps, never per packet after that, and everything
//! that it keeps has a bound.

#![forbid(unsafe_code)]

mod ahead;
mod analysis;
mod arrival;
mod continuity;
mod court;
mod docket;
#[cfg(test)]
mod forgery_tests;
pub mod incidents;
mod ordinary;
mod pace;
mod pending;
mod rest;
#[cfg(test)]
mod run_tests;
mod sequence;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways_tests;

use core::time::Duration;
use std::sync::Arc;

use tidegate_common::digest::PacketDigest;

use self::analysis::Analysis;
use self::arrival::Arrival;
pub use self::arrival::{FilePacket, Packet, TsBytes};
use self::continuity::Continuity;
pub use self::continuity::PidCounters;
use self::court::{Court, Moment, Sitting};
use self::docket::Docket;
use self::pace::Settling;
use self::sequence::{Bench, Sequencer};
use super::media::mpegts::{Content, PACKET_SIZE};
use super::memory::Allowance;
use super::time::Timestamp;
pub use super::ts::Axis;
use super::ts::{Analyser, TsEvent};
use crate::policy::rule::TsRule;

/// What tells a stream's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// RTP sequence numbers, 16 bits.
    Rtp,
    /// SRT packet sequence numbers, 31 bits.
    Srt,
    /// Nothing but the order of arrival: TS straight in UDP, or a file.
    Arrival,
}

/// Whose fault a continuity error is where no sequence number could tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsequencedFault {
    /// A live stream: nobody knows.
    Unknown,
    /// A file: it was written so.
    Source,
}

/// Whose fault a continuity error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was wrong when the last RTP or SRT sender packetised it.
    Source,
    /// At least one sequence number is missing since the PID's previous packet.
    Network,
    /// The transport has no sequence numbers.
    Unknown,
}

/// Why counters were rebased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The sequence went on somewhere else: the sender began anew.
    Restart,
    /// Silence, and numbers missing after it in a measure that fits the silence.
    Outage,
    /// [`Judge::rebase`]: another SSRC.
    NewSource,
    /// [`Judge::blind`]: the appliance itself did not see what went by.
    Unseen,
}

/// Something that the judge found.
///
/// [`Event::ContinuityError`] and [`Event::Lost`] are told with a delay of up to two seconds ([`Judge::settling`]), for
/// only then is it known whether they are `tainted`: a finding stands so near to them that whoever injects packets may
/// have caused them, so they must never feed a block. The counters do not wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A packet's continuity_counter is wrong; the count goes on from it.
    ContinuityError {
        /// When it was judged.
        at: Timestamp,
        /// The packet's PID.
        pid: u16,
        /// Who made the gap.
        fault: Fault,
        /// The counter that the packet should have had.
        expected: u8,
        /// The counter that it had.
        got: u8,
        /// May have been caused by injected packets.
        tainted: bool,
    },
    /// Consecutive sequence numbers that did not come within the window.
    Lost {
        /// When they were given up.
        at: Timestamp,
        /// How many.
        count: u64,
        /// May have been caused by injected packets.
        tainted: bool,
    },
    /// The numbers that [`Event::Lost`] will tell of, told at once: they are counted as lost from now on.
    GivenUp {
        /// The first of them, as on the wire (RTP: its lower 16 bits).
        first: u32,
        /// How many.
        count: u64,
    },
    /// One sequence number came with two contents. The first one was judged.
    SequenceConflict {
        /// When the other content came.
        at: Timestamp,
    },
    /// A lone packet far away from the sequence; judged nowhere.
    OutOfWindow {
        /// When it was known to be alone.
        at: Timestamp,
    },
    /// A packet whose number was given up already; judged nowhere.
    Late {
        /// When it came.
        at: Timestamp,
    },
    /// The analyser found something in the transport stream.
    Ts {
        /// When.
        at: Timestamp,
        /// What.
        event: TsEvent,
        /// May have been caused by injected packets.
        tainted: bool,
    },
    /// The counters were rebased.
    Reset {
        /// When it was known.
        at: Timestamp,
        /// Why.
        cause: ResetCause,
        /// Numbers that were lost on the way, told by an [`Event::Lost`] of their own too.
        lost: u64,
    },
}

/// Where what the judge finds goes.
pub trait Sink {
    /// Takes one event.
    fn event(&mut self, event: Event);

    /// Takes the TS packets of the next datagram in sequence order, from a judge that was told to [`Judge::hand_on`] media.
    fn media(&mut self, _packets: &[[u8; PACKET_SIZE]]) {}
}

impl<F: FnMut(Event)> Sink for F {
    fn event(&mut self, event: Event) {
        self(event);
    }
}

/// What the sequence numbers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportCounters {
    /// Numbers missing between the first and the last, counted when their window is over.
    pub lost: u64,
    /// Type-P-reordered (RFC 4737 3): smaller than the number expected next, and no copy. Late packets are among them.
    pub reordered: u64,
    /// Equal copies of a number already seen, which the sender did not mark as retransmitted.
    pub duplicated: u64,
    /// Packets that the sender marked as retransmitted, needed or not.
    pub retransmitted: u64,
    /// Packets that came after their window; they stay counted as lost.
    pub late: u64,
    /// Times that the counters were rebased.
    pub resets: u64,
}

/// Continuity errors by whose fault they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContinuityCounters {
    /// See [`Fault::Source`].
    pub source: u64,
    /// See [`Fault::Network`].
    pub network: u64,
    /// See [`Fault::Unknown`].
    pub unknown: u64,
}

/// What the transport stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TsCounters {
    /// TS packets judged: after copies of datagrams were removed, null packets and bad sync bytes included.
    pub packets: u64,
    /// Continuity errors.
    pub continuity_errors: ContinuityCounters,
    /// Legal duplicates (2.4.3.3).
    pub duplicates: u64,
    /// Packets whose sync byte is not 0x47.
    pub sync_byte_errors: u64,
    /// Packets with transport_error_indicator.
    pub transport_errors: u64,
}

/// The judge of one stream. See the module's documentation. What every packet needs lies together in the middle, on a cache line
/// boundary: the court's end, and the sequencer's beginning.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Judge {
    court: Court,
    clock: Timestamp,
    /// Idle where they have none.
    sequencer: Sequencer,
}

impl Judge {
    /// A judge that has seen nothing. `window` is how long a missing number is waited for; `unsequenced` says whose fault
    /// errors are under [`Ordering::Arrival`] and means nothing otherwise.
    pub fn new(ordering: Ordering, window: Duration, unsequenced: UnsequencedFault) -> Self {
        let (numbered, bits) = match ordering {
            Ordering::Rtp => (true, 16),
            Ordering::Srt => (true, 31),
            Ordering::Arrival => (false, 32),
        };
        let unsequenced = (!numbered).then_some(match unsequenced {
            UnsequencedFault::Unknown => Fault::Unknown,
            UnsequencedFault::Source => Fault::Source,
        });
        Judge {
            court: Court {
                continuity: Continuity::default(),
                docket: Docket::default(),
                ts: TsCounters::default(),
                packets: 0,
                transport: TransportCounters::default(),
                unsequenced,
                unseen: false,
                hands_on: false,
                grant: Allowance::unlimited().grant(),
                analysis: Analysis::new(),
            },
            clock: Timestamp::default(),
            sequencer: Sequencer::new(bits, window),
        }
    }

    /// Changes the reorder window, for gaps that are open too.
    pub fn set_window(&mut self, window: Duration) {
        self.sequencer.set_window(window);
    }

    /// How long events are held back now: until twice the window has passed, or 100 packets, but two seconds at most. A
    /// number that was forged ahead of its time meets the genuine one within that.
    pub fn settling(&self) -> Duration {
        Duration::from_nanos(self.held_back().nanos())
    }

    fn held_back(&self) -> Settling {
        match self.is_numbered() {
            true => self.sequencer.settling(),
            false => Settling::default(),
        }
    }

    /// What it holds beyond a stream's first packets comes out of this allowance.
    pub fn within(mut self, allowance: &Allowance) -> Self {
        self.court.grant = allowance.grant();
        self.court.analysis.within(allowance);
        self
    }

    /// The transport stream is analysed too, from its first packet on: tables, clocks, TR 101 290.
    pub fn analyse(&mut self, axis: Axis, rule: Arc<TsRule>) {
        self.court.analysis.await_packets(axis, rule);
    }

    /// The policy changed: the rule's thresholds are others.
    pub fn readmit(&mut self, rule: &Arc<TsRule>) {
        self.court.analysis.readmit(rule);
    }

    /// What the analyser knows, where there is one and memory for it.
    pub(in crate::engine) fn analyser(&self) -> Option<&Analyser> {
        self.court.analysis.analyser()
    }

    /// The analyser, to ask about a rule's limits.
    pub(in crate::engine) fn analyser_mut(&mut self) -> Option<&mut Analyser> {
        self.court.analysis.analyser_mut()
    }

    /// From now on the media goes to the sink too, in sequence order: whole datagrams are kept while they wait.
    pub fn hand_on(&mut self) {
        self.court.hands_on = true;
    }

    /// Takes a packet that came at `now`. Whether it was new: no copy of what came before, and nothing that is judged nowhere.
    #[inline]
    pub fn offer(&mut self, now: Timestamp, packet: &Packet<'_>, out: &mut impl Sink) -> bool {
        if self.take(now, packet) {
            self.tell(now, out);
            return true;
        }
        self.offer_digest(now, &packet.digest(), packet.bytes(), out)
    }

    /// Takes the usual packet: the next in order, with nothing before it to wait for, which is new. What is found of it
    /// [`Judge::tell`] tells. `false` for any other, of which nothing was taken.
    #[inline(always)]
    pub(in crate::engine) fn take(&mut self, now: Timestamp, packet: &Packet<'_>) -> bool {
        if self.court.hands_on {
            return false;
        }
        if !self.sequencer.is_next(packet.sequence) {
            // Without numbers it never is.
            let numbered = self.is_numbered();
            if !numbered {
                self.clock = now;
                self.court.datagram(now, packet.ts, packet.content, Settling::default);
            }
            return !numbered;
        }
        if packet.retransmitted {
            return false;
        }
        self.clock = now;
        let hash = packet.hash();
        // What is found is held back as long as before this packet, as of any other packet.
        let sequencer = &self.sequencer;
        self.court
            .datagram(now, packet.ts, packet.content, || sequencer.settling());
        self.sequencer.go_on(now, hash, &mut self.court.grant);
        true
    }

    /// Tells what was found and has settled.
    #[inline]
    pub(in crate::engine) fn tell(&mut self, now: Timestamp, out: &mut impl Sink) {
        self.court.docket.release(now, out);
    }

    /// Takes a packet by its digest and those of its TS packets that are at hand: as if it had been offered whole, but that what
    /// is not at hand is not looked into.
    pub fn offer_digest(
        &mut self,
        now: Timestamp,
        digest: &PacketDigest,
        bytes: TsBytes<'_>,
        out: &mut impl Sink,
    ) -> bool {
        self.clock = now;
        let packet = Arrival { at: now, digest, bytes };
        let numbered = self.is_numbered();
        let mut bench = Sitting {
            settling: self.held_back(),
            court: &mut self.court,
            now,
            out,
        };
        let fresh = match numbered {
            true => self.sequencer.offer(packet, &mut bench),
            false => {
                bench.in_order(packet);
                true
            }
        };
        self.court.docket.release(now, out);
        fresh
    }

    /// Takes packets of a file, under [`Ordering::Arrival`]: as if each had been offered in a datagram of its own, at its own
    /// time, all of its bytes compared.
    pub fn offer_file(&mut self, packets: &[FilePacket<'_>], out: &mut impl Sink) {
        let Some(last) = packets.last() else { return };
        self.clock = last.at;
        if self.court.hands_on {
            packets
                .iter()
                .for_each(|packet| out.media(core::slice::from_ref(packet.bytes)));
        }
        let moment = Moment::of_arrival(last.at, Settling::default());
        self.court.packets(&moment, packets, Content::Full);
        self.court.docket.release(last.at, out);
    }

    /// Lets time pass: gaps whose window is over are given up, settled events are told. To be called now and then, for a
    /// stream may fall silent.
    pub fn advance(&mut self, now: Timestamp, out: &mut impl Sink) {
        self.clock = self.clock.max(now);
        self.sit(out, |sequencer, now, bench| sequencer.advance(now, bench));
        let settling = self.held_back().nanos();
        self.court
            .analyse(settling, |analyser, found| analyser.advance(now, found));
        self.court.docket.release(now, out);
        let sequence = self.sequencer.memory();
        // What was given back is free for others now; more than was granted it never holds.
        self.court.grant.hold(sequence + self.court.memory());
    }

    /// Synchronisation was lost on the way to the judge; under [`Ordering::Arrival`].
    pub fn sync_lost(&mut self, at: Timestamp, out: &mut impl Sink) {
        self.court.analyse(0, |analyser, found| analyser.sync_lost(at, found));
        self.court.docket.release(at, out);
    }

    /// The input ends: whatever still waits is judged and told.
    pub fn flush(&mut self, out: &mut impl Sink) {
        self.sit(out, |sequencer, _, bench| sequencer.flush(bench));
        let settling = self.held_back().nanos();
        self.court.analyse(settling, |analyser, found| analyser.finish(found));
        self.court.docket.release_all(out);
    }

    /// The stream goes on under another identity, such as a new SSRC: what waits is judged, then counters rebase with the
    /// next packet and `resets` counts one.
    pub fn rebase(&mut self, out: &mut impl Sink) {
        let rebased = self.sit(out, |sequencer, _, bench| sequencer.restart(bench));
        if rebased.is_none() {
            self.court.rebase_unsequenced();
        }
    }

    /// Packets of this stream may have gone by without the judge: its appliance stood still, or its rings overflowed. What
    /// is missing is nobody's loss; counters rebase with the next packet and `resets` counts one.
    pub fn blind(&mut self, out: &mut impl Sink) {
        if self.sit(out, |sequencer, _, bench| sequencer.blind(bench)).is_none() {
            self.court.rebase_unsequenced();
        }
    }

    /// A finding that is not the judge's own: events beside it are tainted.
    pub fn taint(&mut self, at: Timestamp) {
        self.court.docket.taint(at);
    }

    /// What the sequence numbers say; all zero under [`Ordering::Arrival`] but for `resets`.
    pub fn transport(&self) -> &TransportCounters {
        &self.court.transport
    }

    /// What the transport stream says.
    pub fn ts(&self) -> TsCounters {
        TsCounters {
            packets: self.court.packets,
            ..self.court.ts
        }
    }

    /// What was counted of each PID, in the order in which they appeared.
    pub fn pids(&self) -> impl Iterator<Item = &PidCounters> {
        self.court.continuity.pids()
    }

    fn sit<S: Sink, R>(
        &mut self,
        out: &mut S,
        work: impl FnOnce(&mut Sequencer, Timestamp, &mut Sitting<'_, S>) -> R,
    ) -> Option<R> {
        if !self.is_numbered() {
            return None;
        }
        let (now, sequencer) = (self.clock, &mut self.sequencer);
        let mut bench = Sitting {
            settling: sequencer.settling(),
            court: &mut self.court,
            now,
            out,
        };
        Some(work(sequencer, now, &mut bench))
    }
}
