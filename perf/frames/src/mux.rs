//! How the multiplex goes on: a group of datagrams that repeats itself for ever.
//!
//! In a group every PID has one packet more than a multiple of 16, so that continuity counters (ISO/IEC 13818-1 2.4.3.3) of a
//! group are those of the first one plus the group's number: one table of a group's datagrams does for the endless stream.

use crate::layout::MAX_TS_PACKETS;
use crate::plan::Plan;

/// Nothing but payload: headers are all there is to write.
pub const ORDINARY: u32 = 0;
/// The datagram's first TS packet is the programme association table.
pub const PAT: u32 = 1;
/// It is the programme map table.
pub const PMT: u32 = 2;
/// It is video's start of a PES packet, with PCR and PTS.
pub const VIDEO_START: u32 = 3;
/// It is audio's start of a PES packet, with PTS.
pub const AUDIO_START: u32 = 4;
/// Kinds that are written whole, [`PAT`] first.
pub const SPECIALS: u32 = 4;

/// In a [`VIDEO_START`] packet: the PCR's six bytes (2.4.3.5); even, as all that is written by half-words.
pub const PCR_AT: usize = 6;
/// In a [`VIDEO_START`] packet: the PTS's five bytes (2.4.3.7).
pub const VIDEO_PTS_AT: usize = 22;
/// In an [`AUDIO_START`] packet: the PTS's five bytes.
pub const AUDIO_PTS_AT: usize = 14;
/// Presentation comes so long after transmission, in periods of 90 kHz: half a second.
pub const DELAY: u64 = 45_000;

/// One datagram of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Datagram {
    /// The TS packets' first four bytes, big-endian, with the continuity counters of group 0.
    pub headers: [u32; MAX_TS_PACKETS],
    /// What the first TS packet is: [`ORDINARY`] to [`AUDIO_START`].
    pub kind: u32,
}

/// A TS packet's first four bytes in the group of that number.
#[inline(always)]
pub fn header(of_first_group: u32, group: u32) -> u32 {
    (of_first_group & !0x0f) | (of_first_group.wrapping_add(group) & 0x0f)
}

/// Place in its group and number of the group, of the datagram of a running number.
#[inline(always)]
pub fn place(plan: &Plan, number: u32) -> (u32, u32) {
    let group = if plan.group == 0 { 1 } else { plan.group };
    (number % group, number / group)
}

/// Stream time at which a datagram begins, in periods of 27 MHz.
#[inline(always)]
pub fn time(plan: &Plan, number: u32) -> u64 {
    (number as u64)
        .wrapping_mul(plan.packets as u64)
        .wrapping_mul(plan.ticks as u64)
}

/// A PCR's six bytes as three half-words.
#[inline(always)]
pub fn pcr(time: u64) -> [u16; 3] {
    let base = (time / 300) & 0x1_ffff_ffff;
    let bits = base << 15 | 0x7e00 | (time % 300);
    [(bits >> 32) as u16, (bits >> 16) as u16, bits as u16]
}

/// A PTS's five bytes (prefix `0010`, as it stands without a DTS) and the byte of payload behind them, as three half-words.
#[inline(always)]
pub fn pts(time: u64) -> [u16; 3] {
    let pts = (time / 300).wrapping_add(DELAY) & 0x1_ffff_ffff;
    let high = 0x21 | (pts >> 30) << 1;
    let middle = (pts >> 15 & 0x7fff) << 1 | 1;
    let low = (pts & 0x7fff) << 1 | 1;
    [
        (high << 8 | middle >> 8) as u16,
        ((middle & 0xff) << 8 | low >> 8) as u16,
        ((low & 0xff) << 8 | 0xff) as u16,
    ]
}
