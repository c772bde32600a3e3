//! The walker's second half: from the inner IP header behind its extension headers to the transport's payload, and into the
//! packet that an ICMP error quotes.

use core::net::SocketAddr;

use super::steps::{plus, within};
use super::{Fragment, Inner, Limits, Outer, Stop, Walk, fragment, inner_of_v4, inner_of_v6};
use crate::cursor::Cursor;
use crate::drop_reason::DropReason;
use crate::flow::{Address, FlowKey, Tuple};
use crate::wire::icmp::Icmp;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{self, Extension, Ipv6};
use crate::wire::protocol;
use crate::wire::tcp::Tcp;
use crate::wire::udp::Udp;

/// The transport behind all extension headers.
pub(super) struct Upper {
    protocol: u8,
    at: usize,
    fragment: Fragment,
}

/// Follows the extension headers of IPv6 to the transport; an IPv4 packet's transport is known already.
#[inline(always)]
pub(super) fn upper<L: Limits, C: Cursor>(cursor: &C, inner: &Inner) -> Result<Upper, Stop> {
    let mut upper = Upper {
        protocol: inner.next_header,
        at: inner.payload,
        fragment: inner.fragment,
    };
    if inner.source.is_ipv4() {
        return Ok(upper);
    }
    for _ in 0..L::EXTENSION_HEADERS {
        if !ipv6::is_extension(upper.protocol) {
            return Ok(upper);
        }
        let header = Extension::new(within(cursor, upper.at, inner.end)?);
        let next = plus(upper.at, header.length(upper.protocol));
        if next > inner.end {
            return Err(Stop::Malformed(DropReason::Truncated));
        }
        if upper.protocol == protocol::FRAGMENT {
            let part = fragment(
                header.fragment_offset(),
                header.more_fragments(),
                header.identification(),
            );
            if part != Fragment::None {
                upper.fragment = part;
            }
        }
        upper.protocol = header.next_header();
        upper.at = cursor.settle(next);
        if matches!(upper.fragment, Fragment::Later { .. }) {
            return Ok(upper);
        }
    }
    if ipv6::is_extension(upper.protocol) {
        Err(Stop::BeyondLimits)
    } else {
        Ok(upper)
    }
}

/// From the inner IP header to the whole result.
#[inline(always)]
pub(super) fn complete<L: Limits, C: Cursor>(
    cursor: &C,
    outer: Option<Outer>,
    endpoint: Option<u64>,
    inner: &Inner,
) -> Result<Walk, Stop> {
    let upper = upper::<L, C>(cursor, inner)?;
    let (ports, payload_offset, payload_length) = transport(cursor, inner, &upper)?;
    let (source_port, destination_port) = ports.unwrap_or_default();
    let (key, direction) = FlowKey::of(
        endpoint,
        upper.protocol,
        (Address::new(inner.source), source_port),
        (Address::new(inner.destination), destination_port),
    );
    Ok(Walk {
        outer,
        key,
        direction,
        inner_offset: inner.offset,
        inner_length: inner.end - inner.offset,
        has_ports: ports.is_some(),
        fragment: upper.fragment,
        transport_offset: upper.at,
        payload_offset,
        payload_length,
    })
}

/// Ports, and where the payload begins and how long it is.
type Transport = (Option<(u16, u16)>, usize, usize);

#[inline(always)]
fn transport<C: Cursor>(cursor: &C, inner: &Inner, upper: &Upper) -> Result<Transport, Stop> {
    let room = inner
        .end
        .checked_sub(upper.at)
        .ok_or(Stop::Malformed(DropReason::Truncated))?;
    match (upper.fragment, upper.protocol) {
        (Fragment::Later { .. }, _) => Ok((None, upper.at, room)),
        (part, protocol::UDP) => {
            let udp = Udp::new(within(cursor, upper.at, inner.end)?);
            let claimed = usize::from(udp.length());
            // A first fragment holds less than its datagram's length; everything else holds all of it.
            let length = if part == Fragment::None { claimed } else { room };
            let payload = length
                .checked_sub(Udp::LEN)
                .filter(|_| length <= room && claimed >= Udp::LEN);
            let payload = payload.ok_or(Stop::Malformed(DropReason::InnerUdpLength))?;
            Ok((
                Some((udp.source_port(), udp.destination_port())),
                plus(upper.at, Udp::LEN),
                payload,
            ))
        }
        (_, protocol::TCP) => {
            let tcp = Tcp::new(within(cursor, upper.at, inner.end)?);
            let header = tcp.header_length();
            let payload = room.checked_sub(header).filter(|_| header >= Tcp::LEN);
            let payload = payload.ok_or(Stop::Malformed(DropReason::InnerTcpHeader))?;
            Ok((
                Some((tcp.source_port(), tcp.destination_port())),
                plus(upper.at, header),
                payload,
            ))
        }
        _ => Ok((None, upper.at, room)),
    }
}

/// The IP header that an ICMP error quotes. The quoted packet is cut short, so its lengths are not judged.
#[inline(always)]
pub(super) fn quoted<C: Cursor>(cursor: &C, is_v6: bool, end: usize, upper: &Upper) -> Option<Inner> {
    if upper.fragment != Fragment::None {
        return None;
    }
    let v4 = match upper.protocol {
        protocol::ICMP if !is_v6 => true,
        protocol::ICMPV6 if is_v6 => false,
        _ => return None,
    };
    let message = Icmp::new(within(cursor, upper.at, end).ok()?);
    let at = plus(upper.at, Icmp::LEN);
    if v4 && message.is_error() {
        let ip = Ipv4::new(within(cursor, at, end).ok()?);
        let sound = ip.version() == 4 && ip.header_length() >= Ipv4::LEN;
        return sound.then(|| inner_of_v4(ip, at, end));
    }
    if !v4 && message.is_v6_error() {
        let ip = Ipv6::new(within(cursor, at, end).ok()?);
        return (ip.version() == 6).then(|| inner_of_v6(ip, at, end));
    }
    None
}

/// The quoted packet's tuple; without ports it names no flow of a transport that has them.
pub(super) fn quoted_tuple<L: Limits, C: Cursor>(cursor: &C, walk: &Walk) -> Option<Tuple> {
    let error = Upper {
        protocol: walk.protocol(),
        at: walk.transport_offset,
        fragment: walk.fragment,
    };
    let end = plus(walk.inner_offset, walk.inner_length);
    let quoted = quoted(cursor, walk.key.is_v6(), end, &error)?;
    let upper = upper::<L, C>(cursor, &quoted).ok()?;
    let with_ports = matches!(upper.protocol, protocol::UDP | protocol::TCP);
    let (source_port, destination_port) = match upper.fragment {
        Fragment::Later { .. } if with_ports => return None,
        _ if with_ports => {
            let [s0, s1, d0, d1] = within(cursor, upper.at, quoted.end).ok()?;
            (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))
        }
        _ => (0, 0),
    };
    Some(Tuple {
        endpoint: walk.tuple().endpoint,
        protocol: upper.protocol,
        source: SocketAddr::new(quoted.source, source_port),
        destination: SocketAddr::new(quoted.destination, destination_port),
    })
}
