//! The one walker from Ethernet to the inner transport payload, for the kernel and for user space.
//!
//! Two ways in over the same steps. [`outer`] and then [`inner`] stop at the inner addresses: that is all the XDP program
//! needs to admit a packet. [`frame_in`] goes on to the transport payload. [`ip_in`] and [`ethernet_in`] start at packets
//! that were never wrapped (captures). Every loop is bounded by a [`Limits`], every read is bounded by the cursor and by the
//! length of the datagram or packet around it, so trailing padding is never taken for content.

mod limits;
mod options;
mod steps;
mod transport;
mod usual;

pub use limits::{KernelLimits, Limits, UserLimits};
pub use options::{Encapsulation, encapsulation};

use core::net::IpAddr;

use self::steps::{bounded, inside, plus, whole, within};
use crate::cursor::{Cursor, SliceCursor};
use crate::drop_reason::DropReason;
use crate::flow::{Direction, FlowKey, Tuple};
use crate::wire::ethernet::{self, Ethernet, VlanTag};
use crate::wire::geneve::Geneve;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::protocol;
use crate::wire::tcp::Tcp;
use crate::wire::udp::Udp;

/// Why a walk ended before its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Not GENEVE to this appliance; the kernel's stack decides.
    NotForUs,
    /// For this appliance, and wrong.
    Malformed(DropReason),
    /// More options or extension headers than the [`Limits`] allow; a larger walker may know.
    BeyondLimits,
}

/// The outer headers of a GENEVE packet to this appliance, all offsets from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// VLAN id of the outermost tag.
    pub vlan: Option<u16>,
    /// The IPv4 header.
    pub ipv4: usize,
    /// The GENEVE header.
    pub geneve: usize,
    /// One past the UDP datagram's last byte, which is inside the frame.
    pub end: usize,
}

/// The inner packet's IP header, extension headers not yet followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where the IP header begins.
    pub offset: usize,
    /// One past the IP packet's last byte, by its own length, which is inside what carries it.
    pub end: usize,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    next_header: u8,
    payload: usize,
    fragment: Fragment,
}

impl Inner {
    /// Whether the packet can be an ICMP error at all, as far as its IP header tells: [`quoted_source`] knows.
    #[inline(always)]
    pub const fn may_quote(&self) -> bool {
        match self.source {
            IpAddr::V4(_) => self.next_header == protocol::ICMP,
            IpAddr::V6(_) => self.next_header == protocol::ICMPV6 || ipv6::is_extension(self.next_header),
        }
    }
}

/// Whether a packet is part of a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    None,
    /// It is the first part and has the transport header.
    First {
        /// Identification (IPv4 16 bits, IPv6 32 bits).
        id: u32,
    },
    /// It is a later part and has no transport header.
    Later {
        /// Identification (IPv4 16 bits, IPv6 32 bits).
        id: u32,
    },
}

/// A packet walked to its transport payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The outer headers; `None` for a packet that was not wrapped.
    pub outer: Option<Outer>,
    /// The packet's flow: GWLB endpoint, addresses, transport and ports. Later fragments and transports without ports have
    /// port 0.
    pub key: FlowKey,
    /// Which way the packet goes in it.
    pub direction: Direction,
    /// Where the inner IP header begins.
    pub inner_offset: usize,
    /// Bytes of the inner IP packet by its own length.
    pub inner_length: usize,
    /// Whether the key's ports are the packet's: it has UDP or TCP, and is no later fragment.
    pub has_ports: bool,
    /// Whether the inner packet is part of a larger one.
    pub fragment: Fragment,
    /// Where the transport's header begins; for a later fragment, where its part begins.
    pub transport_offset: usize,
    /// Where the transport's payload begins; for transports other than UDP and TCP, where the transport begins.
    pub payload_offset: usize,
    /// Bytes of that payload in this packet.
    pub payload_length: usize,
}

impl Walk {
    /// What an ICMP error quotes, in the `packet` that was walked: the tuple of the packet it complains about, under the same
    /// endpoint. `None` for every other packet.
    #[inline]
    pub fn quoted<L: Limits>(&self, packet: &[u8]) -> Option<Tuple> {
        match self.protocol() {
            protocol::ICMP | protocol::ICMPV6 => transport::quoted_tuple::<L, _>(&SliceCursor::new(packet), self),
            _ => None,
        }
    }

    /// Endpoint and inner 5-tuple.
    pub fn tuple(&self) -> Tuple {
        self.key.tuple(self.direction)
    }

    /// Inner transport, behind all extension headers.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        self.key.protocol()
    }

    /// Source and destination port of UDP and TCP; `None` for others and for later fragments.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let tuple = self.tuple();
        self.has_ports.then(|| (tuple.source.port(), tuple.destination.port()))
    }

    /// The transport's payload in the `packet` that was walked; `None` if that is another, shorter one.
    #[inline]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        packet.get(self.payload_offset..)?.get(..self.payload_length)
    }

    /// The TCP header in the `packet` that was walked, if there is one.
    #[inline]
    pub fn tcp(&self, packet: &[u8]) -> Option<Tcp> {
        if self.protocol() != protocol::TCP || !self.has_ports {
            return None;
        }
        packet
            .get(self.transport_offset..)?
            .first_chunk()
            .copied()
            .map(Tcp::new)
    }
}

/// Walks an Ethernet frame from the load balancer, GENEVE to UDP port `geneve_port`.
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(always)]
pub fn frame<L: Limits>(frame: &[u8], geneve_port: u16) -> Result<Walk, Stop> {
    match usual_frame(frame, geneve_port) {
        Some(walk) => Ok(walk),
        None => any_frame::<L>(frame, geneve_port),
    }
}

/// [`frame`] for the one shape in which nearly all packets come; `None` for all others, sound or not.
#[inline(always)]
pub fn usual_frame(frame: &[u8], geneve_port: u16) -> Option<Walk> {
    usual::frame(frame, geneve_port)
}

/// [`frame`] without the short way through the usual shape.
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(never)]
pub fn any_frame<L: Limits>(frame: &[u8], geneve_port: u16) -> Result<Walk, Stop> {
    frame_in::<L, _>(&SliceCursor::new(frame), geneve_port)
}

/// Walks an Ethernet frame that was not wrapped. What is neither IPv4 nor IPv6 is [`Stop::NotForUs`].
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(always)]
pub fn ethernet<L: Limits>(frame: &[u8]) -> Result<Walk, Stop> {
    ethernet_in::<L, _>(&SliceCursor::new(frame))
}

/// Walks a packet that was not wrapped and begins at its IP header.
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(always)]
pub fn ip<L: Limits>(packet: &[u8]) -> Result<Walk, Stop> {
    ip_in::<L, _>(&SliceCursor::new(packet), 0)
}

/// [`frame`] over any cursor.
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(always)]
pub fn frame_in<L: Limits, C: Cursor>(cursor: &C, geneve_port: u16) -> Result<Walk, Stop> {
    let outer = outer::<L, C>(cursor, geneve_port)?;
    let header = geneve(cursor, &outer)?;
    let endpoint = options::endpoint::<L, C>(cursor, &outer, &header)?;
    // Each family goes on by itself: where they met, every byte of their addresses would be carried through memory.
    let at = options_end(&outer, &header);
    match header.protocol() {
        ethernet::IPV4 => {
            let inner = inner_v4(cursor, at, Some(outer.end))?;
            transport::complete::<L, C>(cursor, Some(outer), endpoint, &inner)
        }
        ethernet::IPV6 => {
            let inner = inner_v6(cursor, at, Some(outer.end))?;
            transport::complete::<L, C>(cursor, Some(outer), endpoint, &inner)
        }
        _ => Err(Stop::Malformed(DropReason::GeneveProtocol)),
    }
}

/// [`ethernet`] over any cursor.
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(always)]
pub fn ethernet_in<L: Limits, C: Cursor>(cursor: &C) -> Result<Walk, Stop> {
    let (_, link) = link::<L, C>(cursor)?;
    match link.ether_type {
        ethernet::IPV4 | ethernet::IPV6 => ip_in::<L, C>(cursor, link.end),
        _ => Err(Stop::NotForUs),
    }
}

/// [`ip`] over any cursor, with the IP header at `offset`.
///
/// # Errors
/// Why it is not a packet to inspect.
#[inline(always)]
pub fn ip_in<L: Limits, C: Cursor>(cursor: &C, offset: usize) -> Result<Walk, Stop> {
    let [first] = cursor.read::<1>(offset).ok_or(Stop::Malformed(DropReason::Truncated))?;
    let inner = match first >> 4 {
        4 => inner_v4(cursor, offset, None)?,
        6 => inner_v6(cursor, offset, None)?,
        _ => return Err(Stop::NotForUs),
    };
    transport::complete::<L, C>(cursor, None, None, &inner)
}

/// First step of admission: is this GENEVE to this appliance, and are its outer headers sound?
///
/// For us is a frame to a unicast MAC address, with at most [`Limits::VLAN_TAGS`] tags, IPv4 between unicast addresses, UDP
/// to `geneve_port`. What a checksum would tell is left to whoever receives the packet.
///
/// # Errors
/// [`Stop::NotForUs`], or [`Stop::Malformed`] with the outer header at fault.
#[inline(always)]
pub fn outer<L: Limits, C: Cursor>(cursor: &C, geneve_port: u16) -> Result<Outer, Stop> {
    let (header, link) = link::<L, C>(cursor)?;
    if header.is_group() || link.ether_type != ethernet::IPV4 {
        return Err(Stop::NotForUs);
    }
    let ip = Ipv4::new(whole(cursor, link.end)?);
    let header_length = ip.header_length();
    if ip.version() != 4 || header_length < Ipv4::LEN {
        return Err(Stop::Malformed(DropReason::OuterIpv4));
    }
    let unicast = ipv4::is_unicast(ip.source()) && ipv4::is_unicast(ip.destination());
    if ip.protocol() != protocol::UDP || !unicast || ip.fragment_offset() != 0 {
        return Err(Stop::NotForUs);
    }
    let at = plus(link.end, header_length);
    let udp = Udp::new(whole(cursor, at)?);
    if udp.destination_port() != geneve_port {
        return Err(Stop::NotForUs);
    }
    if ip.more_fragments() {
        return Err(Stop::Malformed(DropReason::OuterFragment));
    }
    let total = ip.total_length();
    if total < header_length || !cursor.reaches(plus(link.end, total)) {
        return Err(Stop::Malformed(DropReason::OuterIpv4));
    }
    let length = usize::from(udp.length());
    if length < Udp::LEN || plus(header_length, length) > total {
        return Err(Stop::Malformed(DropReason::OuterUdpLength));
    }
    Ok(Outer {
        vlan: link.vlan,
        ipv4: link.end,
        geneve: plus(at, Udp::LEN),
        end: plus(at, length),
    })
}

/// Second step of admission: from the outer headers to the inner addresses. GENEVE options are skipped by their length
/// unless the header says that one of them is critical.
///
/// # Errors
/// [`Stop::Malformed`], or [`Stop::BeyondLimits`] where the options had to be looked at.
#[inline(always)]
pub fn inner<L: Limits, C: Cursor>(cursor: &C, outer: &Outer) -> Result<Inner, Stop> {
    let header = geneve(cursor, outer)?;
    if header.has_critical() {
        options::each::<L, C>(cursor, outer, &header, |_, _| Ok(()))?;
    }
    payload_ip(cursor, outer, &header)
}

/// The sender of the packet that an ICMP error quotes, if `inner` is such an error and is addressed to that sender, as every
/// error is (RFC 792, RFC 4443 2.2). The condition keeps others from borrowing an admitted address.
#[inline(always)]
pub fn quoted_source<L: Limits, C: Cursor>(cursor: &C, inner: &Inner) -> Option<IpAddr> {
    let upper = transport::upper::<L, C>(cursor, inner).ok()?;
    let quoted = transport::quoted(cursor, inner.source.is_ipv6(), inner.end, &upper)?;
    (quoted.source == inner.destination).then_some(quoted.source)
}

/// Where Ethernet and its tags end.
struct Link {
    ether_type: u16,
    vlan: Option<u16>,
    end: usize,
}

#[inline(always)]
fn link<L: Limits, C: Cursor>(cursor: &C) -> Result<(Ethernet, Link), Stop> {
    let header = Ethernet::new(whole(cursor, 0)?);
    let mut link = Link {
        ether_type: header.ether_type(),
        vlan: None,
        end: Ethernet::LEN,
    };
    for _ in 0..L::VLAN_TAGS {
        if !ethernet::is_vlan(link.ether_type) {
            break;
        }
        let tag = VlanTag::new(whole(cursor, link.end)?);
        let vlan = link.vlan.or(Some(tag.id()));
        link = Link {
            ether_type: tag.ether_type(),
            vlan,
            end: plus(link.end, VlanTag::LEN),
        };
    }
    Ok((header, link))
}

#[inline(always)]
fn geneve<C: Cursor>(cursor: &C, outer: &Outer) -> Result<Geneve, Stop> {
    let header = Geneve::new(within(cursor, outer.geneve, outer.end)?);
    if header.version() != 0 {
        return Err(Stop::Malformed(DropReason::GeneveVersion));
    }
    if header.is_control() {
        return Err(Stop::Malformed(DropReason::GeneveControl));
    }
    if options_end(outer, &header) > outer.end {
        return Err(Stop::Malformed(DropReason::Truncated));
    }
    Ok(header)
}

#[inline(always)]
fn options_end(outer: &Outer, header: &Geneve) -> usize {
    plus(plus(outer.geneve, Geneve::LEN), header.options_length())
}

#[inline(always)]
fn payload_ip<C: Cursor>(cursor: &C, outer: &Outer, header: &Geneve) -> Result<Inner, Stop> {
    let at = options_end(outer, header);
    match header.protocol() {
        ethernet::IPV4 => inner_v4(cursor, at, Some(outer.end)),
        ethernet::IPV6 => inner_v6(cursor, at, Some(outer.end)),
        _ => Err(Stop::Malformed(DropReason::GeneveProtocol)),
    }
}

/// An IPv4 header that must end, with its packet, before `limit` or else the packet's end.
#[inline(always)]
fn inner_v4<C: Cursor>(cursor: &C, at: usize, limit: Option<usize>) -> Result<Inner, Stop> {
    let ip = Ipv4::new(bounded(cursor, at, limit)?);
    let end = plus(at, ip.total_length());
    let sound = ip.version() == 4 && ip.header_length() >= Ipv4::LEN && ip.total_length() >= ip.header_length();
    if !sound || !inside(cursor, end, limit) {
        return Err(Stop::Malformed(DropReason::InnerIpv4));
    }
    Ok(inner_of_v4(ip, at, end))
}

#[inline(always)]
fn inner_of_v4(ip: Ipv4, at: usize, end: usize) -> Inner {
    Inner {
        offset: at,
        end,
        source: IpAddr::V4(ip.source()),
        destination: IpAddr::V4(ip.destination()),
        next_header: ip.protocol(),
        payload: plus(at, ip.header_length()),
        fragment: fragment(
            ip.fragment_offset(),
            ip.more_fragments(),
            u32::from(ip.identification()),
        ),
    }
}

/// The same for IPv6. A jumbogram (RFC 2675) says 0 and is taken as empty: no datagram around it could be that long.
#[inline(always)]
fn inner_v6<C: Cursor>(cursor: &C, at: usize, limit: Option<usize>) -> Result<Inner, Stop> {
    let ip = Ipv6::new(bounded(cursor, at, limit)?);
    let end = plus(plus(at, Ipv6::LEN), ip.payload_length());
    if ip.version() != 6 || !inside(cursor, end, limit) {
        return Err(Stop::Malformed(DropReason::InnerIpv6));
    }
    Ok(inner_of_v6(ip, at, end))
}

#[inline(always)]
fn inner_of_v6(ip: Ipv6, at: usize, end: usize) -> Inner {
    Inner {
        offset: at,
        end,
        source: IpAddr::V6(ip.source()),
        destination: IpAddr::V6(ip.destination()),
        next_header: ip.next_header(),
        payload: plus(at, Ipv6::LEN),
        fragment: Fragment::None,
    }
}

/// A packet with offset 0 and no more parts is whole, also behind an IPv6 fragment header (RFC 6946).
#[inline(always)]
const fn fragment(offset: u16, more: bool, id: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::None,
        (0, true) => Fragment::First { id },
        _ => Fragment::Later { id },
    }
}
