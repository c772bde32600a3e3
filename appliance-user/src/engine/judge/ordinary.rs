//! Packets whose order is known and whose bytes are at hand: nearly all of a stream, straight from a datagram or a file.
//!
//! Most of them only go on: plain, of one PID, counted one up. Such a run is judged as one, and of its packets the content of
//! the last alone is hashed, for that is what a copy is compared with (ISO/IEC 13818-1 2.4.3.3). Every other packet is
//! judged as if it had waited.

use super::arrival::FilePacket;
use super::continuity;
use super::court::{Court, Moment};
use crate::engine::media::mpegts::{self, Content, Header, PACKET_SIZE, SYNC_BYTE};
use crate::engine::time::Timestamp;

/// A TS packet whose bytes are at hand, in the order of its stream.
pub(super) trait AtHand {
    /// Packets of this kind have times of their own.
    const TIMED: bool;
    /// All of it.
    fn bytes(&self) -> &[u8; PACKET_SIZE];
    /// When it came, in a datagram of that moment.
    fn came(&self, datagram: &Moment) -> Timestamp;
}

/// A packet of a datagram.
impl AtHand for [u8; PACKET_SIZE] {
    const TIMED: bool = false;

    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self
    }

    #[inline]
    fn came(&self, datagram: &Moment) -> Timestamp {
        datagram.came
    }
}

impl AtHand for FilePacket<'_> {
    const TIMED: bool = true;

    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self.bytes
    }

    #[inline]
    fn came(&self, _: &Moment) -> Timestamp {
        self.at
    }
}

/// How many packets go on, as far as they come before a time.
#[inline(always)]
fn length<P: AtHand>(
    packets: &[P],
    moment: &Moment,
    until: Timestamp,
    mut goes_on: impl FnMut(Header) -> bool,
) -> usize {
    let mut count = 0;
    for packet in packets {
        if !goes_on(Header::of(packet.bytes())) || P::TIMED && packet.came(moment) >= until {
            break;
        }
        count += 1;
    }
    count
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
        self.packets(moment, packets, content);
    }

    /// Judges packets that follow each other.
    #[inline]
    pub(super) fn packets<P: AtHand>(&mut self, moment: &Moment, mut packets: &[P], content: Content) {
        self.analysis.begin();
        let mut unhashed: Unhashed<'_, P> = None;
        while let Some((first, next)) = packets.split_first() {
            let Some((pid, count)) = self.run(moment, first, next) else {
                self.remember(unhashed.take(), content);
                self.single(moment, first, content);
                packets = next;
                continue;
            };
            let last = packets.get(count - 1);
            packets = packets.get(count..).unwrap_or_default();
            // Null packets are compared with nothing, and where a PID goes on nothing is with what it goes on from.
            if let (Some(pid), Some(last)) = (pid, last) {
                let other = unhashed.replace((pid, last)).filter(|(other, _)| *other != pid);
                self.remember(other, content);
            }
        }
        self.remember(unhashed, content);
    }

    /// Judges the run of packets that begins with one. The place of its PID unless that is the null packets', and how many
    /// packets were judged; `None` where the first of them is more than plain, or does not go on.
    #[inline]
    fn run<P: AtHand>(&mut self, moment: &Moment, first: &P, next: &[P]) -> Option<(Option<usize>, usize)> {
        let header = Header::of(first.bytes());
        let null = header.is_plain_null();
        let pid = match null {
            true => self.continuity.null()?,
            false => self.continuity.goes_on(header)?,
        };
        let place = pid.place;
        let run = |until: Timestamp| {
            let mut expected = header;
            let goes_on = |next: Header| {
                expected = expected.after(1);
                next == expected
            };
            // Two loops, each of which is short.
            let more = match null {
                true => length(next, moment, until, Header::is_plain_null),
                false => length(next, moment, until, goes_on),
            };
            let last = more.checked_sub(1).and_then(|last| next.get(last)).unwrap_or(first);
            let comes = usize::from(first.came(moment) < until);
            ((more + 1) * comes, last.came(moment))
        };
        let (count, came) = match self.analysis.analyser_mut() {
            Some(analyser) => analyser.count_run(place, run)?,
            None => run(Timestamp::from_nanos(u64::MAX)),
        };
        if count == 0 {
            return None;
        }
        let milliseconds = match P::TIMED {
            true => continuity::milliseconds(came),
            false => moment.milliseconds,
        };
        pid.take(header, count, milliseconds);
        self.ts.packets += count as u64;
        Some(((!null).then_some(place), count))
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
        let bytes = packet.bytes();
        let moment = match P::TIMED {
            true => Moment::of_arrival(packet.came(datagram), datagram.settling),
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
