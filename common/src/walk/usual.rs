//! The one shape in which nearly all packets come: GENEVE as AWS's load balancer sends it, around UDP over IPv4.
//!
//! No VLAN tag, no IPv4 options, no fragments, the three options of the load balancer and no others: every header is where it
//! always is, so one look at the length stands for all that the general walk has to ask on its way. What deviates in a single
//! bit goes the general way, which decides; whatever comes out here the general walk finds too, and tests hold them together.

use core::net::IpAddr;

use super::{Fragment, Outer, Walk};
use crate::cursor::{Cursor, SliceCursor};
use crate::flow::{Address, FlowKey};
use crate::wire::ethernet::Ethernet;
use crate::wire::geneve::{AwsOptions, Geneve};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::protocol;
use crate::wire::udp::Udp;

const OUTER_IP: usize = Ethernet::LEN;
const OUTER_UDP: usize = OUTER_IP + Ipv4::LEN;
const GENEVE: usize = OUTER_UDP + Udp::LEN;
const OPTIONS: usize = GENEVE + Geneve::LEN;
const INNER_IP: usize = OPTIONS + AwsOptions::LEN;
const INNER_UDP: usize = INNER_IP + Ipv4::LEN;
const PAYLOAD: usize = INNER_UDP + Udp::LEN;

/// EtherType IPv4, version 4, a header of five words.
const IPV4_HEADER: u32 = 0x0800_4500;
/// All but the type of service.
const IPV4_HEADER_MASK: u32 = 0xffff_ff00;
/// Not in parts, UDP.
const WHOLE_UDP: u32 = 17;
/// All but the reserved bit, "do not fragment" and the TTL.
const WHOLE_UDP_MASK: u32 = 0x3fff_00ff;
/// GENEVE version 0, eight words of options, neither control nor critical, IPv4 in it.
const GENEVE_HEADER: u32 = 0x0800_0800;
/// All but the reserved bits.
const GENEVE_HEADER_MASK: u32 = 0xffc0_ffff;

/// Walks a frame of the usual shape; `None` for all others, sound or not.
#[inline(always)]
pub(super) fn frame(frame: &[u8], geneve_port: u16) -> Option<Walk> {
    let headers = SliceCursor::new(frame.first_chunk::<PAYLOAD>()?);
    let word = |at: usize| headers.read(at).map(u32::from_be_bytes);
    let ethernet = Ethernet::new(headers.read(0)?);
    let (outer_ip, outer_udp) = (Ipv4::new(headers.read(OUTER_IP)?), Udp::new(headers.read(OUTER_UDP)?));
    let (inner_ip, inner_udp) = (Ipv4::new(headers.read(INNER_IP)?), Udp::new(headers.read(INNER_UDP)?));
    let is_usual = word(OUTER_IP - 2)? & IPV4_HEADER_MASK == IPV4_HEADER
        && word(OUTER_IP + 6)? & WHOLE_UDP_MASK == WHOLE_UDP
        && outer_udp.destination_port() == geneve_port
        && word(GENEVE)? & GENEVE_HEADER_MASK == GENEVE_HEADER
        && inner_ip.version() == 4
        && inner_ip.header_length() == Ipv4::LEN
        && word(INNER_IP + 6)? & WHOLE_UDP_MASK == WHOLE_UDP
        && !ethernet.is_group()
        && ipv4::is_unicast(outer_ip.source())
        && ipv4::is_unicast(outer_ip.destination());
    if !is_usual {
        return None;
    }
    let endpoint = AwsOptions::new(headers.read(OPTIONS)?).endpoint()?;
    // Each length ends within the one around it, and holds the header that it counts.
    let end = OUTER_UDP + usize::from(outer_udp.length());
    let inner_end = INNER_IP + inner_ip.total_length();
    let payload_end = INNER_UDP + usize::from(inner_udp.length());
    let outer_end = OUTER_IP + outer_ip.total_length();
    let fits = PAYLOAD <= payload_end && payload_end <= inner_end && inner_end <= end;
    if !(fits && end <= outer_end && outer_end <= frame.len()) {
        return None;
    }
    let (key, direction) = FlowKey::of(
        Some(endpoint),
        protocol::UDP,
        (Address::new(IpAddr::V4(inner_ip.source())), inner_udp.source_port()),
        (
            Address::new(IpAddr::V4(inner_ip.destination())),
            inner_udp.destination_port(),
        ),
    );
    Some(Walk {
        outer: Some(Outer {
            vlan: None,
            ipv4: OUTER_IP,
            geneve: GENEVE,
            end,
        }),
        key,
        direction,
        has_ports: true,
        inner_offset: INNER_IP,
        inner_length: inner_end - INNER_IP,
        fragment: Fragment::None,
        transport_offset: INNER_UDP,
        payload_offset: PAYLOAD,
        payload_length: payload_end - PAYLOAD,
    })
}
