//! Packets from a capture file: pcap and pcapng, either byte order, any time resolution, without loading the file.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. The reader is lenient in what does not matter to packets
//! (unknown blocks and options, a snap length smaller than the original packets) and names packet and byte where it cannot go
//! on; whatever came before stays good.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use super::blocks::{self, Body, Interface, Order};
use super::source::Source;

/// Largest packet taken for one; Wireshark has the same bound.
const MAX_PACKET: u32 = 256 << 10;
/// Largest pcapng block taken for one.
const MAX_BLOCK: u32 = 16 << 20;

const PCAP_MICRO: u32 = 0xa1b2_c3d4;
const PCAP_NANO: u32 = 0xa1b2_3c4d;
const PCAP_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// What the first byte of a captured packet is (the IANA registry of link types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet header.
    Ethernet,
    /// IPv4 or IPv6 header.
    RawIp,
    /// Linux "cooked" capture, version 1: 16 bytes, EtherType in the last two.
    LinuxSll,
    /// Linux "cooked" capture, version 2: 20 bytes, EtherType in the first two.
    LinuxSll2,
    /// BSD loopback: address family in four bytes of the capturing machine's byte order.
    Null,
    /// OpenBSD loopback: the same in network byte order.
    Loop,
    /// Any other, by its number.
    Other(u32),
}

impl LinkType {
    /// The part of a packet from its IP header on; empty where there is none (ARP, link types without IP).
    pub fn ip_packet(self, data: &[u8]) -> &[u8] {
        const IPV4: [u8; 2] = [0x08, 0x00];
        const IPV6: [u8; 2] = [0x86, 0xdd];
        let behind = |ether_type: Option<&[u8]>, header: usize| {
            let is_ip = ether_type.is_some_and(|t| t == IPV4 || t == IPV6);
            data.get(header..).filter(|_| is_ip)
        };
        let packet = match self {
            // Up to two 802.1Q or 802.1ad tags stand before the EtherType.
            LinkType::Ethernet => (0..=2)
                .map(|tags| 14 + 4 * tags)
                .find_map(|end| behind(data.get(end - 2..end), end)),
            LinkType::LinuxSll => behind(data.get(14..16), 16),
            LinkType::LinuxSll2 => behind(data.get(0..2), 20),
            LinkType::Null | LinkType::Loop => data.get(4..),
            LinkType::RawIp => Some(data),
            LinkType::Other(_) => None,
        };
        packet.unwrap_or_default()
    }

    pub(super) fn from_number(number: u32) -> Self {
        match number {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            // 101 in files; 12 and 14 are what some systems wrote before; 228 and 229 are IPv4 and IPv6 alone.
            12 | 14 | 101 | 228 | 229 => LinkType::RawIp,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            276 => LinkType::LinuxSll2,
            other => LinkType::Other(other),
        }
    }
}

/// File format of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Classic libpcap.
    Pcap,
    /// pcapng.
    PcapNg,
}

impl Format {
    /// Tells the format from a file's first bytes.
    pub fn detect(start: &[u8]) -> Option<Self> {
        let magic: [u8; 4] = start.get(..4)?.try_into().ok()?;
        let (little, big) = (u32::from_le_bytes(magic), u32::from_be_bytes(magic));
        if [little, big].iter().any(|&m| m == PCAP_MICRO || m == PCAP_NANO) {
            return Some(Format::Pcap);
        }
        (little == SECTION_HEADER).then_some(Format::PcapNg)
    }
}

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// Its number in the file, from 1, as other tools count.
    pub number: u64,
    /// Time of capture in nanoseconds since 1970-01-01 UTC. A pcapng simple packet has none and gets that of its
    /// predecessor.
    pub timestamp: u64,
    /// What the data begins with.
    pub link: LinkType,
    /// The bytes that were captured.
    pub data: &'a [u8],
    /// Bytes the packet had on the wire; more than `data` where the capture was cut.
    pub original_len: u32,
}

/// Why a capture cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file begins like no capture.
    #[error("not a capture file: it begins with {magic:02x?}")]
    Foreign {
        /// The first bytes.
        magic: Vec<u8>,
    },
    /// The file ends in the middle of something.
    #[error("file cut short in packet {packet} at byte {offset}: {needed} bytes needed, {available} there")]
    Truncated {
        /// Number of the packet that would have come.
        packet: u64,
        /// Where the incomplete record begins.
        offset: u64,
        /// Bytes of the record.
        needed: u64,
        /// Bytes of it that are there.
        available: u64,
    },
    /// The file contradicts its format.
    #[error("damaged before packet {packet} at byte {offset}: {what}")]
    Damaged {
        /// Number of the packet that would have come.
        packet: u64,
        /// Where the damaged record begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The operating system cannot read on.
    #[error("cannot read at byte {offset}")]
    Read {
        /// How far reading came.
        offset: u64,
        /// Its reason.
        source: io::Error,
    },
}

#[derive(Debug)]
enum Layout {
    Pcap {
        order: Order,
        nanoseconds: bool,
        link: LinkType,
    },
    PcapNg {
        order: Order,
        interfaces: Vec<Interface>,
    },
}

/// Where in the current record the packet is, and what is known about it.
struct Found {
    record: usize,
    data: std::ops::Range<usize>,
    timestamp: u64,
    link: LinkType,
    original_len: u32,
}

/// A packet at a time out of a capture file.
#[derive(Debug)]
pub struct CaptureReader<R> {
    source: Source<R>,
    layout: Layout,
    packets: u64,
    last_timestamp: u64,
    failed: bool,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Foreign`] when this is no capture, and those of a file that cannot be read.
    pub fn new(reader: R) -> Result<Self, CaptureError> {
        let mut source = Source::new(reader);
        source
            .ensure(PCAP_HEADER)
            .map_err(|e| CaptureError::Read { offset: 0, source: e })?;
        let window = source.window();
        let layout = match Format::detect(window) {
            None => {
                return Err(CaptureError::Foreign {
                    magic: window[..window.len().min(8)].to_vec(),
                });
            }
            // The byte order comes with the section header, which `next` reads like any block.
            Some(Format::PcapNg) => Layout::PcapNg {
                order: Order::Little,
                interfaces: Vec::new(),
            },
            Some(Format::Pcap) => {
                let available = window.len() as u64;
                let needed = PCAP_HEADER as u64;
                let cut = || CaptureError::Truncated {
                    packet: 1,
                    offset: 0,
                    needed,
                    available,
                };
                let layout = pcap_header(window).ok_or_else(cut)?;
                source.consume(PCAP_HEADER);
                layout
            }
        };
        Ok(CaptureReader {
            source,
            layout,
            packets: 0,
            last_timestamp: 0,
            failed: false,
        })
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        match self.layout {
            Layout::Pcap { .. } => Format::Pcap,
            Layout::PcapNg { .. } => Format::PcapNg,
        }
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The next packet; `None` at the end of the file, and after an error.
    #[allow(
        clippy::should_implement_trait,
        reason = "packets borrow the reader, which `Iterator` cannot say"
    )]
    pub fn next(&mut self) -> Option<Result<Captured<'_>, CaptureError>> {
        if self.failed {
            return None;
        }
        let found = loop {
            let step = match &self.layout {
                Layout::Pcap { .. } => self.record(),
                Layout::PcapNg { .. } => self.block(),
            };
            match step {
                Ok(Step::Packet(found)) => break found,
                Ok(Step::Other(length)) => {
                    self.source.consume(length);
                }
                Ok(Step::End) => return None,
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e));
                }
            }
        };
        self.packets += 1;
        self.last_timestamp = found.timestamp;
        let record = self.source.consume(found.record);
        Some(Ok(Captured {
            number: self.packets,
            timestamp: found.timestamp,
            link: found.link,
            // `record` and `block` have made the range out of what is there.
            data: record.get(found.data).unwrap_or_default(),
            original_len: found.original_len,
        }))
    }

    /// Makes sure that the window holds `needed` bytes of a record; `false` at a clean end of the file.
    fn have(&mut self, needed: usize) -> Result<bool, CaptureError> {
        let (packet, offset) = (self.packets + 1, self.source.offset());
        let available = self
            .source
            .ensure(needed)
            .map_err(|source| CaptureError::Read { offset, source })?;
        if available < needed && available > 0 {
            let (needed, available) = (needed as u64, available as u64);
            return Err(CaptureError::Truncated {
                packet,
                offset,
                needed,
                available,
            });
        }
        Ok(available >= needed)
    }

    fn damaged(&self, what: &'static str) -> CaptureError {
        CaptureError::Damaged {
            packet: self.packets + 1,
            offset: self.source.offset(),
            what,
        }
    }

    /// One pcap record.
    fn record(&mut self) -> Result<Step, CaptureError> {
        let Layout::Pcap {
            order,
            nanoseconds,
            link,
        } = self.layout
        else {
            return Ok(Step::End);
        };
        if !self.have(RECORD_HEADER)? {
            return Ok(Step::End);
        }
        let word = |at| order.u32(self.source.window(), at).unwrap_or(0);
        let (seconds, fraction, captured, original_len) = (word(0), word(4), word(8), word(12));
        if captured > MAX_PACKET {
            return Err(self.damaged("a packet of more than 256 KiB"));
        }
        let record = RECORD_HEADER + captured as usize;
        self.have(record)?;
        let unit = if nanoseconds { 1 } else { 1_000 };
        let timestamp = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit;
        Ok(Step::Packet(Found {
            record,
            data: RECORD_HEADER..record,
            timestamp,
            link,
            original_len,
        }))
    }

    /// One pcapng block.
    fn block(&mut self) -> Result<Step, CaptureError> {
        if !self.have(12)? {
            return Ok(Step::End);
        }
        let Layout::PcapNg { order, interfaces } = &mut self.layout else {
            return Ok(Step::End);
        };
        let window = self.source.window();
        if order.u32(window, 0) == Some(SECTION_HEADER) {
            let section = [Order::Little, Order::Big]
                .into_iter()
                .find(|o| o.u32(window, 8) == Some(BYTE_ORDER_MAGIC));
            let Some(section) = section else {
                return Err(self.damaged("a section header without byte order"));
            };
            *order = section;
            interfaces.clear();
        }
        let order = *order;
        let kind = order.u32(window, 0).unwrap_or(0);
        let length = order.u32(window, 4).unwrap_or(0);
        if length < 12 || length % 4 != 0 || length > MAX_BLOCK {
            return Err(self.damaged("a block of impossible length"));
        }
        let length = length as usize;
        self.have(length)?;
        let window = self.source.window();
        if order.u32(window, length - 4) != Some(length as u32) {
            return Err(self.damaged("a block whose two lengths differ"));
        }
        let body = window.get(8..length - 4).unwrap_or_default();
        let Layout::PcapNg { interfaces, .. } = &mut self.layout else {
            return Ok(Step::End);
        };
        match blocks::parse(order, kind, body, interfaces) {
            Ok(Body::Other) => Ok(Step::Other(length)),
            Ok(Body::Packet(packet)) => Ok(Step::Packet(Found {
                record: length,
                data: 8 + packet.data.start..8 + packet.data.end,
                timestamp: packet.timestamp.unwrap_or(self.last_timestamp),
                link: packet.link,
                original_len: packet.original_len,
            })),
            Err(what) => Err(self.damaged(what)),
        }
    }
}

enum Step {
    Packet(Found),
    /// A block without a packet, of this length.
    Other(usize),
    End,
}

fn pcap_header(header: &[u8]) -> Option<Layout> {
    let magic = Order::Little.u32(header, 0)?;
    let order = if matches!(magic, PCAP_MICRO | PCAP_NANO) {
        Order::Little
    } else {
        Order::Big
    };
    // The upper bits tell of a frame check sequence, which the packets' own lengths leave out.
    let link = LinkType::from_number(order.u32(header, 20)? & 0xffff);
    Some(Layout::Pcap {
        order,
        nanoseconds: order.u32(header, 0)? == PCAP_NANO,
        link,
    })
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
