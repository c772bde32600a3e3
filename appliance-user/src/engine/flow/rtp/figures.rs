//! What only RTP knows of a stream: how its packets arrive, what RTCP says of it, and what FEC and a second path make of
//! its losses.

use core::mem::offset_of;
use core::time::Duration;

use super::arrival::{Arrival, CLOCK, Header, Jump, Step};
use super::feedback::Feedback;
use super::history::{History, Mark};
use super::report::{FecReport, RtpReport, SeamlessReport};
use crate::engine::group::{Membership, Merged, Outcome, RtcpNote};
use crate::engine::media::fec::{Dimension, Header as FecHeader};
use crate::engine::stream::Finding;
use crate::engine::time::Timestamp;
use crate::prefetch::{LINE, prefetch_within};

/// A BYE may overtake its stream's last packets on another port by this much; media after that denies it.
const BYE_GRACE: Duration = Duration::from_millis(50);

/// What only RTP knows of a stream.
///
/// What every packet reads and writes is one cache line, from the arrival's hot part to that of the membership; beside it only
/// a place in the history is written. So what is found out seldom has a short form in that line: whether the payload type is
/// another one, whether a BYE waits to be denied, which time is the newest.
#[derive(Debug)]
#[repr(C, align(64))]
pub(in crate::engine) struct RtpFigures {
    /// One bit for each payload type that was seen.
    payload_types: u128,
    markers: u64,
    /// Copies among the packets that came, which are not counted as received.
    copies: u64,
    bye: Option<Timestamp>,
    arrival: Arrival,
    /// Media packets that came, repeated ones and copies left out: what a sender report is compared with.
    received: u64,
    /// Where the history goes on.
    mark: Mark,
    /// Of the last packet; none has this one at first.
    payload_type: u8,
    /// The stream's part in its groups.
    pub membership: Membership,
    /// How long there is to wait once the stream shows that its receiver asks for retransmissions; `None` where its rule says
    /// what it is, and once that was shown.
    pub retransmission_window: Option<Duration>,
    jumps: u64,
    signalled_jumps: u64,
    /// The sender repeats what was lost, and does not count that (RIST): its count says nothing of what came in the end.
    repeats: bool,
    /// The rule says that FEC accompanies the stream, or FEC was seen.
    expects_fec: bool,
    paired: bool,
    feedback: Option<Box<Feedback>>,
    /// FEC packets, for the FEC stream itself.
    fec: Option<FecFigures>,
    recovered: u64,
    seamless: Option<Merged>,
    /// What the merge counted under SSRCs before this one.
    seamless_before: Merged,
    /// Media packets by the last times at which some came, copies left out.
    history: History,
}

/// Where the line is that every packet needs.
const HOT: usize = offset_of!(RtpFigures, arrival) + Arrival::HOT;
const _: () = assert!(HOT.is_multiple_of(LINE) && offset_of!(RtpFigures, membership) + 16 == HOT + LINE);

#[derive(Clone, Copy, Debug, Default)]
struct FecFigures {
    columns: u64,
    rows: u64,
    malformed: u64,
    /// The matrix as columns and rows show it: L and D of ST 2022-1.
    width: u8,
    depth: u8,
}

impl Default for RtpFigures {
    fn default() -> Self {
        RtpFigures {
            membership: Membership::default(),
            retransmission_window: None,
            arrival: Arrival::default(),
            payload_types: 0,
            payload_type: u8::MAX,
            markers: 0,
            jumps: 0,
            signalled_jumps: 0,
            received: 0,
            copies: 0,
            mark: Mark::default(),
            repeats: false,
            history: History::new(Some(0)),
            bye: None,
            feedback: None,
            fec: None,
            expects_fec: false,
            paired: false,
            recovered: 0,
            seamless: None,
            seamless_before: Merged::default(),
        }
    }
}

impl RtpFigures {
    /// Asks for what the next packet will read.
    #[inline]
    pub(in crate::engine) fn prefetch(&self) {
        prefetch_within(self, HOT..HOT + LINE);
    }

    /// Asks for where its time will be remembered, when that has come.
    #[inline]
    pub(in crate::engine) fn prefetch_history(&self) {
        self.history.prefetch(self.mark);
    }

    /// Packets came before the stream was recognised, and were not counted here.
    pub(in crate::engine) fn began_before(&mut self) {
        self.begin_history();
    }

    /// How many came by which time is not known from here on back.
    fn begin_history(&mut self) {
        (self.history, self.mark) = (History::new(None), Mark::default());
    }

    /// Packets may have gone by unseen.
    pub(in crate::engine) fn blind(&mut self) {
        self.begin_history();
        if let Some(feedback) = &mut self.feedback {
            feedback.blind();
        }
    }

    /// What the rule says of the stream: FEC beside it, and which path of a pair it is.
    pub(in crate::engine) fn tie(&mut self, expects_fec: bool, path: Option<u8>) {
        self.expects_fec |= expects_fec;
        self.membership.fec = self.expects_fec;
        self.membership.path = path;
        if path.is_some() && self.seamless.is_none() {
            self.seamless = Some(Merged::default());
        }
    }

    /// Whether losses count only where the other path has them too.
    pub(in crate::engine) fn is_path(&self) -> bool {
        self.membership.path.is_some()
    }

    /// A media packet came. What is wrong with it is returned.
    #[inline(always)]
    pub(in crate::engine) fn media(
        &mut self,
        now: Timestamp,
        payload_type: u8,
        header: Header,
        repeated: bool,
    ) -> Option<[Option<Finding>; 2]> {
        if payload_type != self.payload_type || header.marker {
            self.differs(payload_type, header.marker);
        }
        if repeated {
            self.repeats = true;
            return None;
        }
        self.received += 1;
        // None is steady while a BYE waits to be denied.
        if self.arrival.steady(now, header) {
            return None;
        }
        Some(self.arrived(now, header))
    }

    /// A packet has another payload type than the one before it, or a marker.
    #[inline(never)]
    fn differs(&mut self, payload_type: u8, marker: bool) {
        self.payload_type = payload_type;
        self.payload_types |= 1 << (payload_type & 0x7f);
        self.markers += u64::from(marker);
    }

    /// So many of all packets were copies.
    #[inline]
    pub(in crate::engine) fn set_copies(&mut self, copies: u64) {
        let more = copies.wrapping_sub(core::mem::replace(&mut self.copies, copies));
        self.received = self.received.saturating_sub(more);
    }

    #[inline(never)]
    fn arrived(&mut self, now: Timestamp, header: Header) -> [Option<Finding>; 2] {
        let (step, jump) = self.arrival.packet(now, header);
        match step {
            Step::Stray => return [None; 2],
            Step::Restart => {
                self.membership.rebased();
                self.membership.came(now, header.sequence.wrapping_sub(1));
            }
            Step::Forward | Step::Behind => {}
        }
        let denied = step == Step::Forward && self.bye.is_some_and(|bye| now.since(bye) > BYE_GRACE);
        if denied {
            self.bye = None;
            self.arrival.set_leaving(false);
        }
        let jumped = match jump {
            Some(Jump::Signalled) => {
                self.signalled_jumps += 1;
                None
            }
            Some(Jump::Unsignalled) => {
                self.jumps += 1;
                Some(Finding::RtpTimestampJump)
            }
            None => None,
        };
        [jumped, denied.then_some(Finding::ByeWithMedia)]
    }

    /// The packet was judged: its number may be told. A stray's is told when the next one follows it.
    #[inline(always)]
    pub(in crate::engine) fn judged(&mut self, now: Timestamp, sequence: u16) {
        self.history.came(&mut self.mark, now, self.received);
        if self.membership.is_followed() && self.arrival.is_followed(sequence) {
            self.membership.came(now, sequence);
        }
    }

    /// An FEC packet came; `None` for one that could not be read.
    pub(in crate::engine) fn fec_packet(&mut self, header: Option<&FecHeader>) {
        let fec = self.fec.get_or_insert_default();
        match header {
            None => fec.malformed += 1,
            Some(header) => match header.dimension {
                Dimension::Column => {
                    fec.columns += 1;
                    (fec.width, fec.depth) = (header.protected.offset, header.protected.count);
                }
                Dimension::Row => {
                    fec.rows += 1;
                    fec.width = header.protected.count;
                }
            },
        }
    }

    /// RTCP said something of the stream at `at`; whether that was a BYE that is news.
    pub(in crate::engine) fn rtcp(&mut self, at: Timestamp, note: &RtcpNote) -> bool {
        let received = self.history.by(self.mark, at);
        let feedback = self.feedback.get_or_insert_default();
        feedback.note(at, note, received);
        if *note != RtcpNote::Bye {
            return false;
        }
        self.arrival.set_leaving(true);
        // A repetition does not begin the grace anew, or media could be kept from denying it.
        self.bye.replace(self.bye.unwrap_or(at)).is_none()
    }

    /// An RTCP datagram, or a part of one, could not be read.
    pub(in crate::engine) fn rtcp_malformed(&mut self, count: u64) {
        if count > 0 {
            self.feedback.get_or_insert_default().malformed += count;
        }
    }

    /// The sender said that it leaves, so lately that media may still be on its way.
    pub(in crate::engine) fn is_leaving(&self, now: Timestamp) -> bool {
        self.bye.is_some_and(|bye| now.since(bye) <= BYE_GRACE)
    }

    /// The sender said that it leaves, and it fell silent: a newcomer may succeed it.
    pub(in crate::engine) fn has_left(&self, now: Timestamp) -> bool {
        self.bye.is_some() && now.since(self.arrival.last()) > self.arrival.silence()
    }

    /// The stream goes on under another SSRC.
    pub(in crate::engine) fn succeed(&mut self) {
        self.arrival.rebase();
        self.membership.renamed();
        self.begin_history();
        self.bye = None;
        self.arrival.set_leaving(false);
        if let Some(feedback) = &mut self.feedback {
            feedback.rebase();
        }
        if let Some(merged) = self.seamless.replace(Merged::default()).filter(|_| self.is_path()) {
            self.seamless_before = sum(&self.seamless_before, &merged);
        } else {
            self.seamless = None;
        }
    }

    /// What the group's home found. Returns how many more numbers neither path of a pair brought.
    pub(in crate::engine) fn outcome(&mut self, outcome: &Outcome) -> u64 {
        match outcome {
            Outcome::Paired => {
                self.paired = true;
                if self.fec.is_none() {
                    self.expects_fec = true;
                    self.membership.fec_found(self.arrival.next());
                }
            }
            Outcome::Recovered { count } => self.recovered += count,
            Outcome::Seamless(merged) => {
                let before = self.seamless.replace(*merged).map_or(0, |before| before.lost);
                return merged.lost.saturating_sub(before);
            }
            Outcome::Incomplete => self.membership.shed += 1,
            Outcome::Rtcp { .. } => {}
        }
        0
    }

    /// Lost numbers that FEC could rebuild, never more than `lost`; `None` where no FEC accompanies the stream.
    pub(in crate::engine) fn recoverable(&self, lost: u64) -> Option<u64> {
        self.expects_fec.then_some(self.recovered.min(lost))
    }

    /// Everything known.
    pub(in crate::engine) fn report(&self) -> RtpReport {
        let jitter = self.arrival.jitter();
        let seamless = self.seamless.map(|now| sum(&self.seamless_before, &now));
        let apart =
            (self.expects_fec || self.fec.is_some()) && !self.paired || seamless.is_some_and(|merged| !merged.complete);
        RtpReport {
            jitter_ms: jitter.map(|units| units * 1000.0 / f64::from(CLOCK)),
            jitter,
            clock_rate: jitter.map(|_| CLOCK),
            payload_types: (0..128).filter(|kind| self.payload_types >> kind & 1 != 0).collect(),
            markers: self.markers,
            timestamp_jumps: self.jumps,
            signalled_timestamp_jumps: self.signalled_jumps,
            rtcp: self.feedback.as_ref().map(|feedback| feedback.report(!self.repeats)),
            fec: self.fec.map(|fec| FecReport {
                columns: fec.columns,
                rows: fec.rows,
                malformed: fec.malformed,
                width: fec.width,
                depth: fec.depth,
            }),
            seamless: seamless.map(|merged| SeamlessReport {
                lost: merged.lost,
                path_lost: merged.path_lost,
                skew_ms: merged.skew.map(|skew| skew as f64 / 1e6),
            }),
            partial: apart || self.membership.shed > 0 || self.membership.fec_came_late(self.recovered),
        }
    }

    /// Heap bytes held.
    pub(in crate::engine) fn memory(&self) -> usize {
        self.membership.memory() + self.feedback.as_ref().map_or(0, |_| size_of::<Feedback>())
    }
}

fn sum(before: &Merged, now: &Merged) -> Merged {
    let [a, b] = before.path_lost;
    let [c, d] = now.path_lost;
    Merged {
        complete: now.complete,
        lost: before.lost + now.lost,
        path_lost: [a + c, b + d],
        skew: now.skew.or(before.skew),
    }
}
