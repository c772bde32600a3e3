//! The headers of one frame, from Ethernet to RTP or SRT, as words that go to and come from the packet in one piece.

use crate::layout::{COOKIE, HEAD_WORDS, INNER_CHECKSUM, INNER_SOURCE, OUTER_UDP, TRANSPORT};
use crate::plan::{Plan, SRT};
use crate::stream::Stream;

/// `PP` = 11: a packet that is a whole message.
const SRT_SOLO: u16 = 0xc000;
/// Message numbers have 26 bits.
const SRT_MESSAGES: u32 = 0x03ff_ffff;
/// Sequence numbers have 31 bits.
const SRT_SEQUENCE: u32 = 0x7fff_ffff;

/// Writes a big-endian half-word at an even offset below 128.
#[inline(always)]
pub fn put16(head: &mut [u64; HEAD_WORDS], offset: usize, value: u16) {
    let shift = (offset % 8) * 8;
    if let Some(word) = head.get_mut(offset / 8) {
        *word = *word & !(0xffff << shift) | u64::from(value.swap_bytes()) << shift;
    }
}

/// Writes a big-endian word at an even offset.
#[inline(always)]
pub fn put32(head: &mut [u64; HEAD_WORDS], offset: usize, value: u32) {
    put16(head, offset, (value >> 16) as u16);
    put16(head, offset + 2, value as u16);
}

/// The headers of a stream's datagram. The bytes behind [`Plan::media`] mean nothing.
#[inline(always)]
pub fn build(plan: &Plan, stream: &Stream, number: u32) -> [u64; HEAD_WORDS] {
    let mut head = plan.head;
    put16(&mut head, OUTER_UDP, stream.entropy);
    put32(&mut head, COOKIE, stream.cookie);
    put16(&mut head, INNER_CHECKSUM, checksum(plan.inner_sum, stream.source));
    put32(&mut head, INNER_SOURCE, stream.source);
    let stamp = (number as u64).wrapping_mul(plan.stamp_step) >> 32;
    if plan.protocol == SRT {
        put32(&mut head, TRANSPORT, number & SRT_SEQUENCE);
        // Message numbers count from 1.
        let message = number.wrapping_add(1) & SRT_MESSAGES;
        put16(&mut head, TRANSPORT + 4, SRT_SOLO | (message >> 16) as u16);
        put16(&mut head, TRANSPORT + 6, message as u16);
        put32(&mut head, TRANSPORT + 8, stamp as u32);
        put32(&mut head, TRANSPORT + 12, stream.identity);
    } else {
        put16(&mut head, TRANSPORT + 2, number as u16);
        put32(&mut head, TRANSPORT + 4, stamp as u32);
        put32(&mut head, TRANSPORT + 8, stream.identity);
    }
    head
}

/// The inner IPv4 header's checksum (RFC 1071) from the sum of all that is the same in every frame.
#[inline(always)]
fn checksum(sum: u32, source: u32) -> u16 {
    let sum = sum.wrapping_add(source >> 16).wrapping_add(source & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}
