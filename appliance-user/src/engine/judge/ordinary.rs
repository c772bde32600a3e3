//! Packets whose order is known and whose bytes are at hand: nearly all of a stream, straight from a datagram or a file.
//!
//! Most of them only go on: plain, of one PID, counted one up, with null packets between them. Such a stretch is judged as
//! one, and of its packets the content of the last alone is hashed, for that is what a copy is compared with (ISO/IEC 13818-1
//! 2.4.3.3). Every other packet is judged as if it had waited.

use core::hint::cold_path;

use tidegate_common::digest::MAX_TS_PACKETS;

use super::arrival::FilePacket;
use super::continuity;
use super::court::{Court, Moment};
use super::pace::Settling;
use crate::engine::media::mpegts::{self, Content, Header, PACKET_SIZE, SYNC_BYTE};
use crate::engine::time::Timestamp;

/// A TS packet whose bytes are at hand, in the order of its stream.
pub(super) trait AtHand {
    /// Packets of this kind have times of their own.
    const TIMED: bool;
    /// All of it.
    fn bytes(&self) -> &[u8; PACKET_SIZE];
    /// When it came, in a datagram that came at that time.
    fn came(&self, datagram: Timestamp) -> Timestamp;
}

/// A packet of a datagram.
impl AtHand for [u8; PACKET_SIZE] {
    const TIMED: bool = false;

    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self
    }

    #[inline]
    fn came(&self, datagram: Timestamp) -> Timestamp {
        datagram
    }
}

impl AtHand for FilePacket<'_> {
    const TIMED: bool = true;

    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self.bytes
    }

    #[inline]
    fn came(&self, _: Timestamp) -> Timestamp {
        self.at
    }
}

/// Packets of a stretch at most, for which [`Stretch::nulls`] has bits and one more.
const MOST: usize = u64::BITS as usize - 1;

/// Packets from a beginning on that say nothing but that they go on: plain ones of one PID, each counted one up, and plain
/// null packets among them.
#[derive(Clone, Copy)]
struct Stretch {
    length: usize,
    /// Bit n: the packet n is a null packet.
    nulls: u64,
    /// The header that the PID's next packet has if it is plain and goes on.
    next: Header,
}

impl Stretch {
    /// As far as packets go on, the PID's from `next` on, and come before a time.
    #[inline(always)]
    fn of<P: AtHand>(packets: &[P], next: Header, moment: Timestamp, until: Timestamp) -> Self {
        let mut stretch = Stretch {
            length: 0,
            nulls: 0,
            next,
        };
        for (place, packet) in packets.iter().enumerate() {
            let header = Header::of(packet.bytes());
            if P::TIMED && packet.came(moment) >= until {
                break;
            }
            if header == stretch.next {
                stretch.next = header.after(1);
            } else if header.is_plain_null() {
                cold_path();
                stretch.nulls |= 1 << place;
            } else {
                cold_path();
                break;
            }
            stretch.length = place + 1;
        }
        stretch
    }

    /// Its beginning, which is no longer than it.
    #[cold]
    fn shorten(&mut self, first: Header, length: u32) {
        self.length = length as usize;
        self.nulls &= (1_u64 << length) - 1;
        self.next = first.after(self.others());
    }

    /// Its packets but for the null packets.
    #[inline]
    fn others(&self) -> usize {
        self.length.saturating_sub(self.nulls.count_ones() as usize)
    }

    /// The place of its last null packet, or of its last other one.
    #[inline]
    fn last(&self, null: bool) -> Option<usize> {
        let all = (1_u64 << self.length) - 1;
        let such = if null { self.nulls } else { !self.nulls & all };
        such.checked_ilog2().map(|place| place as usize)
    }
}

impl Court {
    /// The next datagram in order: the TS packets that can be seen of it, if any.
    #[inline(always)]
    pub(super) fn datagram(
        &mut self,
        at: Timestamp,
        packets: &[[u8; PACKET_SIZE]],
        content: Content,
        settling: impl FnOnce() -> Settling,
    ) {
        if let Some(seven) = packets.as_array()
            && content == Content::Sampled
            && !self.unseen
            && self.seven(at, seven)
        {
            return;
        }
        self.any_datagram(at, packets, content, settling());
    }

    /// Nearly every datagram has seven packets, and most of those only go on: such a one is judged here, without a loop.
    /// `false` for any other, of which nothing was judged.
    #[inline(always)]
    fn seven(&mut self, at: Timestamp, packets: &[[u8; PACKET_SIZE]; MAX_TS_PACKETS]) -> bool {
        let Some(mut pid) = self.continuity.going_on() else {
            return false;
        };
        let Some(counting) = self.analysis.counting(pid.place, at) else {
            return false;
        };
        let [.., last] = packets;
        let stretch = Stretch::of(packets, pid.next(), at, at);
        if stretch.length < MAX_TS_PACKETS {
            return false;
        }
        if stretch.nulls != 0 {
            return self.seven_with_nulls(at, packets, stretch.nulls, stretch.next);
        }
        let hash = mpegts::hash_plain(last, Content::Sampled);
        pid.take(MAX_TS_PACKETS, stretch.next, hash, continuity::grains(at));
        if let Some(counting) = counting {
            counting.take(at, MAX_TS_PACKETS);
        }
        self.packets += MAX_TS_PACKETS as u64;
        true
    }

    /// The same where some of the seven are null packets; `next` is what the PID's next one has as its header.
    #[inline(never)]
    fn seven_with_nulls(
        &mut self,
        at: Timestamp,
        packets: &[[u8; PACKET_SIZE]; MAX_TS_PACKETS],
        nulls: u64,
        next: Header,
    ) -> bool {
        let Some(null) = self.null() else { return false };
        let stretch = Stretch {
            length: MAX_TS_PACKETS,
            nulls,
            next,
        };
        self.take(at, packets, Content::Sampled, &stretch, Some(null));
        true
    }

    /// Any datagram.
    #[inline(never)]
    fn any_datagram(&mut self, at: Timestamp, packets: &[[u8; PACKET_SIZE]], content: Content, settling: Settling) {
        if packets.is_empty() {
            self.unseen = true;
            return;
        }
        // Its PID begins something, most likely. Whatever that is measured by comes while the packets before it are judged.
        if let (Some(analyser), [recent, _]) = (self.analysis.analyser(), self.continuity.likely()) {
            analyser.prefetch_clocks(recent);
        }
        if self.unseen {
            self.unseen = false;
            self.rebase();
        }
        self.packets(&Moment::of_arrival(at, settling), packets, content);
    }

    /// Judges packets that follow each other.
    #[inline]
    pub(super) fn packets<P: AtHand>(&mut self, moment: &Moment, mut packets: &[P], content: Content) {
        self.analysis.begin();
        while let Some((first, next)) = packets.split_first() {
            self.continuity.turn_to(Header::of(first.bytes()));
            let some = packets.get(..MOST).unwrap_or(packets);
            let taken = self.stretch(moment.came, some, content);
            if taken > 0 {
                packets = packets.get(taken..).unwrap_or_default();
            } else {
                self.single(moment, first, content);
                packets = next;
            }
        }
    }

    /// Judges the packets that only go on, [`MOST`] at most, as far as they are followed by one that does more; how many they
    /// are. They came at that time unless they have times of their own.
    #[inline]
    fn stretch<P: AtHand>(&mut self, at: Timestamp, packets: &[P], content: Content) -> usize {
        let until = match self.analysis.analyser() {
            Some(analyser) => analyser.counts_until(),
            None => Timestamp::from_nanos(u64::MAX),
        };
        let Some((pid, first)) = self.continuity.expected() else {
            return 0;
        };
        if !P::TIMED && at >= until {
            return 0;
        }
        let mut stretch = Stretch::of(packets, first, at, until);
        if !self.continuity.is_whole(pid) || !self.only_counts(pid) {
            stretch.shorten(first, stretch.nulls.trailing_ones());
        }
        let null = if stretch.nulls == 0 { None } else { self.null() };
        if stretch.nulls != 0 && null.is_none() {
            stretch.shorten(first, stretch.nulls.trailing_zeros());
        }
        if stretch.length == 0 {
            return 0;
        }
        self.take(at, packets, content, &stretch, null);
        stretch.length
    }

    /// Whether nothing is to be done about a PID's plain packets but to count them.
    #[inline]
    fn only_counts(&self, place: usize) -> bool {
        self.analysis
            .analyser()
            .is_none_or(|analyser| analyser.only_counts(place))
    }

    /// The place of null packets that are only counted.
    #[inline]
    fn null(&self) -> Option<usize> {
        self.continuity.null().filter(|null| self.only_counts(*null))
    }

    /// Takes the packets of a stretch.
    #[inline(always)]
    fn take<P: AtHand>(
        &mut self,
        at: Timestamp,
        packets: &[P],
        content: Content,
        stretch: &Stretch,
        null: Option<usize>,
    ) {
        let came = |place: usize| packets.get(place).map_or(at, |packet| packet.came(at));
        if let Some(place) = stretch.last(false)
            && let Some(last) = packets.get(place)
            && let Some(mut pid) = self.continuity.going_on()
        {
            let (count, came) = (stretch.others(), last.came(at));
            let hash = mpegts::hash_plain(last.bytes(), content);
            pid.take(count, stretch.next, hash, continuity::grains(came));
            let place = pid.place;
            if let Some(analyser) = self.analysis.analyser_mut() {
                analyser.count_many(came, place, count);
            }
        }
        // They are compared with nothing.
        if let (Some(null), Some(last)) = (null, stretch.last(true)) {
            let count = stretch.length - stretch.others();
            self.continuity.take_nulls(null, count);
            if let Some(analyser) = self.analysis.analyser_mut() {
                analyser.count_many(came(last), null, count);
                analyser.stands_at(came(stretch.length - 1));
            }
        }
        self.packets += stretch.length as u64;
    }

    /// Judges a packet that is more than plain, or does not go on.
    #[inline(never)]
    fn single<P: AtHand>(&mut self, datagram: &Moment, packet: &P, content: Content) {
        let bytes = packet.bytes();
        let moment = match P::TIMED {
            true => Moment::of_arrival(packet.came(datagram.came), datagram.settling),
            false => *datagram,
        };
        if bytes[0] == SYNC_BYTE {
            let digest = mpegts::digest_packet(bytes, content);
            self.packet(&moment, &digest, || Some(bytes));
        } else {
            self.bad_sync(&moment);
        }
        self.analysis.account();
    }
}
