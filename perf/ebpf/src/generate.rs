//! Making frames. A page of the test run's pool comes back with the bytes of some earlier frame, turned around by whoever
//! returned it: all headers are therefore written anew, and of the media the TS packets' headers and what moves.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;
use tidegate_frames::head;
use tidegate_frames::layout::{
    MARKER, Marker, RTP_MEDIA, SRT_MEDIA, TS_PACKET, TS_WORDS, UNCHECKED,
};
use tidegate_frames::maps::{Control, Progress};
use tidegate_frames::mux::{self, AUDIO_PTS_AT, AUDIO_START, Datagram, ORDINARY, PCR_AT, SPECIALS, VIDEO_PTS_AT, VIDEO_START};
use tidegate_frames::pace;
use tidegate_frames::plan::SRT;
use tidegate_frames::{Plan, Stream};

use crate::media;
use crate::packet::{Packet, exclusive, now, shared};
use crate::{GROUP, PLAN};

#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, 0);
#[map]
static PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);
/// Words, so that the hash can read them; a packet's 188 bytes and four that are not sent.
#[map]
static WHOLE_PACKETS: Array<[u64; TS_WORDS]> = Array::with_max_entries(SPECIALS, 0);

/// Writes the next frame over the packet, if one is due.
#[inline(always)]
pub fn next(ctx: &XdpContext) -> Option<()> {
    let control = shared(CONTROL.get_ptr(0))?;
    let progress = exclusive(PROGRESS.get_ptr_mut(0))?;
    let plan = shared(PLAN.get_ptr(0))?;
    let time = now();
    if !pace::due(control, progress, time) {
        return None;
    }
    let turn = pace::turn(plan, control, progress);
    let packet = Packet::new(ctx);
    let marker = Marker {
        time,
        stream: turn.marked,
        number: turn.number,
        check: UNCHECKED,
    };
    let written = if plan.protocol == SRT {
        write::<SRT_MEDIA>(&packet, plan, &turn.stream, marker)
    } else {
        write::<RTP_MEDIA>(&packet, plan, &turn.stream, marker)
    };
    // The template has the plan's size, so this cannot fail; were it to, the marker's number would be seen missing.
    written.then_some(())
}

/// Writes the frame; `MEDIA` is where its first TS packet is. Returns whether all of it was in the packet.
#[inline(always)]
fn write<const MEDIA: usize>(packet: &Packet<'_>, plan: &Plan, stream: &Stream, mut marker: Marker) -> bool {
    let number = marker.number;
    let (place, group) = mux::place(plan, number);
    let Some(datagram) = shared(GROUP.get_ptr(place)) else {
        return false;
    };
    let head = head::build(plan, stream, number);
    if !packet.store(0, &head, MEDIA) {
        return false;
    }
    if datagram.kind != ORDINARY && !special::<MEDIA>(packet, plan, datagram, number) {
        return false;
    }
    let packets = plan.packets as usize;
    // Written out: of a loop the compiler makes comparisons with the packet's end that the verifier does not understand.
    let put = |index: usize| {
        let header = mux::header(datagram.headers[index], group);
        let at = MEDIA + index * TS_PACKET;
        packet.put16(at, (header >> 16) as u16) && packet.put16(at + 2, header as u16)
    };
    let first = put(0) && (packets < 2 || put(1)) && (packets < 3 || put(2)) && (packets < 4 || put(3));
    let last = (packets < 5 || put(4)) && (packets < 6 || put(5)) && (packets < 7 || put(6));
    if !(first && last) {
        return false;
    }
    if plan.whole != 0 {
        let Some(hash) = media::hash(packet, MEDIA, packets) else {
            return false;
        };
        marker.check = hash;
    }
    packet.store(plan.frame_len().wrapping_sub(MARKER), &marker, MARKER)
}

/// Writes a first TS packet that is not mere payload, with PCR and PTS of now.
#[inline(always)]
fn special<const MEDIA: usize>(packet: &Packet<'_>, plan: &Plan, datagram: &Datagram, number: u32) -> bool {
    let Some(words) = shared(WHOLE_PACKETS.get_ptr(datagram.kind.wrapping_sub(1))) else {
        return false;
    };
    if !packet.store(MEDIA, words, TS_PACKET) {
        return false;
    }
    let time = mux::time(plan, number);
    match datagram.kind {
        VIDEO_START => {
            put(packet, MEDIA + PCR_AT, mux::pcr(time)) && put(packet, MEDIA + VIDEO_PTS_AT, mux::pts(time))
        }
        AUDIO_START => put(packet, MEDIA + AUDIO_PTS_AT, mux::pts(time)),
        _ => true,
    }
}

#[inline(always)]
fn put(packet: &Packet<'_>, at: usize, [a, b, c]: [u16; 3]) -> bool {
    packet.put16(at, a) && packet.put16(at + 2, b) && packet.put16(at + 4, c)
}

