//! Packets whose order is known and whose bytes are at hand: nearly all of a stream, straight from a datagram or a file.
//!
//! Most of them only go on: plain, of one PID, counted one up. Such a run is judged as one, and of its packets the content of
//! the last alone is hashed, for that is what a copy is compared with (ISO/IEC 13818-1 2.4.3.3). Every other packet is
//! judged as if it had waited.

use super::arrival::FilePacket;
use super::continuity;
use super::court::{Court, Moment};
use crate::engine::media::mpegts::{self, AT_ONCE, Content, Header, PACKET_SIZE, SYNC_BYTE};
use crate::engine::time::Timestamp;

/// A TS packet whose bytes are at hand, in the order of its stream.
pub(super) trait AtHand: Sized {
    /// All of it.
    fn bytes(&self) -> &[u8; PACKET_SIZE];
    /// When it is judged, and came, in a datagram of that moment.
    fn moment(&self, datagram: &Moment) -> Moment;
    /// The headers of the first [`AT_ONCE`] packets.
    fn headers(packets: &[Self]) -> [Header; AT_ONCE];
    /// How many of `length` packets from a place on come before a time; and when the last of those does.
    fn before(packets: &[Self], run: (usize, usize), datagram: &Moment, until: Timestamp) -> (usize, Timestamp);
    /// `came` in milliseconds, modulo 2^32.
    fn milliseconds(datagram: &Moment, came: Timestamp) -> u32;
}

/// A packet of a datagram.
impl AtHand for [u8; PACKET_SIZE] {
    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self
    }

    fn moment(&self, datagram: &Moment) -> Moment {
        *datagram
    }

    #[inline]
    fn headers(packets: &[Self]) -> [Header; AT_ONCE] {
        // Of a known number they are read without a loop.
        match packets.as_array::<{ AT_ONCE - 1 }>() {
            Some(packets) => Header::of_each(packets.iter()),
            None => Header::of_each(packets.iter()),
        }
    }

    #[inline]
    fn before(_: &[Self], (_, length): (usize, usize), datagram: &Moment, until: Timestamp) -> (usize, Timestamp) {
        (if datagram.came < until { length } else { 0 }, datagram.came)
    }

    #[inline]
    fn milliseconds(datagram: &Moment, _: Timestamp) -> u32 {
        datagram.milliseconds
    }
}

impl AtHand for FilePacket<'_> {
    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self.bytes
    }

    fn moment(&self, datagram: &Moment) -> Moment {
        Moment::of_arrival(self.at, datagram.settling)
    }

    #[inline]
    fn headers(packets: &[Self]) -> [Header; AT_ONCE] {
        Header::of_each(packets.iter().map(|packet| packet.bytes))
    }

    /// A file's clock never goes back.
    #[inline]
    fn before(packets: &[Self], run: (usize, usize), datagram: &Moment, until: Timestamp) -> (usize, Timestamp) {
        let (place, length) = run;
        let run = packets.get(place..place + length).unwrap_or_default();
        let last = run.iter().rposition(|packet| packet.at < until);
        let at = last.and_then(|last| run.get(last)).map(|packet| packet.at);
        (last.map_or(0, |last| last + 1), at.unwrap_or(datagram.came))
    }

    #[inline]
    fn milliseconds(_: &Moment, came: Timestamp) -> u32 {
        continuity::milliseconds(came)
    }
}

/// The header of the packet at a place.
#[inline]
fn header(headers: &[Header; AT_ONCE], place: usize) -> Header {
    headers.get(place % AT_ONCE).copied().unwrap_or_default()
}

/// The packet that a PID's run ended with, whose content is not hashed yet, and the PID's place.
type Unhashed<'a, P> = Option<(usize, &'a P)>;

impl Court {
    /// The next datagram in order: the TS packets that can be seen of it, if any.
    #[inline]
    pub(super) fn datagram(&mut self, moment: &Moment, packets: &[[u8; PACKET_SIZE]], content: Content) {
        if packets.is_empty() {
            self.unseen = true;
            return;
        }
        if self.unseen {
            self.unseen = false;
            self.rebase();
        }
        self.analysis.begin();
        let unhashed = self.some_packets(moment, packets, content, None);
        self.remember(unhashed, content);
    }

    /// Judges packets of a file that follow each other.
    pub(super) fn file(&mut self, moment: &Moment, packets: &[FilePacket<'_>]) {
        let mut unhashed = None;
        for packets in packets.chunks(AT_ONCE) {
            unhashed = self.some_packets(moment, packets, Content::Full, unhashed);
        }
        self.remember(unhashed, Content::Full);
    }

    /// Judges packets that follow each other, [`AT_ONCE`] at most.
    #[inline]
    fn some_packets<'a, P: AtHand>(
        &mut self,
        moment: &Moment,
        packets: &'a [P],
        content: Content,
        mut unhashed: Unhashed<'a, P>,
    ) -> Unhashed<'a, P> {
        let headers = P::headers(packets);
        let followed = Header::followed(&headers);
        let mut place = 0;
        while let Some(first) = packets.get(place) {
            if let Some((pid, count)) = self.run(moment, packets, place, (&headers, followed)) {
                place += count;
                // Null packets are compared with nothing, and where a PID goes on nothing is with what it goes on from.
                if let Some(last) = packets
                    .get(place - 1)
                    .filter(|_| !header(&headers, place - 1).is_null())
                {
                    let other = unhashed.replace((pid, last)).filter(|(other, _)| *other != pid);
                    self.remember(other, content);
                }
            } else {
                self.remember(unhashed.take(), content);
                self.single(moment, first, content);
                place += 1;
            }
        }
        unhashed
    }

    /// Judges the run of packets that begins at a place, by their headers and which of them are followed. The place of its PID,
    /// and how many packets were judged; `None` where the first of them is more than plain.
    #[inline]
    fn run<P: AtHand>(
        &mut self,
        moment: &Moment,
        packets: &[P],
        place: usize,
        (headers, followed): (&[Header; AT_ONCE], u32),
    ) -> Option<(usize, usize)> {
        let first = header(headers, place);
        if !first.is_plain() {
            return None;
        }
        let length = match first.is_null() {
            false => (followed >> place).trailing_ones() as usize + 1,
            true => headers
                .iter()
                .skip(place)
                .take_while(|header| header.is_plain_null())
                .count(),
        };
        let pid = self.continuity.goes_on(first)?;
        let at = pid.place;
        let before = |until| P::before(packets, (place, length), moment, until);
        let (count, came) = match self.analysis.analyser_mut() {
            Some(analyser) => analyser.count_run(at, before)?,
            None => before(Timestamp::from_nanos(u64::MAX)),
        };
        pid.take(header(headers, place + count - 1), count, P::milliseconds(moment, came));
        self.ts.packets += count as u64;
        Some((at, count))
    }

    /// Hashes the content of a PID's last packet.
    #[inline]
    fn remember<P: AtHand>(&mut self, last: Unhashed<'_, P>, content: Content) {
        if let Some((pid, packet)) = last {
            self.continuity
                .remember(pid, mpegts::hash_plain(packet.bytes(), content));
        }
    }

    /// Judges a packet that is more than plain, or does not go on.
    #[inline(never)]
    fn single<P: AtHand>(&mut self, datagram: &Moment, packet: &P, content: Content) {
        let (moment, bytes) = (packet.moment(datagram), packet.bytes());
        if bytes[0] == SYNC_BYTE {
            let digest = mpegts::digest_packet(bytes, content);
            self.packet(&moment, &digest, || Some(bytes));
        } else {
            self.bad_sync(&moment);
        }
        self.analysis.account();
    }
}
