//! The blocks of a pcapng section that matter to packets (draft-ietf-opsawg-pcapng 4.2 to 4.4 and A).
#![forbid(unsafe_code)]

use std::ops::Range;

use super::capture::LinkType;

/// Interfaces of one section.
const MAX_INTERFACES: usize = 65_536;

const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        })
    }

    /// A number in two words, the high one first, as pcapng writes timestamps.
    fn high_low(self, bytes: &[u8], at: usize) -> Option<u64> {
        Some(u64::from(self.u32(bytes, at)?) << 32 | u64::from(self.u32(bytes, at.checked_add(4)?)?))
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        Some(match self {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        })
    }
}

/// A pcapng interface: how its packets begin and how its clock ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface {
    pub(super) link: LinkType,
    pub(super) snap_len: u32,
    /// `if_tsresol`: a negative power of ten, or of two when the top bit is set.
    pub(super) resolution: u8,
    /// `if_tsoffset`, in seconds.
    pub(super) offset: i64,
}

impl Interface {
    pub(super) fn nanoseconds(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let exponent = u32::from(self.resolution & 0x7f);
        let nanos = if self.resolution & 0x80 != 0 {
            (ticks * 1_000_000_000) >> exponent
        } else if exponent <= 9 {
            ticks * 10u128.pow(9 - exponent)
        } else {
            10u128.checked_pow(exponent - 9).map_or(0, |unit| ticks / unit)
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
    }
}

/// A packet in a block.
pub(super) struct Packet {
    /// Where in the block's body its bytes are; within it.
    pub(super) data: Range<usize>,
    /// Nanoseconds since 1970; a simple packet has none.
    pub(super) timestamp: Option<u64>,
    pub(super) link: LinkType,
    pub(super) original_len: u32,
}

/// What a block turned out to be.
pub(super) enum Body {
    Packet(Packet),
    /// Nothing that concerns packets, or an interface, which is now known.
    Other,
}

/// Reads the body of a block.
///
/// # Errors
///
/// What contradicts the format.
pub(super) fn parse(
    order: Order,
    kind: u32,
    body: &[u8],
    interfaces: &mut Vec<Interface>,
) -> Result<Body, &'static str> {
    match kind {
        INTERFACE_DESCRIPTION if interfaces.len() == MAX_INTERFACES => Err("more than 65,536 interfaces"),
        INTERFACE_DESCRIPTION => {
            interfaces.push(interface(order, body).ok_or("an interface description that is too short")?);
            Ok(Body::Other)
        }
        ENHANCED_PACKET | OBSOLETE_PACKET => packet(order, kind, body, interfaces).map(Body::Packet),
        SIMPLE_PACKET => simple_packet(order, body, interfaces).map(Body::Packet),
        _ => Ok(Body::Other),
    }
}

fn interface(order: Order, body: &[u8]) -> Option<Interface> {
    let link = LinkType::from_number(u32::from(order.u16(body, 0)?));
    let mut interface = Interface {
        link,
        snap_len: order.u32(body, 4)?,
        resolution: 6,
        offset: 0,
    };
    let mut at = 8;
    // Ends with the body at the latest: every option takes four bytes or more.
    while let (Some(code), Some(length)) = (order.u16(body, at), order.u16(body, at + 2)) {
        let value = at + 4;
        match (code, length) {
            (0, _) => break,
            (OPTION_TSRESOL, 1) => interface.resolution = body.get(value).copied().unwrap_or(6),
            (OPTION_TSOFFSET, 8) => interface.offset = order.u64(body, value).unwrap_or(0) as i64,
            _ => {}
        }
        at = value + usize::from(length).next_multiple_of(4);
    }
    Some(interface)
}

/// An enhanced packet block, or the obsolete packet block, which differs in the first word.
fn packet(order: Order, kind: u32, body: &[u8], interfaces: &[Interface]) -> Result<Packet, &'static str> {
    const SHORT: &str = "a packet block that is too short";
    let number = match kind {
        ENHANCED_PACKET => order.u32(body, 0).ok_or(SHORT)? as usize,
        _ => usize::from(order.u16(body, 0).ok_or(SHORT)?),
    };
    let interface = interfaces
        .get(number)
        .ok_or("a packet of an interface that is not described")?;
    let ticks = order.high_low(body, 4).ok_or(SHORT)?;
    let captured = order.u32(body, 12).ok_or(SHORT)?;
    let original_len = order.u32(body, 16).ok_or(SHORT)?;
    if captured as usize > body.len() - 20 {
        return Err("a packet longer than its block");
    }
    Ok(Packet {
        data: 20..20 + captured as usize,
        timestamp: Some(interface.nanoseconds(ticks)),
        link: interface.link,
        original_len,
    })
}

/// A simple packet block: of the first interface, without a time.
fn simple_packet(order: Order, body: &[u8], interfaces: &[Interface]) -> Result<Packet, &'static str> {
    let interface = interfaces
        .first()
        .ok_or("a packet of an interface that is not described")?;
    let original_len = order.u32(body, 0).ok_or("a packet block that is too short")?;
    let limit = if interface.snap_len == 0 {
        u32::MAX
    } else {
        interface.snap_len
    };
    let captured = original_len.min(limit) as usize;
    if captured > body.len() - 4 {
        return Err("a packet longer than its block");
    }
    Ok(Packet {
        data: 4..4 + captured,
        timestamp: None,
        link: interface.link,
        original_len,
    })
}
