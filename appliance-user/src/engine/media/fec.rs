//! Forward error correction of RTP media: SMPTE ST 2022-1 rows and columns, and RFC 2733, whose header it extends.
//!
//! An FEC packet is the exclusive or of the media packets that it protects, and so stands for any one of them. Which ones
//! it protects is all that is read here: whether a lost packet could be rebuilt does not depend on its bytes.

use thiserror::Error;

/// Bytes of the header that RFC 2733 3.3 defines.
const RFC_2733_HEADER: usize = 12;
/// Bytes that ST 2022-1 adds when the extension bit is set.
const EXTENSION: usize = 4;
/// The most packets between the first and the last that one FEC packet protects. ST 2022-1 ends at a matrix of 100 packets
/// for most receivers; senders with larger ones are known, and 20 by 20 several times over fits here.
pub const MAX_SPAN: u32 = 2048;

/// The most packets that one FEC packet protects. ST 2022-1 ends at 20, in a row as in a column; senders with 50 are known.
pub const MAX_PACKETS: u8 = 50;

/// Why an RTP payload is no FEC packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Shorter than its header.
    #[error("FEC packet is cut short")]
    Truncated,
    /// It protects nothing, more than [`MAX_PACKETS`], or a span beyond [`MAX_SPAN`].
    #[error("FEC packet protects {packets} packets, {offset} apart")]
    Dimensions {
        /// ST 2022-1's NA, or the packets of an RFC 2733 mask.
        packets: u8,
        /// ST 2022-1's Offset.
        offset: u8,
    },
    /// Another code than exclusive or (Type), or a mask beside an extension, which ST 2022-1 forbids.
    #[error("FEC type {0} is not exclusive or")]
    Type(u8),
}

/// Whether an FEC packet protects a row or a column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Packets L apart (D = 0, the first FEC stream).
    Column,
    /// Consecutive packets (D = 1, the second FEC stream).
    Row,
}

/// The media packets that one FEC packet protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protected {
    /// Sequence number of the first.
    pub base: u16,
    /// Distance from one to the next; 1 with a mask.
    pub offset: u8,
    /// How many; 24 places with a mask.
    pub count: u8,
    /// RFC 2733: bit `i` says that `base + i` is protected. 0 under ST 2022-1, where all are.
    pub mask: u32,
}

impl Protected {
    /// The sequence numbers in order.
    pub fn numbers(self) -> impl Iterator<Item = u16> {
        let all = self.mask == 0;
        (0..u16::from(self.count))
            .filter(move |place| all || self.mask >> place & 1 != 0)
            .map(move |place| self.base.wrapping_add(place.wrapping_mul(self.offset.into())))
    }

    /// How far the last is from the first.
    pub fn span(self) -> u32 {
        u32::from(self.count.saturating_sub(1)) * u32::from(self.offset)
    }
}

/// An FEC packet's header: the RTP packet's payload begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The media packets.
    pub protected: Protected,
    /// Row or column; RFC 2733 knows neither, its packets count as rows.
    pub dimension: Dimension,
    /// Exclusive or of the protected packets' lengths beyond their fixed headers.
    pub length_recovery: u16,
    /// Exclusive or of their payload types.
    pub payload_type_recovery: u8,
    /// Exclusive or of their time stamps.
    pub timestamp_recovery: u32,
    /// ST 2022-1's Index, 0 for exclusive or.
    pub index: u8,
    /// ST 2022-1's upper bits of a 24-bit first number; 0 over RTP.
    pub base_extension: u8,
}

impl Header {
    /// Reads the payload of an RTP packet of an FEC stream.
    ///
    /// # Errors
    /// [`Error`] where it protects nothing that it could stand for.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (header, rest) = payload.split_first_chunk::<RFC_2733_HEADER>().ok_or(Error::Truncated)?;
        let [b0, b1, l0, l1, extended, m0, m1, m2, t0, t1, t2, t3] = *header;
        let base = u16::from_be_bytes([b0, b1]);
        let mask = u32::from_be_bytes([0, m0, m1, m2]);
        let read = Header {
            protected: Protected {
                base,
                offset: 1,
                count: 24,
                mask,
            },
            dimension: Dimension::Row,
            length_recovery: u16::from_be_bytes([l0, l1]),
            payload_type_recovery: extended & 0x7f,
            timestamp_recovery: u32::from_be_bytes([t0, t1, t2, t3]),
            index: 0,
            base_extension: 0,
        };
        if extended & 0x80 == 0 {
            let packets = mask.count_ones() as u8;
            return match packets {
                0 => Err(Error::Dimensions { packets, offset: 1 }),
                _ => Ok(read),
            };
        }
        let [flags, offset, count, base_extension] = *rest.first_chunk::<EXTENSION>().ok_or(Error::Truncated)?;
        let kind = flags >> 3 & 0x07;
        if kind != 0 || mask != 0 {
            return Err(Error::Type(kind));
        }
        let protected = Protected {
            base,
            offset,
            count,
            mask: 0,
        };
        if offset == 0 || !(1..=MAX_PACKETS).contains(&count) || protected.span() > MAX_SPAN {
            return Err(Error::Dimensions { packets: count, offset });
        }
        Ok(Header {
            protected,
            dimension: if flags & 0x40 != 0 {
                Dimension::Row
            } else {
                Dimension::Column
            },
            index: flags & 0x07,
            base_extension,
            ..read
        })
    }

    /// Whether chance would hardly make such a header: ST 2022-1's own layout with nothing beyond RTP in it, in a matrix of
    /// ordinary size, for where no rule says that a flow carries FEC.
    pub fn is_typical(&self) -> bool {
        let Protected {
            offset, count, mask, ..
        } = self.protected;
        let shape = match self.dimension {
            Dimension::Column => offset <= MAX_PACKETS && count >= 4,
            Dimension::Row => offset == 1 && count >= 4,
        };
        mask == 0 && shape && self.index == 0 && self.base_extension == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(base: u16, row: bool, offset: u8, count: u8) -> Vec<u8> {
        let mut bytes = base.to_be_bytes().to_vec();
        bytes.extend([
            0x05,
            0x24,
            0x80 | 33,
            0,
            0,
            0,
            1,
            2,
            3,
            4,
            if row { 0x40 } else { 0 },
            offset,
            count,
            0,
        ]);
        bytes
    }

    #[test]
    fn a_column_and_a_row_are_read() {
        let bytes = header(65_530, false, 5, 4);
        let column = Header::parse(&bytes).unwrap();
        assert_eq!(column.dimension, Dimension::Column);
        assert_eq!(column.protected.numbers().collect::<Vec<_>>(), [65_530, 65_535, 4, 9]);
        assert_eq!(
            (
                column.length_recovery,
                column.payload_type_recovery,
                column.timestamp_recovery
            ),
            (1316, 33, 0x0102_0304)
        );
        assert!(column.is_typical());
        let row = Header::parse(&header(10, true, 1, 5)).unwrap();
        assert_eq!(row.dimension, Dimension::Row);
        assert_eq!(row.protected.numbers().collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_mask_names_its_packets() {
        let bytes = [0, 100, 0, 0, 33, 0x80, 0x00, 0x05, 0, 0, 0, 0];
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.protected.numbers().collect::<Vec<_>>(), [100, 102, 123]);
        assert!(!header.is_typical());
        let nothing = [0; 12];
        assert_eq!(
            Header::parse(&nothing),
            Err(Error::Dimensions { packets: 0, offset: 1 })
        );
    }

    #[test]
    fn what_cannot_be_protected_is_named() {
        assert_eq!(Header::parse(&header(0, false, 5, 4)[..15]), Err(Error::Truncated));
        assert_eq!(Header::parse(&[]), Err(Error::Truncated));
        for (offset, packets) in [(0, 4), (5, 0), (1, 51), (1, 255), (50, 50), (255, 255)] {
            let refused = Header::parse(&header(0, false, offset, packets));
            assert_eq!(refused, Err(Error::Dimensions { packets, offset }));
        }
        let mut other = header(0, false, 5, 4);
        other[12] = 0x08;
        assert_eq!(Header::parse(&other), Err(Error::Type(1)), "Hamming");
    }

    proptest! {
        #[test]
        fn round_trip(base in any::<u16>(), row in any::<bool>(), offset in 1u8..20, count in 1u8..21) {
            let read = Header::parse(&header(base, row, offset, count)).unwrap();
            let numbers: Vec<u16> = (0..u16::from(count)).map(|n| base.wrapping_add(n * u16::from(offset))).collect();
            prop_assert_eq!(read.protected.numbers().collect::<Vec<_>>(), numbers);
            prop_assert_eq!(read.dimension == Dimension::Row, row);
        }

        #[test]
        fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(read) = Header::parse(&bytes) {
                let numbers = read.protected.numbers().count();
                prop_assert!((1..=usize::from(MAX_PACKETS)).contains(&numbers));
                prop_assert!(read.protected.span() <= MAX_SPAN);
            }
        }
    }
}
