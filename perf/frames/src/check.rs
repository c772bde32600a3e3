//! Comparing the headers of a frame that came back with those that it should have.

use crate::layout::{HEAD_WORDS, SRT_MEDIA};
use crate::plan::{Plan, SRT};

/// What of a frame came back wrong. Numbers are indices of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Part {
    /// The frame is longer or shorter.
    Length = 0,
    /// Ethernet: addresses not swapped, or another type.
    Ethernet = 1,
    /// Outer IPv4: addresses not swapped, or another header; a TTL of 64 is expected.
    OuterIp = 2,
    /// Outer UDP: the ports are kept as they were.
    OuterUdp = 3,
    /// GENEVE: header, endpoint id, attachment id or cookie.
    Geneve = 4,
    /// Inner IPv4 and UDP.
    Inner = 5,
    /// The RTP or SRT header: sequence number, time, identity.
    Transport = 6,
    /// A TS packet's first four bytes: sync byte, PID, continuity counter.
    Ts = 7,
    /// The media's hash.
    Media = 8,
    /// The marker names no stream of the load.
    Marker = 9,
}

/// Parts that are told apart.
pub const PARTS: usize = 10;

impl Part {
    /// All parts in the order of their numbers.
    pub const ALL: [Part; PARTS] = [
        Part::Length,
        Part::Ethernet,
        Part::OuterIp,
        Part::OuterUdp,
        Part::Geneve,
        Part::Inner,
        Part::Transport,
        Part::Ts,
        Part::Media,
        Part::Marker,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Part::Length => "length",
            Part::Ethernet => "ethernet",
            Part::OuterIp => "outer-ip",
            Part::OuterUdp => "outer-udp",
            Part::Geneve => "geneve",
            Part::Inner => "inner",
            Part::Transport => "transport",
            Part::Ts => "ts",
            Part::Media => "media",
            Part::Marker => "marker",
        }
    }
}

/// The bytes from `first` to `end` within word `index` as a mask.
const fn mask(index: usize, first: usize, end: usize) -> u64 {
    let mut mask = 0;
    let mut byte = 0;
    while byte < 8 {
        let at = index * 8 + byte;
        if at >= first && at < end {
            mask |= 0xff << (byte * 8);
        }
        byte += 1;
    }
    mask
}

/// 1 if any bit is set, else 0, without a branch: the verifier would follow both ways of each.
#[inline(always)]
pub fn any_bit(bits: u64) -> u32 {
    let bits = bits | bits >> 32;
    let bits = bits | bits >> 16;
    let bits = bits | bits >> 8;
    let bits = bits | bits >> 4;
    let bits = bits | bits >> 2;
    ((bits | bits >> 1) & 1) as u32
}

/// All differences between bytes `first` and `end`, in one word.
#[inline(always)]
fn within(difference: &[u64; HEAD_WORDS], first: usize, end: usize) -> u64 {
    let mut sum = 0;
    let mut index = 0;
    while index < HEAD_WORDS {
        sum |= difference[index] & mask(index, first, end);
        index += 1;
    }
    sum
}

/// The headers' parts that differ, as bits by [`Part`]'s number. Leaves the differences in `found`: a second copy of the headers
/// has no room on a BPF program's stack.
#[inline(always)]
pub fn compare(plan: &Plan, expected: &[u64; HEAD_WORDS], found: &mut [u64; HEAD_WORDS]) -> u32 {
    // RTP's header is 4 bytes shorter; what follows is media.
    let end = if plan.protocol == SRT {
        mask(HEAD_WORDS - 1, 0, SRT_MEDIA)
    } else {
        mask(HEAD_WORDS - 1, 0, SRT_MEDIA - 4)
    };
    let mut any = 0;
    let mut index = 0;
    while index < HEAD_WORDS {
        found[index] ^= expected[index];
        if index == HEAD_WORDS - 1 {
            found[index] &= end;
        }
        any |= found[index];
        index += 1;
    }
    if any == 0 {
        return 0;
    }
    let bit = |part: Part, first: usize, end: usize| any_bit(within(found, first, end)) << part as usize;
    bit(Part::Ethernet, 0, 14)
        | bit(Part::OuterIp, 14, 34)
        | bit(Part::OuterUdp, 34, 42)
        | bit(Part::Geneve, 42, 82)
        | bit(Part::Inner, 82, 110)
        | bit(Part::Transport, 110, SRT_MEDIA)
}
