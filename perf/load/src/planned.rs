//! A load worked out: the plan, the group and the template that generators and collector are given.

use tidegate_frames::layout::{
    GENEVE, HEAD, HEAD_WORDS, INNER_IP, INNER_UDP, MARKER, Marker, OPTIONS, OUTER_IP, OUTER_UDP, TRANSPORT, TS_PACKET,
    TS_WORDS, UNCHECKED, UNLISTED,
};
use tidegate_frames::mux::{
    self, AUDIO_PTS_AT, AUDIO_START, Datagram, ORDINARY, PCR_AT, SPECIALS, VIDEO_PTS_AT, VIDEO_START,
};
use tidegate_frames::plan::{RTP, SRT};
use tidegate_frames::{Plan, Stream, head};

use crate::error::Result;
use crate::load::{Lane, Load, Protocol, Rate, Unlisted};
use crate::multiplex::{self, Timing};

/// Datagrams of a stream's second where there are none: 20.3 Mbit/s at 7 TS packets, a contribution feed.
const STREAM_RATE: f64 = 13_500.0 / 7.0;
/// Datagrams a second of all streams, flat out: about what an appliance forwards then.
const FLAT_OUT: f64 = 500_000.0;
/// Bits of the prefix that unlisted sources have in common.
const UNLISTED_PREFIX: u32 = 12;
/// The option class of the load balancer (AWS) in GENEVE.
const OPTION_CLASS: [u8; 2] = [0x01, 0x08];
/// Attachment id; nothing depends on it.
const ATTACHMENT: u64 = 0x1112_1314_1516_1718;

/// A load worked out for a lane.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) group: Vec<Datagram>,
    pub(crate) specials: [[u64; TS_WORDS]; SPECIALS as usize],
    /// A whole frame; its media is noise.
    pub(crate) template: Vec<u8>,
}

impl Planned {
    /// Works it out.
    ///
    /// # Errors
    /// [`crate::Error::Load`].
    pub(crate) fn new(lane: &Lane, load: &Load) -> Result<Planned> {
        load.validate()?;
        let timing = Timing::new(load.ts_packets, stream_rate(load));
        let datagram_ticks = u64::from(timing.ticks) * u64::from(timing.packets);
        // 27 MHz is 300 times RTP's clock and 27 times SRT's.
        let (protocol, divisor) = match load.protocol {
            Protocol::RtpTs => (RTP, 300),
            Protocol::SrtTs => (SRT, 27),
        };
        let mut plan = Plan {
            stamp_step: (datagram_ticks << 32) / divisor,
            source: load.source.to_bits(),
            unlisted: load.unlisted_source.to_bits() & (u32::MAX << (32 - UNLISTED_PREFIX)),
            unlisted_bits: 32 - UNLISTED_PREFIX,
            streams: load.streams,
            group: timing.group,
            packets: timing.packets,
            ticks: timing.ticks,
            protocol,
            whole: u32::from(load.whole),
            first: load.from.round,
            // In the middle of a round, streams do not begin with the same number.
            from_start: u32::from(load.from.stream == 0),
            ..Plan::default()
        };
        let noise = noise(plan.frame_len());
        let mut template = noise.clone();
        let headers = headers(lane, load, plan.frame_len());
        template[..TRANSPORT + 2].copy_from_slice(&headers);
        let mut bytes = [0; HEAD];
        bytes[..headers.len()].copy_from_slice(&headers);
        plan.head = head_words(&bytes);
        plan.inner_sum = sum16(&headers[INNER_IP..INNER_UDP]);
        Ok(Planned {
            plan,
            group: timing.group(),
            specials: multiplex::specials(&noise),
            template,
        })
    }

    /// The plan for whoever checks what comes back: addresses swapped.
    pub(crate) fn returned(&self) -> Plan {
        let mut bytes = [0; HEAD];
        for (to, word) in bytes.chunks_mut(8).zip(self.plan.head) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        let (first, rest) = bytes.split_at_mut(6);
        first.swap_with_slice(&mut rest[..6]);
        let (source, destination) = bytes[OUTER_IP + 12..].split_at_mut(4);
        source.swap_with_slice(&mut destination[..4]);
        Plan {
            head: head_words(&bytes),
            ..self.plan
        }
    }

    /// Writes the frame of a stream's datagram over `frame`, as the kernel's generator does; `listed` is false for the flood. A
    /// shorter buffer is left half written.
    pub(crate) fn write(&self, frame: &mut [u8], listed: bool, index: u32, number: u32, time: u64) {
        let plan = &self.plan;
        let (stream, marked) = if listed {
            (Stream::listed(plan, index), index)
        } else {
            (Stream::unlisted(plan, index), index | UNLISTED)
        };
        let (place, group) = mux::place(plan, number);
        let Some(datagram) = self.group.get(place as usize) else {
            return;
        };
        let media = plan.media();
        put_words(frame, 0, &head::build(plan, &stream, number), media);
        if datagram.kind != ORDINARY {
            self.special(frame, media, datagram.kind, mux::time(plan, number));
        }
        for (index, header) in datagram.headers.iter().take(plan.packets as usize).enumerate() {
            put(
                frame,
                media + index * TS_PACKET,
                &mux::header(*header, group).to_be_bytes(),
            );
        }
        let check = if plan.whole != 0 { self.hash(frame) } else { UNCHECKED };
        let marker = Marker {
            time,
            stream: marked,
            number,
            check,
        };
        put(frame, plan.frame_len() - MARKER, &marker_bytes(&marker));
    }

    fn special(&self, frame: &mut [u8], media: usize, kind: u32, time: u64) {
        let Some(words) = self.specials.get(kind as usize - 1) else {
            return;
        };
        put_words(frame, media, words, TS_PACKET);
        let mut stamp = |at: usize, halves: [u16; 3]| {
            for (index, half) in halves.into_iter().enumerate() {
                put(frame, media + at + 2 * index, &half.to_be_bytes());
            }
        };
        match kind {
            VIDEO_START => {
                stamp(PCR_AT, mux::pcr(time));
                stamp(VIDEO_PTS_AT, mux::pts(time));
            }
            AUDIO_START => stamp(AUDIO_PTS_AT, mux::pts(time)),
            _ => {}
        }
    }

    fn hash(&self, frame: &[u8]) -> u64 {
        let media = frame
            .get(self.plan.media()..self.plan.frame_len() - MARKER)
            .unwrap_or_default();
        media
            .chunks(TS_PACKET)
            .fold(tidegate_frames::layout::HASH_SEED, |hash, packet| {
                let mut words = [0u64; TS_WORDS];
                for (word, bytes) in words.iter_mut().zip(packet.chunks(8)) {
                    let mut whole = [0; 8];
                    whole[..bytes.len()].copy_from_slice(bytes);
                    *word = u64::from_ne_bytes(whole);
                }
                tidegate_frames::layout::hash_packet(hash, &words)
            })
    }
}

/// Datagrams of a stream's second.
fn stream_rate(load: &Load) -> f64 {
    let listed = match load.unlisted {
        Unlisted::None => 1.0,
        Unlisted::Alone => return STREAM_RATE,
        Unlisted::Beside { per_listed } => 1.0 / (1.0 + f64::from(per_listed)),
    };
    match (load.stream_rate, load.rate) {
        (Some(rate), _) => rate,
        (None, Rate::PacketsPerSecond(rate)) => rate * listed / f64::from(load.streams),
        (None, Rate::FlatOut) => FLAT_OUT * listed / f64::from(load.streams),
    }
}

/// All headers up to RTP's first two bytes, with zeroes where streams differ.
fn headers(lane: &Lane, load: &Load, frame_len: usize) -> [u8; TRANSPORT + 2] {
    let mut bytes = [0; TRANSPORT + 2];
    let length = |from: usize| ((frame_len - from) as u16).to_be_bytes();
    put(&mut bytes, 0, &lane.peer_mac);
    put(&mut bytes, 6, &lane.local_mac);
    put(&mut bytes, 12, &[0x08, 0x00]);
    ipv4(&mut bytes, OUTER_IP, length(OUTER_IP));
    put(&mut bytes, OUTER_IP + 12, &lane.local_ip.octets());
    put(&mut bytes, OUTER_IP + 16, &lane.peer_ip.octets());
    let checksum = !(sum16(&bytes[OUTER_IP..OUTER_UDP]) as u16);
    put(&mut bytes, OUTER_IP + 10, &checksum.to_be_bytes());
    put(&mut bytes, OUTER_UDP + 2, &6081u16.to_be_bytes());
    put(&mut bytes, OUTER_UDP + 4, &length(OUTER_UDP));
    // Eight words of options; the inner packet is IPv4.
    put(&mut bytes, GENEVE, &[0x08, 0, 0x08, 0x00, 0, 0, 0, 0]);
    for (at, kind, words) in [(OPTIONS, 1, 2), (OPTIONS + 12, 2, 2), (OPTIONS + 24, 3, 1)] {
        put(&mut bytes, at, &[OPTION_CLASS[0], OPTION_CLASS[1], kind, words]);
    }
    put(&mut bytes, OPTIONS + 4, &load.endpoint.to_be_bytes());
    put(&mut bytes, OPTIONS + 16, &ATTACHMENT.to_be_bytes());
    ipv4(&mut bytes, INNER_IP, length(INNER_IP));
    put(&mut bytes, INNER_IP + 16, &load.destination.octets());
    put(&mut bytes, INNER_UDP, &load.port.to_be_bytes());
    put(&mut bytes, INNER_UDP + 2, &load.port.to_be_bytes());
    put(&mut bytes, INNER_UDP + 4, &length(INNER_UDP));
    if load.protocol == Protocol::RtpTs {
        // Version 2; payload type 33.
        put(&mut bytes, TRANSPORT, &[0x80, 33]);
    }
    bytes
}

/// An IPv4 header with DF, TTL 64 and UDP inside; addresses and checksum are yet to come.
fn ipv4(bytes: &mut [u8], at: usize, length: [u8; 2]) {
    put(bytes, at, &[0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 17]);
}

/// The one's complement sum of a header (RFC 1071).
fn sum16(bytes: &[u8]) -> u32 {
    let sum = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum::<u32>();
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff)
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn put_words(frame: &mut [u8], at: usize, words: &[u64], length: usize) {
    for (index, word) in words.iter().enumerate() {
        let bytes = word.to_ne_bytes();
        let rest = length.saturating_sub(index * 8).min(8);
        put(frame, at + index * 8, bytes.get(..rest).unwrap_or_default());
    }
}

fn head_words(bytes: &[u8; HEAD]) -> [u64; HEAD_WORDS] {
    let mut words = [0; HEAD_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

fn marker_bytes(marker: &Marker) -> [u8; MARKER] {
    let mut bytes = [0; MARKER];
    put(&mut bytes, 0, &marker.time.to_ne_bytes());
    put(&mut bytes, 8, &marker.stream.to_ne_bytes());
    put(&mut bytes, 12, &marker.number.to_ne_bytes());
    put(&mut bytes, 16, &marker.check.to_ne_bytes());
    bytes
}

/// Bytes without a pattern, as compressed media has.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
