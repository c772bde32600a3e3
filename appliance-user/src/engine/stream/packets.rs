//! What a packet does to its stream: it is counted, judged, and ends a silence.

use super::{Cold, PATIENCE, Stream};
use crate::engine::event::StreamChange;
use crate::engine::judge::{FilePacket, Packet};
use crate::engine::media::mpegts::PACKET_SIZE;
use crate::engine::outbox::Outbox;
use crate::engine::time::Timestamp;

impl Stream {
    /// Counts a packet that carries no media to judge.
    #[inline]
    pub(in crate::engine) fn count(&mut self, now: Timestamp, bytes: usize, outbox: &mut Outbox) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.last_seen = now;
        self.announce(now, outbox);
        // Of what no judge follows, every packet is media.
        if self.judge.is_none() {
            self.take_media(now, outbox);
        }
    }

    /// A media packet came that was no copy: whatever silence was before it is over now.
    #[inline]
    fn take_media(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let silent_since = core::mem::replace(&mut self.media.quiet_since, now);
        self.media.last = now;
        if !self.announced || !self.is_media {
            return;
        }
        outbox.saw_media();
        let unseen = core::mem::take(&mut self.unseen);
        let silent = now.nanos().saturating_sub(silent_since.nanos());
        if !unseen && silent >> PATIENCE >= self.patience.into() {
            self.may_have_been_silent(now, silent_since, outbox);
        }
    }

    /// Media comes again, it may be after longer than its rule lets it be silent.
    #[cold]
    fn may_have_been_silent(&mut self, now: Timestamp, since: Timestamp, outbox: &mut Outbox) {
        if now.nanos().saturating_sub(since.nanos()) <= self.silence {
            return;
        }
        let Cold { identity, watch, .. } = &mut *self.cold;
        watch.silent(now, since, &mut |at, change| outbox.tell(at, identity, change));
        self.settle_state();
    }

    /// Takes one packet: its size, and what its transport says of it; what the judge finds moves the state.
    #[inline]
    pub(in crate::engine) fn offer(&mut self, now: Timestamp, bytes: usize, packet: &Packet<'_>, outbox: &mut Outbox) {
        self.ts_visible |= !packet.ts.is_empty();
        self.count(now, bytes, outbox);
        if self.unseen {
            self.see_again(now, packet.sequence, outbox);
        }
        let Some(judge) = &mut self.judge else { return };
        let usual = judge.take(now, packet);
        if !usual || judge.has_to_tell() {
            return self.offer_unusual(now, packet, usual, outbox);
        }
        self.take_media(now, outbox);
    }

    /// The judge has something to tell, or the packet was not the usual one and was not taken yet.
    #[inline(never)]
    fn offer_unusual(&mut self, now: Timestamp, packet: &Packet<'_>, taken: bool, outbox: &mut Outbox) {
        let fresh = self.with_judge(outbox, |judge, verdicts| {
            if taken {
                judge.tell(now, verdicts);
                true
            } else {
                judge.offer(now, packet, verdicts)
            }
        });
        // A frozen sender that repeats itself is as silent as a dead one.
        if fresh == Some(true) {
            self.take_media(now, outbox);
        }
    }

    /// Takes the next packets of a file.
    pub(in crate::engine) fn offer_file(&mut self, mut packets: &[FilePacket<'_>], outbox: &mut Outbox) {
        // Its second packet announces a stream, at that packet's time.
        while !self.announced
            && let Some((first, rest)) = packets.split_first()
        {
            self.take_file(core::slice::from_ref(first), first.at, outbox);
            packets = rest;
        }
        if let Some(last) = packets.last() {
            self.take_file(packets, last.at, outbox);
        }
    }

    fn take_file(&mut self, packets: &[FilePacket<'_>], now: Timestamp, outbox: &mut Outbox) {
        self.ts_visible = true;
        self.packets += packets.len() as u64;
        self.bytes += (packets.len() * PACKET_SIZE) as u64;
        self.last_seen = now;
        self.announce(now, outbox);
        self.take_media(now, outbox);
        self.with_judge(outbox, |judge, verdicts| judge.offer_file(packets, verdicts));
    }

    #[inline]
    fn announce(&mut self, now: Timestamp, outbox: &mut Outbox) {
        if !self.announced {
            self.announce_second(now, outbox);
        }
    }

    #[cold]
    fn announce_second(&mut self, now: Timestamp, outbox: &mut Outbox) {
        // RFC 3550 A.1: a source is not believed on its first packet.
        if self.packets >= 2 {
            self.announced = true;
            outbox.tell(now, &self.cold.identity, StreamChange::StreamAppeared);
        }
    }
}
