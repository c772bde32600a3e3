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
    /// When it is judged, and came, in a datagram of that moment.
    fn moment(&self, datagram: &Moment) -> Moment;
    /// When it came.
    fn came(&self, datagram: &Moment) -> Timestamp;
}

/// A packet of a datagram.
impl AtHand for [u8; PACKET_SIZE] {
    const TIMED: bool = false;

    #[inline]
    fn bytes(&self) -> &[u8; PACKET_SIZE] {
        self
    }

    fn moment(&self, datagram: &Moment) -> Moment {
        *datagram
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

    fn moment(&self, datagram: &Moment) -> Moment {
        Moment::of_arrival(self.at, datagram.settling)
    }

    #[inline]
    fn came(&self, _: &Moment) -> Timestamp {
        self.at
    }
}

/// Packets of one PID, judged as one.
struct Run {
    /// The PID's place.
    pid: usize,
    /// How many there are, one at least.
    count: usize,
    /// The content of null packets is never compared.
    null: bool,
}

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
        self.packets(moment, packets, content);
    }

    /// Judges packets that follow each other.
    #[inline]
    pub(super) fn packets<P: AtHand>(&mut self, moment: &Moment, mut packets: &[P], content: Content) {
        // The packet that a PID's last run ended with, until its content is hashed.
        let mut unhashed: Option<(usize, &P)> = None;
        while let Some(first) = packets.first() {
            let Some(run) = self.run(moment, packets) else {
                self.remember(unhashed.take(), content);
                self.single(moment, first, content);
                packets = packets.get(1..).unwrap_or_default();
                continue;
            };
            let (of_run, rest) = packets.split_at_checked(run.count).unwrap_or((packets, &[]));
            packets = rest;
            if let Some(last) = of_run.last().filter(|_| !run.null) {
                // Where the same PID goes on, nothing is compared with what it goes on from.
                let other = unhashed.replace((run.pid, last)).filter(|(pid, _)| *pid != run.pid);
                self.remember(other, content);
            }
        }
        self.remember(unhashed, content);
    }

    /// Judges the run that packets begin with; `None` where the first of them is more than plain.
    #[inline]
    fn run<P: AtHand>(&mut self, moment: &Moment, packets: &[P]) -> Option<Run> {
        let (first, next) = packets.split_first()?;
        let mut last = Header::of(first.bytes());
        if !last.is_plain() {
            return None;
        }
        let null = last.is_null();
        let pid = self.continuity.goes_on(last)?;
        let mut length = |until: Timestamp| {
            let (mut came, mut count) = (first.came(moment), 1);
            if came >= until {
                return None;
            }
            for packet in next {
                let (header, at) = (Header::of(packet.bytes()), packet.came(moment));
                if !last.is_followed_by(header) || P::TIMED && at >= until {
                    break;
                }
                (last, came, count) = (header, at, count + 1);
            }
            Some((count, came))
        };
        let (count, came) = match self.analysis.analyser_mut() {
            Some(analyser) => analyser.count_run(pid, length)?,
            None => length(Timestamp::from_nanos(u64::MAX))?,
        };
        let milliseconds = match P::TIMED {
            true => continuity::milliseconds(came),
            false => moment.milliseconds,
        };
        self.continuity.take_run(pid, last, count, milliseconds);
        self.ts.packets += count;
        let count = count as usize;
        Some(Run { pid, count, null })
    }

    /// Hashes the content of a PID's last packet.
    #[inline]
    fn remember<P: AtHand>(&mut self, last: Option<(usize, &P)>, content: Content) {
        if let Some((pid, packet)) = last {
            let digest = mpegts::digest_packet(packet.bytes(), content);
            self.continuity.remember(pid, digest.hash);
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
