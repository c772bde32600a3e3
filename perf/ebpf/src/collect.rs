//! Checking what comes back: each frame against what it should be, each stream against its running numbers, and how long
//! the frame was away.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use tidegate_frames::check::{self, Part};
use tidegate_frames::head;
use tidegate_frames::layout::{
    HEAD_WORDS, MARKER, Marker, OUTER_IP, OUTER_UDP, RTP_MEDIA, SRT_MEDIA, TS_PACKET, UNCHECKED,
    UNLISTED,
};
use tidegate_frames::maps::{BUCKETS, Tally, bucket};
use tidegate_frames::mux::{self, Datagram};
use tidegate_frames::plan::{MAX_STREAMS, SRT};
use tidegate_frames::sequence::{Sequence, Step};
use tidegate_frames::{Plan, Stream};

use crate::media;
use crate::packet::{Packet, exclusive, now, shared};
use crate::{GROUP, PLAN};

#[map]
static TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);
#[map]
static STREAMS: Array<Sequence> = Array::with_max_entries(MAX_STREAMS, 0);

/// EtherType of IPv4.
const IPV4: u16 = 0x0800;
/// IP protocol number of UDP.
const UDP: u16 = 17;
/// Destination port of GENEVE (RFC 8926 3.3).
const GENEVE_PORT: u16 = 6081;

/// What became of a frame.
pub enum Collected {
    /// It was one of GENEVE and is counted.
    Taken,
    /// It is none of this program's business.
    NotOurs,
}

/// Counts and checks a frame.
#[inline(always)]
pub fn take(ctx: &XdpContext) -> Collected {
    let packet = Packet::new(ctx);
    let (Some(tally), Some(plan)) = (exclusive(TALLY.get_ptr_mut(0)), shared(PLAN.get_ptr(0))) else {
        return Collected::NotOurs;
    };
    if !is_geneve(&packet) {
        tally.passed += 1;
        return Collected::NotOurs;
    }
    let length = packet.len();
    tally.packets += 1;
    tally.bytes += length as u64;
    let wrong = if length != plan.frame_len() {
        1 << Part::Length as u32
    } else {
        marked(&packet, plan, tally)
    };
    if wrong != 0 {
        blame(tally, wrong);
    }
    Collected::Taken
}

#[inline(always)]
fn is_geneve(packet: &Packet<'_>) -> bool {
    packet.get16(12) == Some(IPV4)
        && packet.get16(OUTER_IP + 8).is_some_and(|word| word & 0xff == UDP)
        && packet.get16(OUTER_UDP + 2) == Some(GENEVE_PORT)
}

/// Counts every part that is wrong, and the frame once.
#[inline(always)]
fn blame(tally: &mut Tally, wrong: u32) {
    tally.altered += 1;
    for (part, count) in tally.parts.iter_mut().enumerate() {
        *count += u64::from(wrong >> part & 1);
    }
}

/// Reads the marker and, where it names a stream of the load, checks the frame. Returns the parts that are wrong.
#[inline(always)]
fn marked(packet: &Packet<'_>, plan: &Plan, tally: &mut Tally) -> u32 {
    let mut marker = Marker::default();
    if !packet.load(plan.frame_len().wrapping_sub(MARKER), &mut marker, MARKER) {
        return 1 << Part::Length as u32;
    }
    if plan.whole == 0 && marker.check != UNCHECKED {
        return 1 << Part::Marker as u32;
    }
    if marker.stream & UNLISTED != 0 {
        tally.unlisted += 1;
        return checked(packet, plan, &Stream::unlisted(plan, marker.number), &marker);
    }
    if marker.stream >= plan.streams {
        return 1 << Part::Marker as u32;
    }
    let Some(sequence) = exclusive(STREAMS.get_ptr_mut(marker.stream)) else {
        return 1 << Part::Marker as u32;
    };
    tally.listed += 1;
    let away = now().wrapping_sub(marker.time);
    let stream = Stream::listed(plan, marker.stream);
    let wrong = checked(packet, plan, &stream, &marker);
    let bucket = bucket(away);
    if bucket < BUCKETS {
        tally.latency[bucket] += 1;
    }
    // Last, for the verifier would follow each of its ways through all that comes after it.
    follow(plan, &stream, marker.number, sequence, tally);
    wrong
}

/// Counts what the running number tells.
#[inline(always)]
fn follow(plan: &Plan, stream: &Stream, number: u32, sequence: &mut Sequence, tally: &mut Tally) {
    let first = (plan.from_start != 0).then_some(plan.first.wrapping_add(stream.phase));
    match sequence.take(number, first) {
        Step::Forward(missing) => tally.missing += u64::from(missing),
        Step::Late => tally.late += 1,
        Step::Ancient => tally.ancient += 1,
        Step::Again => tally.duplicated += 1,
    }
}

/// The parts of a frame that are not what they were.
#[inline(always)]
fn checked(packet: &Packet<'_>, plan: &Plan, stream: &Stream, marker: &Marker) -> u32 {
    let mut found = [0u64; HEAD_WORDS];
    let at = if plan.protocol == SRT { SRT_MEDIA } else { RTP_MEDIA };
    if !packet.load(0, &mut found, at) {
        return 1 << Part::Length as u32;
    }
    let mut wrong = check::compare(plan, &head::build(plan, stream, marker.number), &mut found);
    let (place, group) = mux::place(plan, marker.number);
    let Some(datagram) = shared(GROUP.get_ptr(place)) else {
        return wrong;
    };
    let packets = plan.packets as usize;
    let different = if plan.protocol == SRT {
        different::<SRT_MEDIA>(packet, datagram, packets, group)
    } else {
        different::<RTP_MEDIA>(packet, datagram, packets, group)
    };
    let Some(different) = different else {
        return 1 << Part::Length as u32;
    };
    wrong |= check::any_bit(u64::from(different)) << Part::Ts as u32;
    if plan.whole != 0 {
        let Some(hash) = media::hash(packet, at, packets) else {
            return 1 << Part::Length as u32;
        };
        wrong |= check::any_bit(hash ^ marker.check) << Part::Media as u32;
    }
    wrong
}

/// All bits in which the TS packets' headers differ from what they were. Written out: of a loop the compiler makes comparisons
/// with the packet's end that the verifier does not understand.
#[inline(always)]
fn different<const MEDIA: usize>(
    packet: &Packet<'_>,
    datagram: &Datagram,
    packets: usize,
    group: u32,
) -> Option<u32> {
    let of = |index: usize| {
        let at = MEDIA + index * TS_PACKET;
        let (high, low) = (packet.get16(at)?, packet.get16(at + 2)?);
        Some(mux::header(datagram.headers[index], group) ^ (u32::from(high) << 16 | u32::from(low)))
    };
    let mut bits = of(0)?;
    if packets > 1 {
        bits |= of(1)?;
    }
    if packets > 2 {
        bits |= of(2)?;
    }
    if packets > 3 {
        bits |= of(3)?;
    }
    if packets > 4 {
        bits |= of(4)?;
    }
    if packets > 5 {
        bits |= of(5)?;
    }
    if packets > 6 {
        bits |= of(6)?;
    }
    Some(bits)
}
