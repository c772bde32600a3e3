//! PES packet headers (ISO/IEC 13818-1 2.4.3.6): whose packet it is and its time stamps.

use thiserror::Error;

use super::PACKET_SIZE;

/// Time stamps count 90 kHz modulo 2^33 (2.4.3.7).
pub const TIMESTAMP_MODULUS: u64 = 1 << 33;

/// What the beginning of a PES packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PesHeader {
    /// stream_id (Table 2-22).
    pub stream_id: u8,
    /// PES_packet_length; 0 for a video packet of any length.
    pub length: u16,
    /// Presentation time stamp, 90 kHz.
    pub pts: Option<u64>,
    /// Decoding time stamp, 90 kHz, where it differs from the PTS.
    pub dts: Option<u64>,
    /// PES_scrambling_control; 0 is clear.
    pub scrambling: u8,
}

/// Why a packet does not begin with a sound PES header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum PesError {
    /// No payload_unit_start_indicator or no payload: no PES packet begins here.
    #[error("no PES packet begins here")]
    NoStart,
    /// packet_start_code_prefix is not 0x000001.
    #[error("packet_start_code_prefix is missing")]
    StartCode,
    /// The header does not end within the packet, or its fields do not end within the header.
    #[error("the header is cut short")]
    CutShort,
    /// The marker bits of the header or of a time stamp are wrong, or PTS_DTS_flags is 01.
    #[error("marker bits are wrong")]
    Marker,
}

/// stream_ids whose packets have no such header (2.4.3.7): program_stream_map, padding_stream, private_stream_2, ECM, EMM,
/// DSMCC_stream, ITU-T H.222.1 type E and program_stream_directory.
const WITHOUT_HEADER: [u8; 8] = [0xbc, 0xbe, 0xbf, 0xf0, 0xf1, 0xf2, 0xf8, 0xff];

/// Reads the PES header at the beginning of a packet's payload. The fields up to the DTS are at most 19 bytes, so a sender
/// that splits them over two packets is refused as [`PesError::CutShort`].
///
/// # Errors
/// [`PesError`].
pub fn header(packet: &[u8; PACKET_SIZE]) -> Result<PesHeader, PesError> {
    if packet[1] & 0x40 == 0 {
        return Err(PesError::NoStart);
    }
    read(super::payload(packet).ok_or(PesError::NoStart)?)
}

/// Reads the PES header at the beginning of `bytes`.
///
/// # Errors
/// [`PesError`].
pub fn read(bytes: &[u8]) -> Result<PesHeader, PesError> {
    let (&[p0, p1, p2, stream_id, l0, l1], rest) = bytes.split_first_chunk().ok_or(PesError::CutShort)?;
    if [p0, p1, p2] != [0, 0, 1] {
        return Err(PesError::StartCode);
    }
    let mut header = PesHeader {
        stream_id,
        length: u16::from_be_bytes([l0, l1]),
        pts: None,
        dts: None,
        scrambling: 0,
    };
    if WITHOUT_HEADER.contains(&stream_id) {
        return Ok(header);
    }
    let (&[first, flags, length], rest) = rest.split_first_chunk().ok_or(PesError::CutShort)?;
    if first & 0xc0 != 0x80 {
        return Err(PesError::Marker);
    }
    header.scrambling = first >> 4 & 3;
    // The header may be longer than this packet; what is read of it may not.
    let fields = rest.get(..usize::from(length).min(rest.len())).unwrap_or(rest);
    match flags >> 6 {
        0 => {}
        2 => header.pts = Some(time_stamp(fields, 0x20)?),
        3 => {
            header.pts = Some(time_stamp(fields, 0x30)?);
            header.dts = Some(time_stamp(fields.get(5..).unwrap_or_default(), 0x10)?);
        }
        _ => return Err(PesError::Marker),
    }
    Ok(header)
}

/// Five bytes: four bits that say which it is, then 3, 15 and 15 bits, each closed by a marker.
fn time_stamp(bytes: &[u8], prefix: u8) -> Result<u64, PesError> {
    let [b0, b1, b2, b3, b4] = *bytes.first_chunk().ok_or(PesError::CutShort)?;
    if b0 & 0xf1 != prefix | 1 || b2 & b4 & 1 == 0 {
        return Err(PesError::Marker);
    }
    let (high, middle, low) = (
        b0 >> 1 & 7,
        u16::from_be_bytes([b1, b2]) >> 1,
        u16::from_be_bytes([b3, b4]) >> 1,
    );
    Ok(u64::from(high) << 30 | u64::from(middle) << 15 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use mpeg2ts_reader::pes::{PesContents, PesHeader as Oracle, PtsDts};
    use proptest::prelude::*;

    use super::*;

    fn stamp(prefix: u8, value: u64) -> [u8; 5] {
        let (high, middle, low) = (
            (value >> 30) as u8 & 7,
            (value >> 15) as u16 & 0x7fff,
            value as u16 & 0x7fff,
        );
        let ([m0, m1], [l0, l1]) = ((middle << 1 | 1).to_be_bytes(), (low << 1 | 1).to_be_bytes());
        [prefix | high << 1 | 1, m0, m1, l0, l1]
    }

    fn pes(pts: u64, dts: Option<u64>) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0xe0, 0, 0, 0x80];
        match dts {
            Some(dts) => {
                bytes.extend([0xc0, 10]);
                bytes.extend(stamp(0x30, pts));
                bytes.extend(stamp(0x10, dts));
            }
            None => {
                bytes.extend([0x80, 5]);
                bytes.extend(stamp(0x20, pts));
            }
        }
        bytes.extend([0xaa; 20]);
        bytes
    }

    /// What `mpeg2ts-reader` reads.
    fn oracle(bytes: &[u8]) -> (Option<u64>, Option<u64>) {
        let header = Oracle::from_bytes(bytes).unwrap();
        let PesContents::Parsed(Some(parsed)) = header.contents() else {
            return (None, None);
        };
        match parsed.pts_dts() {
            Ok(PtsDts::PtsOnly(Ok(pts))) => (Some(pts.value()), None),
            Ok(PtsDts::Both {
                pts: Ok(pts),
                dts: Ok(dts),
            }) => (Some(pts.value()), Some(dts.value())),
            _ => (None, None),
        }
    }

    #[test]
    fn a_packet_is_read_behind_its_adaptation_field() {
        let mut packet = [0xff; PACKET_SIZE];
        packet[..6].copy_from_slice(&[0x47, 0x41, 0x00, 0x30, 7, 0]);
        let bytes = pes(900_000, Some(896_400));
        packet[12..12 + bytes.len()].copy_from_slice(&bytes);
        let read = header(&packet).unwrap();
        assert_eq!(
            (read.stream_id, read.pts, read.dts),
            (0xe0, Some(900_000), Some(896_400))
        );
        packet[1] = 0x01;
        assert_eq!(header(&packet), Err(PesError::NoStart));
    }

    #[test]
    fn padding_has_no_header() {
        let read = read(&[0, 0, 1, 0xbe, 0, 100, 0xff, 0xff]).unwrap();
        assert_eq!((read.stream_id, read.length, read.pts), (0xbe, 100, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = pes(1, None);
        assert_eq!(read(&good[..13]), Err(PesError::CutShort));
        assert_eq!(read(&[0, 0, 1, 0xe0]), Err(PesError::CutShort));
        let broken = |place: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[place] = value;
            read(&bytes)
        };
        assert_eq!(broken(2, 2), Err(PesError::StartCode));
        assert_eq!(broken(6, 0x40), Err(PesError::Marker));
        assert_eq!(broken(7, 0x40), Err(PesError::Marker));
        assert_eq!(
            broken(8, 4),
            Err(PesError::CutShort),
            "PES_header_data_length is too short for the PTS"
        );
        assert_eq!(broken(9, 0x31), Err(PesError::Marker), "the prefix of a PTS with a DTS");
    }

    proptest! {
        #[test]
        fn time_stamps_are_what_the_oracle_reads(
            pts in 0..TIMESTAMP_MODULUS, dts in proptest::option::of(0..TIMESTAMP_MODULUS)
        ) {
            let bytes = pes(pts, dts);
            let read = read(&bytes).unwrap();
            prop_assert_eq!((read.pts, read.dts), (Some(pts), dts));
            prop_assert_eq!(oracle(&bytes), (Some(pts), dts));
        }

        #[test]
        fn arbitrary_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let with_code = [&[0, 0, 1][..], &bytes].concat();
            for bytes in [bytes, with_code] {
                if let Ok(header) = read(&bytes) {
                    prop_assert!(header.pts.into_iter().chain(header.dts).all(|stamp| stamp < TIMESTAMP_MODULUS));
                }
            }
        }
    }
}
