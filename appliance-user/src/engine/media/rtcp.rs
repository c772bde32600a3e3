//! RTCP compound packets (RFC 3550 6, RFC 4585, RFC 3611) and the messages of RIST (VSF TR-06-1 5.3).
//!
//! A datagram is proven to be whole packets once ([`Compound::parse`]); its packets are then read one by one, and what is
//! wrong inside one of them spoils no other.

use thiserror::Error;

/// Packet types (RFC 3550 12.1, RFC 4585 9, RFC 3611 6.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const APPLICATION: u8 = 204;
const TRANSPORT_FEEDBACK: u8 = 205;
const EXTENDED_REPORT: u8 = 207;
/// Feedback message type of the generic NACK (RFC 4585 6.2.1).
const GENERIC_NACK: u8 = 1;
/// SDES item type of the canonical name (RFC 3550 6.5.1).
const CNAME: u8 = 1;
/// Name of RIST's application packets (TR-06-1 5.3.2.2).
const RIST: [u8; 4] = *b"RIST";
/// Packets of one datagram that are read. A compound packet has three to five; one of empty packets would have hundreds.
const MAX_PACKETS: usize = 64;

/// Why bytes are not an RTCP compound packet (RFC 3550 A.2), or why one packet of it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A packet's length goes beyond the datagram, or a field beyond its packet.
    #[error("RTCP packet is cut short")]
    Truncated,
    /// The version is not 2.
    #[error("RTCP version is {0}, not 2")]
    Version(u8),
    /// Not one of the types that RTCP has on a shared port (RFC 5761 4).
    #[error("RTCP packet type {0} is none")]
    Type(u8),
    /// Padding in a packet that is not the last, or that does not fit.
    #[error("RTCP padding does not fit")]
    Padding,
}

/// A datagram of whole RTCP packets.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Reads a UDP payload as RTCP: every packet of version 2, of RTCP's types, whose lengths add up, and padding in the
    /// last one only.
    ///
    /// # Errors
    /// [`Error`] where the bytes break RFC 3550 6.1 or A.2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        loop {
            let padded = split_packet(&mut rest)?.padded;
            if rest.is_empty() {
                return Ok(Compound { bytes });
            }
            if padded {
                return Err(Error::Padding);
            }
        }
    }

    /// Whether it begins with a report, as a compound packet must where reduced size (RFC 5506) was not agreed upon.
    pub fn begins_with_report(&self) -> bool {
        matches!(self.bytes.get(1), Some(&(SENDER_REPORT | RECEIVER_REPORT)))
    }

    /// Its packets in order, the first [`MAX_PACKETS`] of them.
    pub fn packets(&self) -> impl Iterator<Item = Result<Packet<'a>, Error>> + use<'a> {
        let mut rest = self.bytes;
        core::iter::from_fn(move || {
            (!rest.is_empty()).then(|| {
                let raw = split_packet(&mut rest);
                // Parsed before, so this is never an error; were it one, nothing could follow it.
                let raw = raw.inspect_err(|_| rest = &[])?;
                Packet::read(raw)
            })
        })
        .take(MAX_PACKETS)
    }
}

/// A packet's header fields and what follows them, padding removed.
#[derive(Clone, Copy, Debug)]
struct Raw<'a> {
    padded: bool,
    /// Report count, source count, subtype or feedback message type: 5 bits.
    count: u8,
    kind: u8,
    body: &'a [u8],
}

fn split_packet<'a>(rest: &mut &'a [u8]) -> Result<Raw<'a>, Error> {
    let [first, kind, l0, l1] = *rest.first_chunk().ok_or(Error::Truncated)?;
    if first >> 6 != 2 {
        return Err(Error::Version(first >> 6));
    }
    if !(192..=223).contains(&kind) {
        return Err(Error::Type(kind));
    }
    let length = (usize::from(u16::from_be_bytes([l0, l1])) + 1) * 4;
    let packet = rest.split_off(..length).ok_or(Error::Truncated)?;
    let mut body = packet.get(4..).unwrap_or_default();
    let padded = first & 0x20 != 0;
    if padded {
        let padding = body
            .last()
            .copied()
            .filter(|n| *n > 0 && n % 4 == 0)
            .ok_or(Error::Padding)?;
        let kept = body.len().checked_sub(padding.into()).ok_or(Error::Padding)?;
        body = body.get(..kept).unwrap_or_default();
    }
    Ok(Raw {
        padded,
        count: first & 0x1f,
        kind,
        body,
    })
}

/// One RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// What a sender has sent, and what it received itself (6.4.1).
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// What it has sent.
        info: SenderInfo,
        /// What it received from others.
        blocks: Blocks<'a>,
    },
    /// What a receiver received (6.4.2).
    ReceiverReport {
        /// The receiver.
        ssrc: u32,
        /// One block for each source.
        blocks: Blocks<'a>,
    },
    /// Who sources are (6.5).
    SourceDescription(Chunks<'a>),
    /// Sources that leave (6.6).
    Bye(Sources<'a>),
    /// The generic NACK (RFC 4585 6.2.1; TR-06-1 5.3.2.1, bitmask-based retransmission request).
    GenericNack {
        /// The media source that is asked.
        media: u32,
        /// The numbers it shall repeat.
        lost: BitmaskNacks<'a>,
    },
    /// RIST's range-based retransmission request (TR-06-1 5.3.2.2).
    RangeNack {
        /// The media source that is asked.
        media: u32,
        /// The numbers it shall repeat.
        lost: RangeNacks<'a>,
    },
    /// RIST's round-trip probe (TR-06-1 5.2.6).
    Echo(Echo),
    /// Any other application's packet (6.7).
    Application {
        /// Who sent it.
        ssrc: u32,
        /// The application.
        name: [u8; 4],
    },
    /// An extended report (RFC 3611), which is recognised and not read.
    ExtendedReport {
        /// Who sent it.
        ssrc: u32,
    },
    /// Any other type.
    Other {
        /// The packet type.
        kind: u8,
    },
}

impl<'a> Packet<'a> {
    fn read(raw: Raw<'a>) -> Result<Self, Error> {
        let mut body = raw.body;
        Ok(match raw.kind {
            SENDER_REPORT => {
                let ssrc = word(&mut body)?;
                let info = SenderInfo {
                    ntp: u64::from(word(&mut body)?) << 32 | u64::from(word(&mut body)?),
                    rtp: word(&mut body)?,
                    packets: word(&mut body)?,
                    octets: word(&mut body)?,
                };
                let blocks = Blocks::split_off(&mut body, raw.count)?;
                Packet::SenderReport { ssrc, info, blocks }
            }
            RECEIVER_REPORT => Packet::ReceiverReport {
                ssrc: word(&mut body)?,
                blocks: Blocks::split_off(&mut body, raw.count)?,
            },
            SOURCE_DESCRIPTION => Packet::SourceDescription(Chunks {
                rest: body,
                left: raw.count,
            }),
            GOODBYE => {
                let sources = body.split_off(..usize::from(raw.count) * 4).ok_or(Error::Truncated)?;
                Packet::Bye(Sources(sources.as_chunks().0))
            }
            APPLICATION => Packet::application(raw.count, body)?,
            TRANSPORT_FEEDBACK if raw.count == GENERIC_NACK => {
                word(&mut body)?;
                Packet::GenericNack {
                    media: word(&mut body)?,
                    lost: BitmaskNacks(body.as_chunks().0),
                }
            }
            EXTENDED_REPORT => Packet::ExtendedReport { ssrc: word(&mut body)? },
            kind => Packet::Other { kind },
        })
    }

    fn application(subtype: u8, mut body: &'a [u8]) -> Result<Self, Error> {
        let ssrc = word(&mut body)?;
        let name = word(&mut body)?.to_be_bytes();
        Ok(match (name, subtype) {
            (RIST, 0) => Packet::RangeNack {
                media: ssrc,
                lost: RangeNacks(body.as_chunks().0),
            },
            (RIST, 2 | 3) => Packet::Echo(Echo {
                ssrc,
                response: subtype == 3,
                timestamp: u64::from(word(&mut body)?) << 32 | u64::from(word(&mut body)?),
                delay_us: word(&mut body)?,
            }),
            _ => Packet::Application { ssrc, name },
        })
    }
}

/// What a sender says it has sent (6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall clock when the report was sent: seconds since 1900 in the upper half, fractions in the lower.
    pub ntp: u64,
    /// The same moment in units of the RTP timestamp.
    pub rtp: u32,
    /// RTP packets sent since the sender began, modulo 2^32.
    pub packets: u32,
    /// Their payload in bytes, without headers and padding, modulo 2^32.
    pub octets: u32,
}

/// Report blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [[u8; 24]]);

impl<'a> Blocks<'a> {
    fn split_off(body: &mut &'a [u8], count: u8) -> Result<Self, Error> {
        let blocks = body.split_off(..usize::from(count) * 24).ok_or(Error::Truncated)?;
        Ok(Blocks(blocks.as_chunks().0))
    }

    /// The blocks in order, at most 31.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Block> + use<'a> {
        self.0.iter().map(|bytes| {
            let mut rest = bytes.as_slice();
            let mut next = || word(&mut rest).unwrap_or_default();
            let (ssrc, lost, highest, jitter, lsr, dlsr) = (next(), next(), next(), next(), next(), next());
            Block {
                ssrc,
                fraction_lost: (lost >> 24) as u8,
                cumulative_lost: ((lost << 8) as i32) >> 8,
                highest_sequence: highest,
                jitter,
                last_sr: lsr,
                delay_since_last_sr: dlsr,
            }
        })
    }
}

/// How one source is received (6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The source.
    pub ssrc: u32,
    /// Lost since the receiver's last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost in all: expected less received, so copies make it smaller and even negative (24 bits, signed).
    pub cumulative_lost: i32,
    /// Cycles of the sequence number in the upper half, the highest number received in the lower.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the RTP timestamp.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, 0 without one.
    pub last_sr: u32,
    /// How long after that one this report was sent, in 65536ths of a second.
    pub delay_since_last_sr: u32,
}

/// The chunks of a source description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> Chunks<'a> {
    /// Sources and their canonical names as far as they can be read, at most 31.
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let (mut rest, mut left) = (self.rest, self.left);
        core::iter::from_fn(move || {
            while left > 0 {
                left -= 1;
                let ssrc = word(&mut rest).ok()?;
                if let Some(cname) = cname_of_chunk(&mut rest)? {
                    return Some((ssrc, cname));
                }
            }
            None
        })
    }
}

/// Takes one chunk's items and its padding away; `None` where they go beyond the end. Items end with a zero byte and are
/// padded with more of them to a multiple of four.
fn cname_of_chunk<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let before = rest.len();
    let mut cname = None;
    loop {
        let kind = *rest.split_off_first()?;
        if kind == 0 {
            break;
        }
        let length = *rest.split_off_first()?;
        let text = rest.split_off(..usize::from(length))?;
        if kind == CNAME && cname.is_none() {
            cname = Some(text);
        }
    }
    let unaligned = (before - rest.len()) % 4;
    if unaligned > 0 {
        rest.split_off(..4 - unaligned)?;
    }
    Some(cname)
}

/// Sources that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources<'a>(&'a [[u8; 4]]);

impl<'a> Sources<'a> {
    /// The sources in order, at most 31.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.iter().map(|source| u32::from_be_bytes(*source))
    }
}

/// The entries of a generic NACK: a packet id and a mask of the 16 numbers after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmaskNacks<'a>(&'a [[u8; 4]]);

impl BitmaskNacks<'_> {
    /// How many numbers are asked for.
    pub fn count(&self) -> u32 {
        self.0
            .iter()
            .map(|[_, _, m0, m1]| 1 + u16::from_be_bytes([*m0, *m1]).count_ones())
            .sum()
    }
}

/// The entries of a range NACK: a first number, and how many follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeNacks<'a>(&'a [[u8; 4]]);

impl RangeNacks<'_> {
    /// How many numbers are asked for.
    pub fn count(&self) -> u32 {
        self.0
            .iter()
            .map(|[_, _, n0, n1]| 1 + u32::from(u16::from_be_bytes([*n0, *n1])))
            .fold(0, u32::saturating_add)
    }
}

/// RIST's round-trip probe (TR-06-1 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The media source that it concerns.
    pub ssrc: u32,
    /// The answer, not the question.
    pub response: bool,
    /// What the question carries and the answer repeats.
    pub timestamp: u64,
    /// How long the answer waited at its sender, in microseconds.
    pub delay_us: u32,
}

fn word(rest: &mut &[u8]) -> Result<u32, Error> {
    let bytes = rest.split_off(..4).and_then(<[u8]>::first_chunk);
    bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Error::Truncated)
}

#[cfg(test)]
mod tests {
    use super::super::rtp;
    use super::*;
    use proptest::prelude::*;

    fn packet(count: u8, kind: u8, words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0x80 | count, kind];
        bytes.extend((words.len() as u16).to_be_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    fn only(bytes: &[u8]) -> Result<Packet<'_>, Error> {
        let packets: Vec<_> = Compound::parse(bytes).unwrap().packets().collect();
        assert_eq!(packets.len(), 1);
        packets[0]
    }

    const BLOCK: [u32; 6] = [7, 0x40ff_fffe, 0x0001_8000, 90, 0x1234_5678, 65_536];

    #[test]
    fn a_sender_report_with_a_block_is_read() {
        let words: Vec<u32> = [9, 0x8000_0000, 0x4000_0000, 1234, 100, 131_600]
            .into_iter()
            .chain(BLOCK)
            .collect();
        let bytes = packet(1, 200, &words);
        let Ok(Packet::SenderReport { ssrc, info, blocks }) = only(&bytes) else {
            panic!("a sender report")
        };
        let expected = SenderInfo {
            ntp: 0x8000_0000_4000_0000,
            rtp: 1234,
            packets: 100,
            octets: 131_600,
        };
        assert_eq!((ssrc, info), (9, expected));
        let block = blocks.iter().next().unwrap();
        assert_eq!(
            block,
            Block {
                ssrc: 7,
                fraction_lost: 0x40,
                cumulative_lost: -2,
                highest_sequence: 0x0001_8000,
                jitter: 90,
                last_sr: 0x1234_5678,
                delay_since_last_sr: 65_536,
            }
        );
    }

    #[test]
    fn a_report_shorter_than_its_count_says_nothing_and_spoils_nothing() {
        let mut bytes = packet(2, 201, &[1, 7, 0, 0, 0, 0, 0]);
        bytes.extend(packet(1, 203, &[7]));
        let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
        assert_eq!(packets[0], Err(Error::Truncated));
        let Ok(Packet::Bye(sources)) = packets[1] else {
            panic!("a goodbye")
        };
        assert_eq!(sources.iter().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn canonical_names_are_read_chunk_by_chunk() {
        let mut bytes = vec![0x82, 202, 0, 6, 0, 0, 0, 1, 2, 1, b'x', 1, 3];
        bytes.extend(b"a@b\0");
        // The first chunk is 4 + 3 + 5 + 1 bytes and so padded by three.
        bytes.extend([0, 0, 0]);
        bytes.extend([0, 0, 0, 2, 0, 0, 0, 0]);
        let Ok(Packet::SourceDescription(chunks)) = only(&bytes) else {
            panic!("a source description")
        };
        assert_eq!(chunks.cnames().collect::<Vec<_>>(), [(1, b"a@b".as_slice())]);
    }

    #[test]
    fn retransmission_requests_are_counted() {
        let bytes = packet(1, 205, &[1, 7, 0x0064_0005, 0x00c8_0000]);
        let Ok(Packet::GenericNack { media: 7, lost }) = only(&bytes) else {
            panic!("a generic NACK")
        };
        assert_eq!(lost.count(), 4);
        let bytes = packet(0, 204, &[7, u32::from_be_bytes(RIST), 0x0064_0004, 0x00c8_0000]);
        let Ok(Packet::RangeNack { media: 7, lost }) = only(&bytes) else {
            panic!("a range NACK")
        };
        assert_eq!(lost.count(), 6);
        let bytes = packet(3, 204, &[7, u32::from_be_bytes(RIST), 1, 2, 500]);
        let echo = Echo {
            ssrc: 7,
            response: true,
            timestamp: 1 << 32 | 2,
            delay_us: 500,
        };
        assert_eq!(only(&bytes), Ok(Packet::Echo(echo)));
    }

    #[test]
    fn what_is_no_compound_packet_is_named() {
        let good = packet(0, 201, &[1]);
        assert!(Compound::parse(&good).unwrap().begins_with_report());
        assert_eq!(Compound::parse(&good[..7]).unwrap_err(), Error::Truncated);
        assert_eq!(Compound::parse(&[]).unwrap_err(), Error::Truncated);
        assert_eq!(Compound::parse(&[0x40, 201, 0, 0]).unwrap_err(), Error::Version(1));
        assert_eq!(Compound::parse(&[0x80, 33, 0, 0]).unwrap_err(), Error::Type(33));
        let mut padded = good.clone();
        padded[0] |= 0x20;
        padded[7] = 4;
        assert!(Compound::parse(&padded).is_ok(), "padding that leaves nothing");
        padded[7] = 8;
        assert_eq!(
            Compound::parse(&padded).unwrap_err(),
            Error::Padding,
            "more than there is"
        );
        padded[7] = 4;
        padded.extend(&good);
        assert_eq!(
            Compound::parse(&padded).unwrap_err(),
            Error::Padding,
            "not in the last packet"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(compound) = Compound::parse(&bytes) {
                prop_assert!(rtp::is_rtcp(&bytes) || bytes.len() < 8);
                compound.packets().for_each(consume);
            }
        }

        #[test]
        fn arbitrary_bodies_are_harmless(
            packets in proptest::collection::vec((0u8..32, 198u8..210, proptest::collection::vec(any::<u32>(), 0..20)), 1..5),
        ) {
            let bytes: Vec<u8> = packets.iter().flat_map(|(count, kind, words)| packet(*count, *kind, words)).collect();
            let compound = Compound::parse(&bytes).unwrap();
            prop_assert_eq!(compound.packets().count(), packets.len());
            compound.packets().for_each(consume);
        }

        #[test]
        fn report_blocks_round_trip(blocks in proptest::collection::vec(any::<[u32; 6]>(), 0..31)) {
            let words: Vec<u32> = core::iter::once(5).chain(blocks.iter().flatten().copied()).collect();
            let bytes = packet(blocks.len() as u8, 201, &words);
            let Ok(Packet::ReceiverReport { ssrc: 5, blocks: read }) = only(&bytes) else { panic!("a receiver report") };
            for (read, written) in read.iter().zip(&blocks) {
                let lost = u32::from(read.fraction_lost) << 24 | read.cumulative_lost as u32 & 0x00ff_ffff;
                let again = [
                    read.ssrc, lost, read.highest_sequence, read.jitter, read.last_sr, read.delay_since_last_sr,
                ];
                prop_assert_eq!(&again, written);
            }
        }
    }

    fn consume(packet: Result<Packet<'_>, Error>) {
        match packet {
            Ok(Packet::SourceDescription(chunks)) => drop(chunks.cnames().count()),
            Ok(Packet::GenericNack { lost, .. }) => drop(lost.count()),
            Ok(Packet::RangeNack { lost, .. }) => drop(lost.count()),
            Ok(Packet::SenderReport { blocks, .. }) => drop(blocks.iter().count()),
            _ => {}
        }
    }
}
