//! Turning a packet around in place, so that it goes back to the load balancer that sent it.
//!
//! MAC and outer IPv4 addresses change places and the TTL becomes 64; GENEVE, the inner packet and the UDP ports stay as
//! they are. Swapping leaves every checksum valid, the TTL's change is put into the header checksum (RFC 1624). The two
//! transformations work on fixed arrays, so that the XDP program and user space share them.

use crate::walk::{Outer, Walk};
use crate::wire::checksum;
use crate::wire::ethernet::Ethernet;

/// TTL of a returned packet.
pub const TTL: u8 = 64;
/// Bytes of a frame that [`macs`] takes: destination and source address.
pub const MACS: usize = 12;
/// Where in an IPv4 header the bytes begin that [`ipv4`] takes.
pub const IPV4_AT: usize = 8;
/// Bytes that [`ipv4`] takes: TTL, protocol, checksum, source, destination.
pub const IPV4: usize = 12;

/// Bytes of an untagged frame's Ethernet and IPv4 headers.
const UNTAGGED: usize = Ethernet::LEN + IPV4_AT + IPV4;

/// Swaps a frame's destination and source address.
#[inline(always)]
pub const fn macs(addresses: [u8; MACS]) -> [u8; MACS] {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = addresses;
    // In three words, for byte by byte it takes four times as many steps.
    let first = u32::from_le_bytes([d0, d1, d2, d3]);
    let second = u32::from_le_bytes([d4, d5, s0, s1]);
    let third = u32::from_le_bytes([s2, s3, s4, s5]);
    let [s0, s1, s2, s3] = (second >> 16 | third << 16).to_le_bytes();
    let [s4, s5, d0, d1] = (third >> 16 | first << 16).to_le_bytes();
    let [d2, d3, d4, d5] = (first >> 16 | second << 16).to_le_bytes();
    [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5]
}

/// Swaps the addresses in the last twelve bytes of an IPv4 header without options, which begin at [`IPV4_AT`], and sets the
/// TTL, the checksum following. A wrong checksum stays wrong.
#[inline(always)]
pub const fn ipv4(tail: [u8; IPV4]) -> [u8; IPV4] {
    let [ttl, protocol, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = tail;
    // The sum of a checksum is the same in either byte order (RFC 1071 1 (B)).
    let old = u16::from_le_bytes([ttl, protocol]);
    let new = u16::from_le_bytes([TTL, protocol]);
    let [c0, c1] = checksum::updated(u16::from_le_bytes([c0, c1]), old, new).to_le_bytes();
    [TTL, protocol, c0, c1, d0, d1, d2, d3, s0, s1, s2, s3]
}

/// Turns a walked frame around. Returns whether it did: a packet without outer headers, or another and shorter frame than
/// the one that was walked, is left as it is.
#[inline]
pub fn turn_around(frame: &mut [u8], walk: &Walk) -> bool {
    walk.outer.as_ref().is_some_and(|outer| turn_outer_around(frame, outer))
}

/// [`turn_around`] for a frame of which only the outer headers were walked.
#[inline]
pub fn turn_outer_around(frame: &mut [u8], outer: &Outer) -> bool {
    // As nearly always: without a VLAN tag everything is where it always is.
    if outer.ipv4 == Ethernet::LEN
        && let Some(headers) = frame.first_chunk_mut::<UNTAGGED>()
    {
        return turn(headers, Ethernet::LEN);
    }
    turn_tagged(frame, outer.ipv4)
}

#[inline(never)]
fn turn_tagged(frame: &mut [u8], ip: usize) -> bool {
    turn(frame, ip)
}

#[inline(always)]
fn turn(frame: &mut [u8], ip: usize) -> bool {
    let Some((head, rest)) = frame.split_at_mut_checked(ip + IPV4_AT) else {
        return false;
    };
    let (Some(addresses), Some(tail)) = (head.first_chunk_mut::<MACS>(), rest.first_chunk_mut::<IPV4>()) else {
        return false;
    };
    *addresses = macs(*addresses);
    *tail = ipv4(*tail);
    true
}
